# COCO panoptic in mmdet's layout; crops of 640x640, short edge 320..960.
_base_ = "./panoptic_loaders.py"

dataset_type = "CocoPanopticDataset"
data_root = "data/coco"
train_ann_file = "annotations/panoptic_train2017.json"
train_img = "train2017/"
train_seg = "annotations/panoptic_train2017/"
val_ann_file = "annotations/panoptic_val2017.json"
val_img = "val2017/"
val_seg = "annotations/panoptic_val2017/"
val_instances = "annotations/instances_val2017.json"
batch_size = 4
num_workers = 8
train_short_edge = [320, 384, 448, 512, 576, 640, 704, 768, 832, 896, 960]
max_size_train = 960  # limit of the long edge; older published results used 640

train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadPanopticAnnotations"),
    dict(
        type="ResizeCrop",
        resize=dict(
            type="ResizeShortestEdge",
            short_edge="$train_short_edge",
            max_size="$max_size_train",
        ),
        crop=dict(type="RandomCrop", crop_size=(640, 640)),
    ),
    dict(type="PanopticRandomFlip", prob=0.5),
    dict(type="PackPanopticInputs", with_instances="$with_instances"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeShortestEdge", short_edge=640, max_size=640),
    dict(type="PackPanopticInputs"),
]
# tools/test.py --tta: 0.5 to 1.5 times the size, each with its mirror image
tta_pipeline = [
    dict(type="LoadImage"),
    dict(
        type="TestTimeAug",
        transforms=[
            [
                dict(type="ResizeShortestEdge", short_edge=edge, max_size=edge)
                for edge in (320, 480, 640, 800, 960)
            ],
            [dict(type="PanopticRandomFlip", prob=prob) for prob in (0.0, 1.0)],
            [dict(type="PackPanopticInputs")],
        ],
    ),
]

# PQ, mIoU, box and mask AP from one pass; AP needs the instance annotations.
test_evaluator = [
    dict(type="PanopticQualityMetric"),
    dict(type="SemanticIoUMetric"),
    dict(
        type="CocoInstanceMetric",
        data_root="$data_root",
        ann_file="$val_instances",
        source="pred_panoptic_seg",
    ),
]
