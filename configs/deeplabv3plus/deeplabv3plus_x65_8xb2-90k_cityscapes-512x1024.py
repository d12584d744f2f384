"""DeepLabV3+, Xception-65 at output stride 16, Cityscapes, 90k iterations at batch 16.

Paper: DeepLabV3+, ECCV 2018, https://arxiv.org/abs/1802.02611
Reproduces: bowenc0221's deeplab_v3_plus_X_65_os16_mg124_poly_90k_bs16
Published: mIoU 80.1 (Cityscapes val, single scale)
Measured: not yet
Hardware: 8 GPUs
Command: tools/dist_train.sh configs/deeplabv3plus/deeplabv3plus_x65_8xb2-90k_cityscapes-512x1024.py 8
"""

_base_ = [
    "../_base_/datasets/cityscapes_panoptic.py",
    "../_base_/schedules/sgd_poly.py",
    "../_base_/default_runtime.py",
    "./deeplabv3plus.py",
]

load_from = "mmpanoptic://imagenet/xception65"  # None: random weights
batch_size = 2

# Classes come from the panoptic annotation: its 19 classes cover the pixels of *_labelTrainIds.png.
train_short_edge = [512, 768, 1024, 1280, 1536, 1792, 2048]
val_evaluator = dict(type="SemanticIoUMetric")
# needs gtFine's *_labelIds.png
test_evaluator = [dict(type="CityscapesPixelMetric", data_root="$data_root", gt_root="$val_gt")]
