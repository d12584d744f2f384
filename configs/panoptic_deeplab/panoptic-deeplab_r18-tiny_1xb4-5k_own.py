"""Panoptic-DeepLab with a thin ResNet-18 on your own data: a first run within minutes.

Paper: Panoptic-DeepLab, CVPR 2020, https://arxiv.org/abs/1911.10194
Reproduces: nothing published; classes are read from your annotation file
Published: -
Measured: see docs/train_on_your_own_data.md
Hardware: 2 CPU cores, or any GPU
Command: python tools/train.py configs/panoptic_deeplab/panoptic-deeplab_r18-tiny_1xb4-5k_own.py --cfg-options data_root=data/own
"""

_base_ = [
    "../_base_/datasets/own_panoptic.py",
    "../_base_/schedules/adam_poly.py",
    "../_base_/validated_runtime.py",
    "./panoptic-deeplab_r18-tiny.py",
]

max_iters = 5000
checkpoint_interval = 1000
val_interval = "$max_iters*1/5"
warmup_iters = 50
base_lr = 2e-3
auto_scale_lr = dict(base_batch_size=4)

model = dict(
    semantic_head=dict(small_instance_area="$size_small_area", small_instance_weight=3.0),
    instance_head=dict(sigma="$size_sigma"),
    fusion_head=dict(
        stuff_area="$size_stuff_area", nms_kernel="$size_nms_kernel", top_k="$size_top_k"
    ),
)
