"""Mask2Former with Swin-T on ADE20K.

Paper: Masked-attention Mask Transformer, CVPR 2022, https://arxiv.org/abs/2112.01527
Reproduces: nothing published; starts from COCO's weights (CC BY-NC 4.0) with a new class layer
Published: -
Measured: not trained here
Hardware: none yet
Command: tools/dist_train.sh configs/mask2former/mask2former_swin-t_8xb2-160k_ade20k-640.py 4
"""

_base_ = [
    "../_base_/datasets/ade20k_panoptic.py",
    "../_base_/schedules/adamw_poly.py",
    "../_base_/default_runtime.py",
    "./mask2former.py",
]

max_iters = 160000
base_lr = 1e-4
batch_size = 2
num_queries = 100
warmup_iters = 0
model = dict(
    network=dict(
        backbone_config=dict(
            model_type="swin",
            embed_dim=96,
            depths=[2, 2, 6, 2],
            num_heads=[3, 6, 12, 24],
            window_size=7,
            drop_path_rate=0.3,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )
    ),
    pretrained="facebook/mask2former-swin-tiny-coco-panoptic",
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={
            "pixel_level_module.encoder": dict(lr_mult=0.1),
            "relative_position_bias_table": dict(lr_mult=0.1, decay_mult=0.0),
            "queries_": dict(decay_mult=0.0),
            "level_embed": dict(decay_mult=0.0),
        },
    )
)
