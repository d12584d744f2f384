# KITTI panoptic, the EfficientPS authors' annotation with Cityscapes' classes, which are read from the JSON;
# tools/dataset_converters/kitti.py makes the panoptic files.
_base_ = "./panoptic_loaders.py"

dataset_type = "PanopticDataset"
data_root = "data/kitti_panoptic"
train_ann_file = "annotations/panoptic_train.json"
train_img = "training/images/"
train_seg = "annotations/panoptic_train/"
val_ann_file = "annotations/panoptic_val.json"
val_img = "validation/images/"
val_seg = "annotations/panoptic_val/"
batch_size = 4
num_workers = 8

train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadPanopticAnnotations"),
    dict(
        type="ResizeCrop",
        resize=dict(type="ResizeScaleJitter", target_size=(384, 1280), ratio_range=(0.5, 2.0)),
        crop=dict(type="RandomCrop", crop_size=(384, 1280)),
    ),
    dict(type="PanopticRandomFlip", prob=0.5),
    dict(type="PackPanopticInputs", with_instances="$with_instances"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeShortestEdge", short_edge=384, max_size=1280),
    dict(type="PackPanopticInputs"),
]
