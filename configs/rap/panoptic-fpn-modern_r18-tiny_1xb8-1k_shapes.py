"""Panoptic FPN with a thin ResNet-18 and the conventions of mmdet on the generated dataset.

Paper: Panoptic Feature Pyramid Networks, CVPR 2019, https://arxiv.org/abs/1901.02446
Reproduces: nothing published; compares mmdet's conventions with Detectron's
Published: -
Measured: PQ 79.6 (things 71.7, stuff 89.1) with 4000 training images
Hardware: 2 CPU cores
Command: python tools/train.py configs/rap/panoptic-fpn-modern_r18-tiny_1xb8-1k_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_panoptic.py",
    "../_base_/schedules/adam_poly_short.py",
    "../_base_/validated_runtime.py",
    "./panoptic-fpn_r18-tiny.py",
]

max_iters = 1000
base_lr = 2e-3
with_instances = True
train_instances = "annotations/instances_train.json"
train_dataloader = dict(dataset=dict(instances_file="$train_instances"))

# What panoptic-fpn-modern.py changes, at the scale of the small model.
nms_offset = dict(offset=0)
box_overlaps = dict(type="mmdet.BboxOverlaps2D")
box_coder = dict(_delete_=True, type="mmdet.DeltaXYWHBBoxCoder")
roi_extractor = dict(
    _delete_=True,
    type="mmdet.SingleRoIExtractor",
    out_channels=64,
    featmap_strides=(4, 8, 16, 32),
)
model = dict(
    inclusive_boxes=False,
    rpn_head=dict(
        anchor_generator=dict(
            _delete_=True,
            type="mmdet.AnchorGenerator",
            scales=(3,),
            ratios=(0.5, 1.0, 2.0),
            strides=(4, 8, 16, 32, 64),
        ),
        bbox_coder=box_coder,
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(
            finest_scale=28,
            roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=0, aligned=True),
            **roi_extractor,
        ),
        bbox_head=dict(bbox_coder=dict(target_stds=(0.1, 0.1, 0.2, 0.2), **box_coder)),
        mask_roi_extractor=dict(
            finest_scale=56,
            roi_layer=dict(type="RoIAlign", output_size=14, sampling_ratio=0, aligned=True),
            **roi_extractor,
        ),
    ),
    fusion_head=dict(mask_mode="grid_sample"),
    train_cfg=dict(
        rpn=dict(assigner=dict(min_pos_iou=0.3, iou_calculator=box_overlaps)),
        rpn_proposal=dict(nms=nms_offset),
        rcnn=dict(assigner=dict(iou_calculator=box_overlaps)),
    ),
    test_cfg=dict(rpn=dict(nms=nms_offset), rcnn=dict(nms=nms_offset)),
)
