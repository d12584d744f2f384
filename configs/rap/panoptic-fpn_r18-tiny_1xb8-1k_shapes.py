"""Panoptic FPN with a thin ResNet-18 on the generated dataset.

Paper: Panoptic Feature Pyramid Networks, CVPR 2019, https://arxiv.org/abs/1901.02446
Reproduces: nothing published; shows within minutes that the whole chain learns
Published: -
Measured: PQ 78.4 (things 69.6, stuff 88.9) with 4000 training images
Hardware: 2 CPU cores
Command: python tools/train.py configs/rap/panoptic-fpn_r18-tiny_1xb8-1k_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_panoptic.py",
    "../_base_/schedules/adam_poly_short.py",
    "../_base_/validated_runtime.py",
    "./panoptic-fpn_r18-tiny.py",
]

max_iters = 1000
base_lr = 2e-3
# Amodal masks: things overlap, and which of two lies in front is left to the fusion.
with_instances = True
train_instances = "annotations/instances_train.json"
train_dataloader = dict(dataset=dict(instances_file="$train_instances"))
