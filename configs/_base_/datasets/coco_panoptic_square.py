# COCO panoptic for networks of one square size: scale jitter 0.1 to 2 and crops, the recipe of mask transformers.
_base_ = "./panoptic_loaders.py"

dataset_type = "CocoPanopticDataset"
data_root = "data/coco"
train_ann_file = "annotations/panoptic_train2017.json"
train_img = "train2017/"
train_seg = "annotations/panoptic_train2017/"
val_ann_file = "annotations/panoptic_val2017.json"
val_img = "val2017/"
val_seg = "annotations/panoptic_val2017/"
batch_size = 4
num_workers = 8
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadPanopticAnnotations"),
    dict(
        type="ResizeScaleJitter",
        target_size=("$image_size", "$image_size"),
        ratio_range=(0.1, 2.0),
    ),
    dict(type="RandomCrop", crop_size=("$image_size", "$image_size")),
    dict(type="PanopticRandomFlip", prob=0.5),
    dict(type="PackPanopticInputs"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeShortestEdge", short_edge="$image_size", max_size="$image_size"),
    dict(type="PackPanopticInputs"),
]
