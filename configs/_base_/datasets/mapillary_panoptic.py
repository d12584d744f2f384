# Mapillary Vistas 1.2 as unpacked; tools/dataset_converters/mapillary.py prints the paths of other copies.
_base_ = "./panoptic_loaders.py"

dataset_type = "MapillaryPanopticDataset"
data_root = "data/mapillary_vistas"
train_ann_file = "training/panoptic/panoptic_2018.json"
train_img = "training/images/"
train_seg = "training/panoptic/"
val_ann_file = "validation/panoptic/panoptic_2018.json"
val_img = "validation/images/"
val_seg = "validation/panoptic/"
batch_size = 4
num_workers = 8
max_size_train = 4096  # limit of the long edge

train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadPanopticAnnotations"),
    dict(
        type="ResizeCrop",
        resize=dict(
            type="ResizeShortestEdge",
            short_edge=[512, 768, 1024, 1280, 1536, 1792, 2048],
            max_size="$max_size_train",
        ),
        crop=dict(type="RandomCrop", crop_size=(1024, 1024)),
    ),
    dict(type="PanopticRandomFlip", prob=0.5),
    dict(type="PackPanopticInputs", with_instances="$with_instances"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeShortestEdge", short_edge=1024, max_size=4096),
    dict(type="PackPanopticInputs"),
]
