"""OCFusion on your own data: occlusion head on a trained Panoptic FPN.

Paper: Learning Instance Occlusion for Panoptic Segmentation, CVPR 2020, https://arxiv.org/abs/1906.05896
Reproduces: nothing published; goes on from panoptic-fpn_lite0_1xb4-5k_own.py; needs labels that overlap
Published: -
Measured: PQ 6.3 (things 2.1, stuff 9.6) after 40 iterations on 100 photographs, as its base, docs/real_data.md
Hardware: 2 CPU cores, or any GPU
Command: python tools/train.py configs/rap/rap_lite0_ocfusion-finetune_1xb4-1k_own.py --cfg-options data_root=data/own
"""

_base_ = [
    "../_base_/datasets/own_panoptic.py",
    "../_base_/schedules/adam_poly.py",
    "../_base_/validated_runtime.py",
    "./panoptic-fpn_lite0.py",
    "./rap-occlusion.py",
]

max_iters = 1000
checkpoint_interval = 500
val_interval = "$max_iters*1/5"
warmup_iters = 50
base_lr = 1e-3
auto_scale_lr = dict(base_batch_size=4)
with_instances = True
# From tools/dataset_converters/own_data.py --whole-things, then coco_relations.py --matching iou
# --overlap-thr 0.05, see docs/real_data.md.
train_instances = "annotations/instances_train_with_relation.json"
train_dataloader = dict(dataset=dict(instances_file="$train_instances", filter_unrelated=True))
load_from = "work_dirs/panoptic-fpn_lite0_1xb4-5k_own/iter_5000.pth"

head_in_channels = 64
head_channels = 64
head_fc_channels = 256
head_samples = 32
# Duplicates of one thing are no pairs in training: the head must be sure before it moves pixels.
occlusion_thr = 0.8
model = {{_base_.occlusion}}
