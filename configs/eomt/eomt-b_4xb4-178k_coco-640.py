"""EoMT-B on COCO.

Paper: Your ViT is Secretly an Image Segmentation Model, CVPR 2025, https://arxiv.org/abs/2503.19108
Reproduces: the published model; a training starts from the published weights
Published: PQ 51.6
Measured: not trained here
Hardware: none yet
Command: tools/dist_train.sh configs/eomt/eomt-b_4xb4-178k_coco-640.py 4
"""

_base_ = [
    "../_base_/datasets/coco_panoptic_square.py",
    "../_base_/schedules/adamw_poly.py",
    "../_base_/default_runtime.py",
    "./eomt.py",
]

max_iters = 178000
warmup_iters = 1500
base_lr = 1e-4
batch_size = 4
image_size = 640
model = dict(
    network=dict(
        model_type="eomt",
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_blocks=3,
    ),
    pretrained="tue-mps/coco_panoptic_eomt_base_640_2x",
)
# Blocks learn the more slowly the farther they are from the end.
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            "network.embeddings": dict(lr_mult=0.8**11),
            **{f"network.layers.{i}.": dict(lr_mult=0.8 ** (11 - i)) for i in range(12)},
        }
    )
)
custom_hooks = [
    dict(type="NonFiniteLossHook"),
    dict(type="StopSignalHook"),
    dict(type="DataErrorSummaryHook"),
    dict(type="MaskAnnealingHook", start=(0.1667, 0.4167, 0.6667), end=(0.3333, 0.5833, 0.8333)),
]
