# IDD, the Indian Driving Dataset: 17 stuff classes and 9 things of level 3, which are read from the JSON;
# tools/dataset_converters/idd.py makes the panoptic files.
_base_ = "./panoptic_loaders.py"

dataset_type = "PanopticDataset"
data_root = "data/idd"
train_ann_file = "gtFine/train_panoptic.json"
train_img = "leftImg8bit/train/"
train_seg = "gtFine/train_panoptic/"
val_ann_file = "gtFine/val_panoptic.json"
val_img = "leftImg8bit/val/"
val_seg = "gtFine/val_panoptic/"
batch_size = 4
num_workers = 8

train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadPanopticAnnotations"),
    dict(
        type="ResizeCrop",
        resize=dict(type="ResizeScaleJitter", target_size=(720, 1280), ratio_range=(0.5, 2.0)),
        crop=dict(type="RandomCrop", crop_size=(720, 1280)),
    ),
    dict(type="PanopticRandomFlip", prob=0.5),
    dict(type="PackPanopticInputs", with_instances="$with_instances"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeShortestEdge", short_edge=720, max_size=1280),
    dict(type="PackPanopticInputs"),
]
