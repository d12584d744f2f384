"""Stage 3: ImageNet training of the backbone that was found on COCO, at its final width.

Paper: Auto-Panoptic, NeurIPS 2020, https://arxiv.org/abs/2010.16119
Reproduces: `scripts/pretrain_searched_model.sh` of the published code: batch 512, 600k iterations
Published: -
Measured: -
Hardware: 8 GPUs
Command: tools/dist_train.sh configs/auto_panoptic/auto-panoptic_coco-3.8g_8xb64-600k_imagenet.py 8
"""

_base_ = [
    "../_base_/datasets/image_folders.py",
    "../_base_/schedules/sgd_linear.py",
    "../_base_/default_runtime.py",
    "./auto-panoptic-classifier.py",
]

max_iters = 600000
base_lr = 0.25
val_interval = 50000
batch_size = 64
auto_scale_lr = dict(base_batch_size=512)
widths = (72, 172, 432, 864, 1728)
head_channels = 1728
model = dict(
    backbone=dict(
        choices=[
            *[3, 2, 0, 2, 1, 3, 2, 0],
            *[1, 3, 1, 3, 3, 0, 0, 1],
            *[0, 0, 1, 0, 2, 3, 2, 2, 1, 0, 1, 3, 1, 2, 2, 1],
            *[1, 2, 0, 2, 0, 2, 3, 0],
        ]
    ),
    head=dict(in_channels=1728),
)
