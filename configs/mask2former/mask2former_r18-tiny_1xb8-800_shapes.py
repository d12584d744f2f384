"""Mask2Former of mmdet with a thin ResNet-18 on the generated dataset, from the backbone that `make demo` trains.

Paper: Masked-attention Mask Transformer, CVPR 2022, https://arxiv.org/abs/2112.01527
Reproduces: nothing published; shows that the whole chain learns
Published: -
Measured: see configs/mask2former/README.md
Hardware: 2 CPU cores
Command: python tools/train.py configs/mask2former/mask2former_r18-tiny_1xb8-800_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_panoptic.py",
    "../_base_/schedules/adamw_poly.py",
    "../_base_/validated_runtime.py",
    "./mask2former_mmdet.py",
]

load_from = "work_dirs/demo/iter_500.pth"  # None: random weights, which take several times as long
max_iters = 800
val_interval = "$max_iters*1/4"
checkpoint_interval = 200
warmup_iters = 50
base_lr = 1e-3
max_norm = 1.0
num_queries = 24
auto_scale_lr = dict(base_batch_size=8)
attention = dict(embed_dims=64, num_heads=4)
positions = dict(num_feats=32)
model = dict(
    detector=dict(
        backbone=dict(
            _delete_=True,
            type="mmpanoptic.DeepLabResNet",
            depth=18,
            base_width=32,
            stem_channels=32,
            norm_cfg=dict(type="SyncBN"),
        ),
        panoptic_head=dict(
            in_channels=[32, 64, 128, 256],
            feat_channels=64,
            out_channels=64,
            pixel_decoder=dict(
                norm_cfg=dict(num_groups=8),
                encoder=dict(
                    num_layers=1,
                    layer_cfg=dict(
                        self_attn_cfg=attention,
                        ffn_cfg=dict(embed_dims=64, feedforward_channels=128),
                    ),
                ),
                positional_encoding=positions,
            ),
            positional_encoding=positions,
            transformer_decoder=dict(
                num_layers=3,
                layer_cfg=dict(
                    self_attn_cfg=attention,
                    cross_attn_cfg=attention,
                    ffn_cfg=dict(embed_dims=64, feedforward_channels=256),
                ),
            ),
        ),
        train_cfg=dict(num_points=1024),
    )
)
