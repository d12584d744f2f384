# A thin ResNet-18 with narrow decoders, first stage: learns in minutes on two CPU cores.
_base_ = "./cops.py"

distances = (1, 4, 8, 16)
decoder = dict(
    in_channels=(32, 64, 256),
    project_channels=(16, 32),
    channels=64,
    aspp_channels=64,
    aspp_dilations=(2, 4, 6),
    aspp_dropout=0.0,
    head_channels=64,
)
model = dict(
    channels_last=True,
    data_preprocessor=dict(pad_size_divisor=16),
    backbone=dict(depth=18, base_width=32, stem_channels=32, multi_grid=None),
    # Every pixel counts; see configs/panoptic_deeplab/panoptic-deeplab_r18-tiny.py.
    semantic_head=dict(small_instance_weight=4.0, loss=dict(top_k=1.0), **decoder),
    instance_head=dict(
        distances=distances, near_channels=(32, 16), far_channels=(64, 32), **decoder
    ),
    fusion_head=dict(distances=distances, stuff_area=64, instance_area=32),
)
