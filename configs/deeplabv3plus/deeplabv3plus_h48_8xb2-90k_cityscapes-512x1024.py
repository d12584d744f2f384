"""DeepLabV3+, HRNet-W48 at output stride 4, Cityscapes, 90k iterations at batch 16.

Paper: DeepLabV3+, ECCV 2018, https://arxiv.org/abs/1802.02611
Reproduces: bowenc0221's deeplab_v3_plus_H_48_os4_poly_90k_bs16
Published: mIoU 80.9 (Cityscapes val, single scale)
Measured: not yet
Hardware: 8 GPUs
Command: tools/dist_train.sh configs/deeplabv3plus/deeplabv3plus_h48_8xb2-90k_cityscapes-512x1024.py 8
"""

_base_ = [
    "../_base_/datasets/cityscapes_panoptic.py",
    "../_base_/schedules/sgd_poly.py",
    "../_base_/default_runtime.py",
    "./deeplabv3plus.py",
]

load_from = "mmpanoptic://imagenet/hrnet-w48"  # None: random weights
batch_size = 2

model = dict(
    data_preprocessor=dict(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
    # -> (N, 48, H/4, W/4), (N, 96, H/8, W/8), (N, 192, H/16, W/16), (N, 384, H/32, W/32)
    backbone=dict(_delete_=True, type="HRNet", width=48, norm_cfg=dict(type="SyncBN")),
    semantic_head=dict(
        in_channels=(48, 96, 192, 384),
        in_strides=(4, 8, 16, 32),
        project_channels=(48, 96, 192),
        aspp_dilations=(3, 6, 9),
    ),
)

# Classes come from the panoptic annotation: its 19 classes cover the pixels of *_labelTrainIds.png.
train_short_edge = [512, 768, 1024, 1280, 1536, 1792, 2048]
val_evaluator = dict(type="SemanticIoUMetric")
# needs gtFine's *_labelIds.png
test_evaluator = [dict(type="CityscapesPixelMetric", data_root="$data_root", gt_root="$val_gt")]
