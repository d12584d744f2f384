# Mask2Former of the transformers package: a backbone, a pixel decoder with deformable attention, queries.
num_queries = 100
# A leaf takes them as the paramwise_cfg of its optimizer.
rates = dict(
    norm_decay_mult=0.0,
    custom_keys={
        "pixel_level_module.encoder": dict(lr_mult=0.1),
        "relative_position_bias_table": dict(lr_mult=0.1, decay_mult=0.0),
        "queries_": dict(decay_mult=0.0),
        "level_embed": dict(decay_mult=0.0),
    },
)
model = dict(
    type="TransformersPanopticSegmentor",
    class_names="$class_names",
    thing_labels="$thing_labels",
    network=dict(model_type="mask2former", num_queries="$num_queries"),
    activation_checkpointing=False,
    data_preprocessor=dict(type="PanopticDataPreprocessor", pad_size_divisor=32),
    fusion_head=dict(
        type="MaskSetFusionHead",
        num_classes="$num_classes",
        thing_labels="$thing_labels",
        score_thr=0.8,
        mask_thr=0.5,
        overlap_thr=0.8,
    ),
)
