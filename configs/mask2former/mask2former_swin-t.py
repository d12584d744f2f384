# Mask2Former with Swin-T.
_base_ = "./mask2former.py"

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
    )
)
