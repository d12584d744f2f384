"""Location-based EfficientPS with the light SOLOv2 head and small crops, for small GPUs.

Paper: EfficientPS, IJCV 2021, https://arxiv.org/abs/2004.02307;
    SOLOv2, NeurIPS 2020, https://arxiv.org/abs/2003.10152
Reproduces: nothing published; what Location-Based-Panoptic-Segmentation-with-SOLOv2 describes, as
    one network trained jointly
Published: -
Measured: not yet
Hardware: 8 GPUs with 8 to 11 GB each (estimated)
Command: tools/dist_train.sh configs/efficientps/efficientps-solov2-light_b5_8xb2-30k_cityscapes-512x1024.py 8
"""

_base_ = [
    "../_base_/datasets/cityscapes_panoptic.py",
    "../_base_/schedules/sgd_multistep.py",
    "../_base_/default_runtime.py",
    "./efficientps-solov2.py",
]

load_from = "mmpanoptic://imagenet/efficientnet-b5"  # None: random weights
with_instances = True
batch_size = 2
base_lr = 1e-2  # for 16 images; SOLOv2's, which is below the 0.07 of EfficientPS
warmup_factor = 0.01
clip_grad = dict(max_norm=35, norm_type=2)
max_iters = 30000
milestones = ["$max_iters*75/100", "$max_iters*90/100"]
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadPanopticAnnotations"),
    dict(
        type="ResizeCrop",
        resize=dict(type="ResizeScaleJitter", target_size=(1024, 2048), ratio_range=(0.5, 2.0)),
        crop=dict(type="RandomCrop", crop_size=(512, 1024)),
    ),
    dict(type="PanopticRandomFlip", prob=0.5),
    dict(type="PackPanopticInputs", with_instances="$with_instances"),
]
model = dict(
    activation_checkpointing=True,  # less memory, one more forward pass of the backbone
    # -> category logits (N, T, 3872), kernels (N, 128, 3872), mask features (N, 128, H/4, W/4)
    instance_head=dict(
        feat_channels=256,
        stacked_convs=2,
        kernel_channels=128,
        scale_ranges=((1, 56), (28, 112), (56, 224), (112, 448), (224, 896)),
    ),
)

# tools/test.py --tta: the scales of the paper (recalled), each with its mirror image
tta_pipeline = [
    dict(type="LoadImage"),
    dict(
        type="TestTimeAug",
        transforms=[
            [
                dict(type="ResizeShortestEdge", short_edge=edge, max_size=2 * edge)
                for edge in (768, 1024, 1280, 1536, 1792, 2048)
            ],
            [dict(type="PanopticRandomFlip", prob=prob) for prob in (0.0, 1.0)],
            [dict(type="PackPanopticInputs")],
        ],
    ),
]
