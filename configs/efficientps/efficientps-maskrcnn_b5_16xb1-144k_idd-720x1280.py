"""EfficientPS with Mask R-CNN, EfficientNet-B5, Indian Driving Dataset, 144k iterations at batch 16.

Paper: EfficientPS, IJCV 2021, https://arxiv.org/abs/2004.02307
Reproduces: the schedule of the paper (recalled, to be checked there)
Published: PQ 50.1 single scale, 51.1 multi-scale (recalled; IDD val)
Measured: not yet
Hardware: 16 GPUs, one image each
Command: tools/dist_train.sh configs/efficientps/efficientps-maskrcnn_b5_16xb1-144k_idd-720x1280.py 16
"""

_base_ = [
    "../_base_/datasets/idd_panoptic.py",
    "../_base_/schedules/sgd_multistep.py",
    "../_base_/default_runtime.py",
    "./efficientps-maskrcnn.py",
]

load_from = "mmpanoptic://imagenet/efficientnet-b5"  # None: random weights
max_iters = 144000
milestones = ["$max_iters*108/144", "$max_iters*130/144"]
warmup_iters = 200
base_lr = 0.08
batch_size = 1
with_instances = True
model = dict(fusion_head=dict(stuff_area=900))  # the share of 2048 in 1024 x 2048 pixels
