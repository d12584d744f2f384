"""A few of your own images learnt by heart: the quickest proof that data and model fit together.

Paper: Panoptic-DeepLab, CVPR 2020, https://arxiv.org/abs/1911.10194
Reproduces: nothing published; training and testing use the same images, without augmentation
Published: -
Measured: see docs/train_on_your_own_data.md (two photographs of COCO with 133 classes)
Hardware: 2 CPU cores
Command: python tools/train.py configs/panoptic_deeplab/panoptic-deeplab_r18-tiny_1xb2-600_own-overfit.py --cfg-options data_root=data/own
"""

_base_ = [
    "../_base_/datasets/own_panoptic.py",
    "../_base_/schedules/adam_poly.py",
    "../_base_/validated_runtime.py",
    "./panoptic-deeplab_r18-tiny.py",
]

max_iters = 600
checkpoint_interval = 200
val_interval = "$max_iters*1/5"
warmup_iters = 50
base_lr = 2e-3
batch_size = 2
num_workers = 1
auto_scale_lr = dict(base_batch_size=2)
flip_prob = 0.0
short_edge = 480
max_size = 640
crop_size = (640, 640)  # larger than the images: nothing is cut off
val_ann_file = "$train_ann_file"
val_seg = "$train_seg"
val_img = "$train_img"

model = dict(
    semantic_head=dict(small_instance_weight=3.0, loss=dict(memory_lean=False)),
    instance_head=dict(
        channels=64,
        aspp_channels=64,
        sigma=6.0,
        loss_offset=dict(type="WeightedL1Loss", loss_weight=0.1),
    ),
    fusion_head=dict(stuff_area=0, nms_kernel=7),
)
# Offsets reach hundreds of pixels, which the last layer's weights grow to slowly.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(offset_predictor=dict(lr_mult=10.0))),
)
