# A miniature space: 8 blocks, narrow heads of two layers, three choices everywhere, so that three
# paths use every choice equally often. Things of `shapes` are 10 to 60 pixels large, so anchors are
# those of an image four times as large and RoIs come from the finest levels.
_base_ = "./auto-panoptic.py"

widths = (16, 32, 64, 96, 128)
block_ops = ("shufflenet_3x3", "shufflenet_7x7", "xception_3x3")
head_ops = ("DWConv3x3", "DFConv3x3", "ATConv3x3")
gn_cfg = dict(type="GN", num_groups=16)
box_rois = dict(out_channels=64, canonical_size=112)
mask_rois = dict(out_channels=64, canonical_size=224)
model = dict(
    # -> (N, 32, H/4, W/4), (N, 64, H/8, W/8), (N, 96, H/16, W/16), (N, 128, H/32, W/32)
    backbone=dict(depths=(2, 2, 2, 2)),
    neck=dict(in_channels=[32, 64, 96, 128], out_channels=64),
    f2b=dict(in_channels=256, out_channels=32),
    b2f=dict(in_channels=128, out_channels=64),
    rpn_head=dict(
        in_channels=64, feat_channels=64, anchor_generator=dict(sizes=(12, 24, 48, 96, 192))
    ),
    roi_head=dict(
        bbox_roi_extractor=box_rois,
        bbox_head=dict(in_channels=64, fc_out_channels=256),
        mask_roi_extractor=mask_rois,
        mask_head=dict(in_channels=64, channels=32, num_layers=2),
    ),
    semantic_head=dict(in_channels=64, channels=32, num_layers=2, loss_weight=1.0),
    fusion_head=dict(stuff_area=64),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=200, max_per_img=200, max_per_batch=None),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=200), rcnn=dict(max_per_img=50)),
)

search_space = [
    dict(name="backbone", size=8, choices="$block_ops", key="backbone.choices"),
    dict(
        name="mask", size=2, choices="$head_ops", key="roi_head.mask_head.choices", section="head"
    ),
    dict(name="semantic", size=2, choices="$head_ops", key="semantic_head.choices", section="head"),
    dict(name="f2b", size=4, choices=("r4", "r8", "r16"), key="f2b.choices", section="inter"),
    dict(name="b2f", size=5, choices=("r4", "r8", "r16"), key="b2f.choices", section="inter"),
]
