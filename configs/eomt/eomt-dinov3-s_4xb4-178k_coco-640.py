"""EoMT-S with DINOv3 on COCO. The weights carry Meta's DINOv3 licence.

Paper: Your ViT is Secretly an Image Segmentation Model, CVPR 2025, https://arxiv.org/abs/2503.19108
Reproduces: the published model; the published weights are differences to DINOv3's, to be added to these first
Published: PQ 47.2
Measured: not trained here
Hardware: none yet
Command: tools/dist_train.sh configs/eomt/eomt-dinov3-s_4xb4-178k_coco-640.py 4
"""

_base_ = [
    "../_base_/datasets/coco_panoptic_square.py",
    "../_base_/schedules/adamw_poly.py",
    "../_base_/default_runtime.py",
    "./eomt.py",
]

max_iters = 178000
warmup_iters = 1500
base_lr = 2e-4
batch_size = 4
image_size = 640
model = dict(
    network=dict(
        model_type="eomt_dinov3",
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=6,
        num_blocks=3,
        intermediate_size=1536,
    ),
    pretrained="tue-mps/coco_panoptic_eomt_small_640_dinov3",
)
# Blocks learn the more slowly the farther they are from the end.
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            "network.embeddings": dict(lr_mult=0.8**8),
            **{f"network.layers.{i}.": dict(lr_mult=0.8 ** (8 - i)) for i in range(9)},
        }
    )
)
custom_hooks = [
    dict(type="NonFiniteLossHook"),
    dict(type="StopSignalHook"),
    dict(type="DataErrorSummaryHook"),
    dict(type="MaskAnnealingHook", start=(0, 0.4125, 0.6667), end=(0.0169, 0.5833, 0.8333)),
]
