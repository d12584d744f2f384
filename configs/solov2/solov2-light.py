# The light form of SOLOv2: towers of two convolutions with 256 channels, kernels of 128 channels,
# images with a short edge of about 448 pixels; see solov2.py.
_base_ = "./solov2.py"

model = dict(
    # -> category logits (N, T, 3872), kernels (N, 128, 3872), mask features (N, 128, H/4, W/4)
    instance_head=dict(
        feat_channels=256,
        stacked_convs=2,
        kernel_channels=128,
        scale_ranges=((1, 56), (28, 112), (56, 224), (112, 448), (224, 896)),
    ),
)
