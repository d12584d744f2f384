"""MaskFormer with ResNet-50 on COCO, as in mmdet.

Paper: Per-Pixel Classification is Not All You Need for Semantic Segmentation, NeurIPS 2021, https://arxiv.org/abs/2107.06278
Reproduces: maskformer_r50_ms-16xb1-75e_coco of mmdetection 3.3.0 without the crops of half of its images
Published: PQ 46.9 (val2017, single scale; weights mmpanoptic://mask2former/mmdet-maskformer-r50_coco)
Measured: not trained here
Hardware: none yet
Command: tools/dist_train.sh configs/mask2former/maskformer_r50_16xb1-554k_coco.py 16
"""

_base_ = [
    "../_base_/datasets/coco_panoptic.py",
    "../_base_/schedules/adamw_step.py",
    "../_base_/default_runtime.py",
    "./mask2former_mmdet.py",
]

max_iters = 554400
milestones = ["$max_iters*2/3"]
base_lr = 1e-4
weight_decay = 1e-4
batch_size = 1
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadPanopticAnnotations"),
    dict(type="ResizeShortestEdge", short_edge=list(range(480, 801, 32)), max_size=1333),
    dict(type="PanopticRandomFlip", prob=0.5),
    dict(type="PackPanopticInputs"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeShortestEdge", short_edge=800, max_size=1333),
    dict(type="PackPanopticInputs"),
]
test_evaluator = [dict(type="PanopticQualityMetric")]
attention = dict(embed_dims=256, num_heads=8, dropout=0.1, batch_first=True)
feedforward = dict(embed_dims=256, feedforward_channels=2048, num_fcs=2, ffn_drop=0.1)
model = dict(
    data_preprocessor=dict(pad_size_divisor=1),
    detector=dict(
        type="mmdet.MaskFormer",
        panoptic_head=dict(
            _delete_=True,
            type="MaskFormerHead",
            in_channels=[256, 512, 1024, 2048],
            feat_channels=256,
            out_channels=256,
            num_queries="$num_queries",
            pixel_decoder=dict(
                type="TransformerEncoderPixelDecoder",
                norm_cfg=dict(type="GN", num_groups=32),
                act_cfg=dict(type="ReLU"),
                encoder=dict(
                    num_layers=6, layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=feedforward)
                ),
                positional_encoding=dict(num_feats=128, normalize=True),
            ),
            enforce_decoder_input_project=False,
            positional_encoding=dict(num_feats=128, normalize=True),
            transformer_decoder=dict(
                num_layers=6,
                layer_cfg=dict(
                    self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=feedforward
                ),
                return_intermediate=True,
            ),
            loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
            loss_mask=dict(
                type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=20.0
            ),
            loss_dice=dict(
                type="DiceLoss", use_sigmoid=True, naive_dice=True, eps=1.0, loss_weight=1.0
            ),
        ),
        train_cfg=dict(
            _delete_=True,
            assigner=dict(
                type="HungarianAssigner",
                match_costs=[
                    dict(type="ClassificationCost", weight=1.0),
                    dict(type="FocalLossCost", weight=20.0, binary_input=True),
                    dict(type="DiceCost", weight=1.0, pred_act=True, eps=1.0),
                ],
            ),
            sampler=dict(type="MaskPseudoSampler"),
        ),
    ),
    fusion_head=dict(fill=True),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={
            "backbone": dict(lr_mult=0.1),
            "query_embed": dict(decay_mult=0.0),
        },
    )
)
