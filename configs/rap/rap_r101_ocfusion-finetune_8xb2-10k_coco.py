"""OCFusion's occlusion head on a trained Panoptic FPN, ResNet-101, COCO, 10k iterations.

Paper: Learning Instance Occlusion for Panoptic Segmentation, CVPR 2020, https://arxiv.org/abs/1906.05896
Reproduces: RAP's e2e_panoptic_rcnn_R_101_FPN_1x_ocfusion_finetune
Published: PQ 42.5, SQ 79.4, RQ 52.2, PQ_th 49.6, PQ_st 31.9 (val2017, single scale)
Measured: not yet
Hardware: 8 GPUs of 24 GB (published: 8 P40)
Command: tools/dist_train.sh configs/rap/rap_r101_ocfusion-finetune_8xb2-10k_coco.py 8
"""

_base_ = [
    "../_base_/datasets/coco_panoptic_800.py",
    "../_base_/schedules/sgd_finetune_10k.py",
    "../_base_/default_runtime.py",
    "./panoptic-fpn_r101.py",
    "./rap-occlusion.py",
]

# From tools/dataset_converters/coco_relations.py.
train_instances = "annotations/instances_train2017_with_relation.json"
load_from = "mmpanoptic://rap/panoptic-fpn-r101_coco"  # or the last checkpoint of panoptic-fpn_r101_8xb2-150k_coco.py

model = {{_base_.occlusion}}
