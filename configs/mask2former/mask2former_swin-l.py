# Mask2Former with Swin-L.
_base_ = "./mask2former.py"

num_queries = 200
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
    )
)
