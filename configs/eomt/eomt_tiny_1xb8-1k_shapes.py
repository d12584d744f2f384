"""EoMT with a tiny vision transformer from random weights on the generated dataset.

Paper: Your ViT is Secretly an Image Segmentation Model, CVPR 2025, https://arxiv.org/abs/2503.19108
Reproduces: nothing published; shows that the whole chain learns
Published: -
Measured: see configs/eomt/README.md
Hardware: 2 CPU cores
Command: python tools/train.py configs/eomt/eomt_tiny_1xb8-1k_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_panoptic.py",
    "../_base_/schedules/adamw_poly.py",
    "../_base_/validated_runtime.py",
    "./eomt.py",
]

max_iters = 1000
val_interval = "$max_iters*1/4"
checkpoint_interval = 100
warmup_iters = 40
base_lr = 1.5e-3
max_norm = 1.0
image_size = 192
num_queries = 24
auto_scale_lr = dict(base_batch_size=8)
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadPanopticAnnotations"),
    dict(type="ResizeScaleJitter", target_size=(192, 192), ratio_range=(0.75, 1.6), backend="cv2"),
    dict(type="RandomCrop", crop_size=(192, 192)),
    dict(type="PanopticRandomFlip", prob=0.5),
    dict(type="PackPanopticInputs"),
]
model = dict(
    network=dict(
        hidden_size=128,
        patch_size=12,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_blocks=3,  # queries see the patches after the first layer, so classes train it directly
        num_register_tokens=1,
        num_upscale_blocks=1,
        train_num_points=768,
        class_weight=6.0,  # masks are found by colour, textures are learnt from the classes alone
    ),
    # The library's positions are as large as all that a patch of random weights says of its pixels.
    init_cfg=[
        dict(type="Normal", layer="Embedding", std=0.3),
        dict(type="Normal", layer="Conv2d", std=0.08),
    ],
)
custom_hooks = [
    dict(type="NonFiniteLossHook"),
    dict(type="StopSignalHook"),
    dict(type="DataErrorSummaryHook"),
    dict(type="MaskAnnealingHook", start=(0.3, 0.3, 0.3), end=(0.8, 0.8, 0.8)),
]
