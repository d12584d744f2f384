# Cityscapes in the official layout; crops of 512x1024, short edge 512..2048.
_base_ = "./panoptic_loaders.py"

dataset_type = "CityscapesPanopticDataset"
data_root = "data/cityscapes"
train_ann_file = "gtFine/cityscapes_panoptic_train.json"
train_img = "leftImg8bit/train/"
train_seg = "gtFine/cityscapes_panoptic_train/"
val_ann_file = "gtFine/cityscapes_panoptic_val.json"
val_img = "leftImg8bit/val/"
val_seg = "gtFine/cityscapes_panoptic_val/"
val_gt = None  # folder of the cities' label maps where no gtFine lies beside the images
image_name = None  # "{id}.png" for images in the layout of the EfficientPS authors
batch_size = 4
num_workers = 8
train_short_edge = [
    512, 640, 704, 832, 896, 1024, 1152, 1216,
    1344, 1408, 1536, 1664, 1728, 1856, 1920, 2048,
]  # fmt: skip
# Below 1.0 no class may fill more than that share of a crop; all published models have 1.0.
category_max_ratio = 1.0

train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadPanopticAnnotations"),
    dict(
        type="ResizeCrop",
        resize=dict(type="ResizeShortestEdge", short_edge="$train_short_edge", max_size=4096),
        crop=dict(
            type="RandomCrop", crop_size=(512, 1024), category_max_ratio="$category_max_ratio"
        ),
    ),
    dict(type="PanopticRandomFlip", prob=0.5),
    dict(type="PackPanopticInputs", with_instances="$with_instances"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeShortestEdge", short_edge=1024, max_size=2048),
    dict(type="PackPanopticInputs"),
]
train_dataloader = dict(dataset=dict(image_name="$image_name"))
val_dataloader = dict(dataset=dict(image_name="$image_name"))
test_dataloader = val_dataloader

# tools/test.py --tta: 0.5 to 2 times the size, each with its mirror image
tta_pipeline = [
    dict(type="LoadImage"),
    dict(
        type="TestTimeAug",
        transforms=[
            [
                dict(type="ResizeShortestEdge", short_edge=edge, max_size=2 * edge)
                for edge in (512, 768, 1024, 1280, 1536, 1792, 2048)
            ],
            [dict(type="PanopticRandomFlip", prob=prob) for prob in (0.0, 1.0)],
            [dict(type="PackPanopticInputs")],
        ],
    ),
]

# PQ, IoU and AP from one pass; the last two need gtFine's *_labelIds.png and *_instanceIds.png.
test_evaluator = [
    dict(type="PanopticQualityMetric"),
    dict(type="CityscapesPixelMetric", data_root="$data_root", gt_root="$val_gt"),
    dict(
        type="CityscapesInstanceMetric",
        source="pred_panoptic_seg",
        data_root="$data_root",
        gt_root="$val_gt",
    ),
]
