"""Mask2Former with Swin-L on your own data.

Paper: Masked-attention Mask Transformer, CVPR 2022, https://arxiv.org/abs/2112.01527
Reproduces: nothing published; starts from COCO's weights (CC BY-NC 4.0) with a new class layer
Published: -
Measured: not trained here
Hardware: none yet
Command: tools/dist_train.sh configs/mask2former/mask2former_swin-l_1xb4-5k_own.py 4
"""

_base_ = [
    "../_base_/datasets/own_panoptic.py",
    "../_base_/schedules/adamw_poly.py",
    "../_base_/validated_runtime.py",
    "./mask2former.py",
]

max_iters = 5000
base_lr = 1e-4
batch_size = 4
num_queries = 200
auto_scale_lr = dict(base_batch_size=4)
warmup_iters = 50
val_interval = "$max_iters*1/5"
checkpoint_interval = 1000
model = dict(
    network=dict(
        backbone_config=dict(
            model_type="swin",
            embed_dim=192,
            depths=[2, 2, 18, 2],
            num_heads=[6, 12, 24, 48],
            window_size=12,
            drop_path_rate=0.3,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )
    ),
    pretrained="facebook/mask2former-swin-large-coco-panoptic",
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
