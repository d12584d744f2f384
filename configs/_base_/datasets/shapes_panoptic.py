# The generated dataset: python tools/dataset_converters/shapes.py data/shapes
_base_ = "./panoptic_loaders.py"

dataset_type = "ShapesDataset"
data_root = "data/shapes"
train_ann_file = "annotations/panoptic_train.json"
train_img = "train/"
train_seg = "annotations/panoptic_train/"
val_ann_file = "annotations/panoptic_val.json"
val_img = "val/"
val_seg = "annotations/panoptic_val/"
batch_size = 8
num_workers = 1

train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadPanopticAnnotations"),
    dict(type="ResizeScaleJitter", target_size=(128, 192), ratio_range=(0.75, 1.5), backend="cv2"),
    dict(type="RandomCrop", crop_size=(128, 192)),
    dict(type="PanopticRandomFlip", prob=0.5),
    dict(type="PackPanopticInputs", with_instances="$with_instances"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="PackPanopticInputs"),
]
