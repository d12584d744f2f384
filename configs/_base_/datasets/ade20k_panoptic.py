# ADE20K in mmdet's layout (tools/dataset_converters/ade20k.py makes the panoptic files); crops of 640x640.
_base_ = "./panoptic_loaders.py"

dataset_type = "ADE20KPanopticDataset"
data_root = "data/ADEChallengeData2016"
train_ann_file = "ade20k_panoptic_train.json"
train_img = "images/training/"
train_seg = "ade20k_panoptic_train/"
val_ann_file = "ade20k_panoptic_val.json"
val_img = "images/validation/"
val_seg = "ade20k_panoptic_val/"
batch_size = 4
num_workers = 8
max_size_train = 2560  # limit of the long edge

train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadPanopticAnnotations"),
    dict(
        type="ResizeCrop",
        resize=dict(
            type="ResizeShortestEdge",
            short_edge=[320, 384, 448, 512, 576, 640, 704, 768, 832, 896, 960, 1024, 1152, 1280],
            max_size="$max_size_train",
        ),
        crop=dict(type="RandomCrop", crop_size=(640, 640)),
    ),
    dict(type="PanopticRandomFlip", prob=0.5),
    dict(type="PackPanopticInputs", with_instances="$with_instances"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeShortestEdge", short_edge=640, max_size=2560),
    dict(type="PackPanopticInputs"),
]
