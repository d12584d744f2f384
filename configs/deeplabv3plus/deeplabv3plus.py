# The model of DeepLabV3+ on Xception-65, output stride 16; N images of size (H, W), C classes.
norm_cfg = dict(type="SyncBN")  # becomes BN where there is one process or no GPU
model = dict(
    type="PanopticSegmentor",
    # uint8 BGR -> normalised RGB (N, 3, H, W)
    data_preprocessor=dict(
        type="PanopticDataPreprocessor",
        mean=(128.0, 128.0, 128.0),
        std=(128.0, 128.0, 128.0),
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    # -> (N, 256, H/4, W/4), (N, 2048, H/16, W/16)
    backbone=dict(type="Xception", output_stride=16, out_indices=(0, 3), norm_cfg=norm_cfg),
    # -> logits (N, C, H/4, W/4)
    semantic_head=dict(
        type="DeepLabHead",
        num_classes="$num_classes",
        in_channels=(256, 2048),
        in_strides=(4, 16),
        project_channels=(48,),
        channels=256,
        head_channels=None,  # the predictor follows the decoder
        separable=False,
        aspp_channels=256,
        aspp_dilations=(6, 12, 18),
        aspp_dropout=0.1,
        pool_crop_size=(512, 1024),  # the image pooling's window is the training crop
        norm_cfg=norm_cfg,
        loss=dict(type="HardPixelMiningLoss", top_k=0.2, loss_weight=1.0),
        small_instance_area=0,  # all pixels weigh the same
    ),
    # -> label map (H, W) at the size of the original image
    fusion_head=dict(
        type="SemanticOnlyHead",
        num_classes="$num_classes",
        thing_labels="$thing_labels",
        stride=4,
    ),
)
