# Mask2Former of the transformers package: a backbone, a pixel decoder with deformable attention, queries.
num_queries = 100
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
