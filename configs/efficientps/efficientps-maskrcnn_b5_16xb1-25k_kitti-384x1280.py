"""EfficientPS with Mask R-CNN, EfficientNet-B5, KITTI panoptic, 25k iterations at batch 16.

Paper: EfficientPS, IJCV 2021, https://arxiv.org/abs/2004.02307
Reproduces: the schedule of the paper (recalled, to be checked there)
Published: PQ 42.9 single scale, 43.7 multi-scale (recalled)
    PQ 42.5 (authors' code and released weights, single scale; those need the options of the
    -released_ config of Cityscapes)
Measured: not yet
Hardware: 16 GPUs, one image each
Command: tools/dist_train.sh configs/efficientps/efficientps-maskrcnn_b5_16xb1-25k_kitti-384x1280.py 16
"""

_base_ = [
    "../_base_/datasets/kitti_panoptic.py",
    "../_base_/schedules/sgd_multistep.py",
    "../_base_/default_runtime.py",
    "./efficientps-maskrcnn.py",
]

load_from = "mmpanoptic://imagenet/efficientnet-b5"  # None: random weights
max_iters = 25000
milestones = ["$max_iters*16/25", "$max_iters*22/25"]
warmup_iters = 200
base_lr = 0.07
batch_size = 1
with_instances = True
model = dict(fusion_head=dict(stuff_area=480))  # the share of 2048 in 1024 x 2048 pixels
