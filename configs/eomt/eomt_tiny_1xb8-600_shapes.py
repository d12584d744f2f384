"""EoMT with a tiny vision transformer from random weights on the generated dataset.

Paper: Your ViT is Secretly an Image Segmentation Model, CVPR 2025, https://arxiv.org/abs/2503.19108
Reproduces: nothing published; shows that the whole chain learns
Published: -
Measured: see configs/eomt/README.md
Hardware: 2 CPU cores
Command: python tools/train.py configs/eomt/eomt_tiny_1xb8-600_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_panoptic.py",
    "../_base_/schedules/adamw_poly.py",
    "../_base_/validated_runtime.py",
    "./eomt.py",
]

max_iters = 600
val_interval = "$max_iters*1/5"
checkpoint_interval = 100
warmup_iters = 40
base_lr = 1e-3
max_norm = 1.0
image_size = 192
num_queries = 32
auto_scale_lr = dict(base_batch_size=8)
model = dict(
    network=dict(
        hidden_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_blocks=3,
        num_register_tokens=1,
        train_num_points=1024,
    )
)
custom_hooks = [
    dict(type="NonFiniteLossHook"),
    dict(type="StopSignalHook"),
    dict(type="DataErrorSummaryHook"),
    dict(type="MaskAnnealingHook"),
]
