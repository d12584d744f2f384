# The ImageNet classifier that pretrains Auto-Panoptic's backbone, published width "1.3G"; C classes.
# A list of numbers in place of `choices=None` makes a fixed network of the supernet.
widths = (48, 96, 240, 480, 960)  # stem and stages
depths = (8, 8, 16, 8)
head_channels = 1024
block_ops = ("shufflenet_3x3", "shufflenet_5x5", "shufflenet_7x7", "xception_3x3")
bn_cfg = dict(type="SyncBN")  # becomes BN where there is one process or no GPU
model = dict(
    type="ImageClassifier",
    # uint8 BGR -> BGR 0..255 (N, 3, H, W); the detector subtracts a mean, which its norms absorb
    data_preprocessor=dict(
        type="PanopticDataPreprocessor", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), bgr_to_rgb=False
    ),
    # -> (N, 96, H/4, W/4), (N, 240, H/8, W/8), (N, 480, H/16, W/16), (N, 960, H/32, W/32)
    backbone=dict(
        type="ShuffleNetV2Plus",
        widths="$widths",
        depths="$depths",
        ops="$block_ops",
        choices=None,
        norm_cfg="$bn_cfg",
    ),
    # the last one -> logits (N, C)
    head=dict(
        type="ShuffleNetV2PlusHead",
        num_labels="$num_classes",
        in_channels=960,
        channels="$head_channels",
        dropout=0.2,
        label_smoothing=0.1,
        norm_cfg="$bn_cfg",
    ),
)
search_space = [dict(name="backbone", size=40, choices="$block_ops", key="backbone.choices")]
