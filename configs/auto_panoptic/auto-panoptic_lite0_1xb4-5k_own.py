"""Auto-Panoptic with narrow heads on your own data, from EfficientNet-Lite0's ImageNet weights.

Paper: Auto-Panoptic, NeurIPS 2020, https://arxiv.org/abs/2010.16119
Reproduces: nothing published; classes are read from your annotation file
Published: -
Measured: PQ 4.4 (things 0.0, stuff 7.9) after 120 iterations on 100 photographs, docs/real_data.md
Hardware: 2 CPU cores, or any GPU
Command: python tools/train.py configs/auto_panoptic/auto-panoptic_lite0_1xb4-5k_own.py --cfg-options data_root=data/own
"""

_base_ = [
    "../_base_/datasets/own_panoptic.py",
    "../_base_/schedules/adam_poly_own.py",
    "../_base_/validated_runtime.py",
    "../_base_/backbones/efficientnet_lite0.py",
    "./auto-panoptic.py",
]

with_instances = True
gn_cfg = dict(type="GN", num_groups=16)
box_rois = dict(out_channels=64, canonical_size=112)
mask_rois = dict(out_channels=64, canonical_size=224)
model = dict(
    channels_last=True,
    data_preprocessor={{_base_.lite0_pixels}},
    backbone={{_base_.lite0}},
    neck=dict(in_channels=[24, 40, 112, 1280], out_channels=64),
    # What was found on COCO (auto-panoptic_coco-3.8g_8xb2-90k_coco.py), with dilated convolutions in
    # the place of deformable ones, which take eight times as long on CPUs.
    f2b=dict(in_channels=256, out_channels=64, choices=[2, 0, 0, 0]),
    b2f=dict(in_channels=256, out_channels=64, choices=[1, 1, 1, 2, 0]),
    rpn_head=dict(
        in_channels=64, feat_channels=64, anchor_generator=dict(sizes=(16, 32, 64, 128, 256))
    ),
    roi_head=dict(
        bbox_roi_extractor=box_rois,
        bbox_head=dict(in_channels=64, fc_out_channels=256),
        mask_roi_extractor=mask_rois,
        mask_head=dict(in_channels=64, channels=64, choices=[4, 1, 4, 5]),
    ),
    semantic_head=dict(in_channels=64, channels=64, choices=[4, 5, 0], loss_weight=1.0),
    fusion_head=dict(stuff_area="$size_stuff_area"),
    train_cfg=dict(
        # small crops: most large anchors reach over the border
        rpn=dict(sampler=dict(num=128), allowed_border=-1),
        rpn_proposal=dict(nms_pre=300, max_per_img=300, max_per_batch=None),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=300)),
)
