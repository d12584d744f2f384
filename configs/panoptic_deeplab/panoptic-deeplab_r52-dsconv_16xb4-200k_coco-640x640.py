"""Panoptic-DeepLab, ResNet-52, depthwise-separable convolutions, COCO, 200k iterations at batch 64.

Paper: Panoptic-DeepLab, CVPR 2020, https://arxiv.org/abs/1911.10194
Reproduces: detectron2's panoptic_deeplab_R_52_os16_mg124_poly_200k_bs64_crop_640_640_coco_dsconv
Published: PQ 35.5, SQ 77.3, RQ 44.7, box AP 18.6, mask AP 19.7 (val2017, single scale)
Measured: not yet
Hardware: 16 GPUs of 16 GB
Command: tools/dist_train.sh configs/panoptic_deeplab/panoptic-deeplab_r52-dsconv_16xb4-200k_coco-640x640.py 16
"""

_base_ = [
    "../_base_/datasets/coco_panoptic.py",
    "../_base_/schedules/adam_poly.py",
    "../_base_/default_runtime.py",
    "./panoptic-deeplab.py",
]

load_from = "mmpanoptic://imagenet/resnet52-deeplab"  # None: random weights

max_iters = 200000
base_lr = 5e-4
auto_scale_lr = dict(base_batch_size=64)
heads = dict(separable=True, pool_crop_size=(640, 640))

model = dict(
    data_preprocessor=dict(pad_size_divisor=640),
    semantic_head=dict(loss=dict(top_k=1.0), **heads),
    instance_head=dict(sigma=8.0, **heads),
    fusion_head=dict(stuff_area=4096, nms_kernel=41),
)
