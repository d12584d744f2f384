"""EoMT-L on ADE20K.

Paper: Your ViT is Secretly an Image Segmentation Model, CVPR 2025, https://arxiv.org/abs/2503.19108
Reproduces: the published model; a training starts from the published weights
Published: PQ 50.6
Measured: not trained here
Hardware: none yet
Command: tools/dist_train.sh configs/eomt/eomt-l_4xb4-39k_ade20k-640.py 4
"""

_base_ = [
    "../_base_/datasets/ade20k_panoptic.py",
    "../_base_/schedules/adamw_poly.py",
    "../_base_/default_runtime.py",
    "./eomt.py",
]

max_iters = 39000
warmup_iters = 1500
base_lr = 1e-4
batch_size = 4
image_size = 640
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadPanopticAnnotations"),
    dict(
        type="ResizeScaleJitter", target_size=("$image_size", "$image_size"), ratio_range=(0.1, 2.0)
    ),
    dict(type="RandomCrop", crop_size=("$image_size", "$image_size")),
    dict(type="PanopticRandomFlip", prob=0.5),
    dict(type="PackPanopticInputs"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeShortestEdge", short_edge="$image_size", max_size="$image_size"),
    dict(type="PackPanopticInputs"),
]
model = dict(
    network=dict(
        model_type="eomt",
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        num_blocks=4,
    ),
    pretrained="tue-mps/ade20k_panoptic_eomt_large_640",
)
# Blocks learn the more slowly the farther they are from the end.
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            "network.embeddings": dict(lr_mult=0.8**23),
            **{f"network.layers.{i}.": dict(lr_mult=0.8 ** (23 - i)) for i in range(24)},
        }
    )
)
custom_hooks = [
    dict(type="NonFiniteLossHook"),
    dict(type="StopSignalHook"),
    dict(type="DataErrorSummaryHook"),
    dict(type="MaskAnnealingHook"),
]
