# Your own data in COCO-panoptic format. Classes, their ids and thing/stuff are read from the JSON, and
# so are the sizes of images and objects: "$size_..." stands for what check.py suggests from them.
_base_ = "./panoptic_loaders.py"

dataset_type = "PanopticDataset"
data_root = "data/own"
train_ann_file = "annotations/panoptic_train.json"
train_seg = "annotations/panoptic_train/"
train_img = "train/"
val_ann_file = "annotations/panoptic_val.json"
val_seg = "annotations/panoptic_val/"
val_img = "val/"
batch_size = 4
num_workers = 2
crop_size = "$size_crop_size"  # height, width
short_edge = "$size_short_edge"  # length of an image's short edge at factor 1, and in testing
max_size = "$size_max_size"  # limit of the long edge
flip_prob = 0.5

train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadPanopticAnnotations"),
    dict(
        type="ResizeCrop",
        resize=dict(type="ResizeShortestEdge", short_edge="$short_edge", max_size="$max_size"),
        crop=dict(type="RandomCrop", crop_size="$crop_size"),
    ),
    dict(type="PanopticRandomFlip", prob="$flip_prob"),
    dict(type="PackPanopticInputs", with_instances="$with_instances"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeShortestEdge", short_edge="$short_edge", max_size="$max_size"),
    dict(type="PackPanopticInputs"),
]
