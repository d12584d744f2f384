"""COPS, ResNet-52, COCO, first stage: the heads learn from their own losses, 50k iterations at batch 48.

Paper: Combinatorial Optimization for Panoptic Segmentation, NeurIPS 2021, https://arxiv.org/abs/2106.03188
Reproduces: COPS's COCO-PanopticSegmentation/panoptic_affinity_pretrain
Published: - (the start of cops_r52_e2e_1xb24-20k_coco-640x640.py)
Measured: not yet
Hardware: 4 GPUs
Command: tools/dist_train.sh configs/cops/cops_r52_pretrain_4xb12-50k_coco-640x640.py 4
"""

_base_ = [
    "../_base_/datasets/coco_panoptic.py",
    "../_base_/schedules/adam_poly.py",
    "../_base_/default_runtime.py",
    "./cops.py",
]

load_from = "mmpanoptic://imagenet/resnet52-deeplab"  # None: random weights

batch_size = 12
max_iters = 50000
base_lr = 1e-4
checkpoint_interval = 5000
auto_scale_lr = dict(base_batch_size=48)
eval_batch_size = 24

distances = (1, 4, 16, 32)
model = dict(
    data_preprocessor=dict(pad_size_divisor=640),
    semantic_head=dict(loss=dict(top_k=1.0)),
    instance_head=dict(distances=distances),
    fusion_head=dict(distances=distances, stuff_area=4096),
)
