# Image classification: train and val hold one folder of images per class. As published for the
# pretraining of Auto-Panoptic's backbones: BGR 0..255, no mean subtracted.
dataset_type = "ImageNetDataset"
data_root = "data/imagenet"
metainfo = dict()  # classes=(...) where the folders are others
image_size = 224
resize_size = 256
batch_size = 128
eval_batch_size = "$batch_size"
num_workers = 8

train_pipeline = [
    dict(type="LoadImage"),
    dict(type="RandomAreaCrop", size="$image_size"),
    dict(type="ColorFactors", strength=0.4),
    dict(type="PanopticRandomFlip", prob=0.5),
    dict(type="PackClassInputs"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeShortestEdge", short_edge="$resize_size", backend="cv2"),
    dict(type="CenterCrop", crop_size="$image_size"),
    dict(type="PackClassInputs"),
]
train_dataloader = dict(
    batch_size="$batch_size",
    num_workers="$num_workers",
    persistent_workers=True,
    sampler=dict(type="InfiniteSeededSampler", shuffle=True),
    dataset=dict(
        type="$dataset_type",
        data_root="$data_root",
        folder="train",
        metainfo="$metainfo",
        pipeline="$train_pipeline",
    ),
)
val_dataloader = dict(
    batch_size="$eval_batch_size",
    num_workers="$num_workers",
    persistent_workers=True,
    sampler=dict(type="SeededSampler", shuffle=False, round_up=False),
    dataset=dict(
        type="$dataset_type",
        data_root="$data_root",
        folder="val",
        metainfo="$metainfo",
        pipeline="$test_pipeline",
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="ClassAccuracyMetric", topk=(1, 5))
test_evaluator = val_evaluator
