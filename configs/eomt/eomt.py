# EoMT: a plain vision transformer whose last blocks see queries, and nothing else. Its images are squares.
image_size = 640
num_queries = 200
model = dict(
    type="TransformersPanopticSegmentor",
    class_names="$class_names",
    thing_labels="$thing_labels",
    network=dict(model_type="eomt", image_size="$image_size", num_queries="$num_queries"),
    activation_checkpointing=False,
    data_preprocessor=dict(
        type="PanopticDataPreprocessor",
        pad_size=("$image_size", "$image_size"),
        pad_colour="black",  # as the authors pad
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
