"""Mask2Former with Swin-T on COCO.

Paper: Masked-attention Mask Transformer, CVPR 2022, https://arxiv.org/abs/2112.01527
Reproduces: the published model; a training starts from the published weights, which are CC BY-NC 4.0
Published: PQ 53.2
Measured: not trained here
Hardware: none yet
Command: tools/dist_train.sh configs/mask2former/mask2former_swin-t_8xb2-369k_coco-1024.py 4
"""

_base_ = [
    "../_base_/datasets/coco_panoptic.py",
    "../_base_/schedules/adamw_step.py",
    "../_base_/default_runtime.py",
    "./mask2former_swin-t.py",
]

max_iters = 368750
base_lr = 1e-4
batch_size = 2
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadPanopticAnnotations"),
    dict(type="ResizeScaleJitter", target_size=(1024, 1024), ratio_range=(0.1, 2.0)),
    dict(type="RandomCrop", crop_size=(1024, 1024)),
    dict(type="PanopticRandomFlip", prob=0.5),
    dict(type="PackPanopticInputs"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeShortestEdge", short_edge=800, max_size=1333),
    dict(type="PackPanopticInputs"),
]
test_evaluator = [dict(type="PanopticQualityMetric")]
model = dict(pretrained="facebook/mask2former-swin-tiny-coco-panoptic")
optim_wrapper = dict(paramwise_cfg={{_base_.rates}})
