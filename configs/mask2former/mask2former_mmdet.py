# Mask2Former of mmdet: ResNet-50, a pixel decoder with deformable attention, nine decoder layers, 100 queries.
num_queries = 100
# A leaf takes them as the paramwise_cfg of its optimizer.
rates = dict(
    norm_decay_mult=0.0,
    custom_keys={
        "backbone": dict(lr_mult=0.1),
        "query_embed": dict(decay_mult=0.0),
        "query_feat": dict(decay_mult=0.0),
        "level_embed": dict(decay_mult=0.0),
    },
)
model = dict(
    type="MMDetPanopticSegmentor",
    num_classes="$num_classes",
    thing_labels="$thing_labels",
    data_preprocessor=dict(type="PanopticDataPreprocessor", pad_size_divisor=32),
    detector=dict(
        type="mmdet.Mask2Former",
        backbone=dict(
            type="ResNet",
            depth=50,
            num_stages=4,
            out_indices=(0, 1, 2, 3),
            norm_cfg=dict(type="BN", requires_grad=False),
            norm_eval=True,
            style="pytorch",
            init_cfg=dict(type="Pretrained", checkpoint="mmpanoptic://imagenet/resnet50"),
        ),
        panoptic_head=dict(
            type="Mask2FormerHead",
            in_channels=[256, 512, 1024, 2048],
            strides=[4, 8, 16, 32],
            feat_channels=256,
            out_channels=256,
            num_queries="$num_queries",
            num_transformer_feat_level=3,
            pixel_decoder=dict(
                type="MSDeformAttnPixelDecoder",
                num_outs=3,
                norm_cfg=dict(type="GN", num_groups=32),
                act_cfg=dict(type="ReLU"),
                encoder=dict(
                    num_layers=6,
                    layer_cfg=dict(
                        self_attn_cfg=dict(
                            embed_dims=256,
                            num_heads=8,
                            num_levels=3,
                            num_points=4,
                            dropout=0.0,
                            batch_first=True,
                        ),
                        ffn_cfg=dict(
                            embed_dims=256, feedforward_channels=1024, num_fcs=2, ffn_drop=0.0
                        ),
                    ),
                ),
                positional_encoding=dict(num_feats=128, normalize=True),
            ),
            enforce_decoder_input_project=False,
            positional_encoding=dict(num_feats=128, normalize=True),
            transformer_decoder=dict(
                return_intermediate=True,
                num_layers=9,
                layer_cfg=dict(
                    self_attn_cfg=dict(embed_dims=256, num_heads=8, dropout=0.0, batch_first=True),
                    cross_attn_cfg=dict(embed_dims=256, num_heads=8, dropout=0.0, batch_first=True),
                    ffn_cfg=dict(
                        embed_dims=256, feedforward_channels=2048, num_fcs=2, ffn_drop=0.0
                    ),
                ),
                init_cfg=None,
            ),
            loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=2.0),
            loss_mask=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=5.0),
            loss_dice=dict(
                type="DiceLoss", use_sigmoid=True, naive_dice=True, eps=1.0, loss_weight=5.0
            ),
        ),
        train_cfg=dict(
            num_points=12544,
            oversample_ratio=3.0,
            importance_sample_ratio=0.75,
            assigner=dict(
                type="HungarianAssigner",
                match_costs=[
                    dict(type="ClassificationCost", weight=2.0),
                    dict(type="CrossEntropyLossCost", weight=5.0, use_sigmoid=True),
                    dict(type="DiceCost", weight=5.0, pred_act=True, eps=1.0),
                ],
            ),
            sampler=dict(type="MaskPseudoSampler"),
        ),
    ),
    fusion_head=dict(
        type="MaskSetFusionHead",
        num_classes="$num_classes",
        thing_labels="$thing_labels",
        score_thr=0.8,
        mask_thr=0.5,
        overlap_thr=0.8,
    ),
)
