"""RAP: relation-aware head on a trained Panoptic FPN, ResNet-101, COCO, 10k iterations.

Paper: RAP, relation-aware panoptic segmentation
Reproduces: RAP's e2e_panoptic_rcnn_R_101_FPN_1x_relation_finetune
Published: PQ 43.3, SQ 79.6, RQ 53.0, PQ_th 50.9, PQ_st 31.8 (val2017, single scale)
Measured: not yet
Hardware: 8 GPUs of 24 GB (published: 8 P40)
Command: tools/dist_train.sh configs/rap/rap_r101_relation-finetune_8xb2-10k_coco.py 8
"""

_base_ = [
    "../_base_/datasets/coco_panoptic_800.py",
    "../_base_/schedules/sgd_finetune_10k.py",
    "../_base_/default_runtime.py",
    "./panoptic-fpn_r101.py",
    "./rap-relation.py",
]

# From tools/dataset_converters/coco_relations.py.
train_instances = "annotations/instances_train2017_with_relation.json"
load_from = "mmpanoptic://rap/panoptic-fpn-r101_coco"  # or the last checkpoint of panoptic-fpn_r101_8xb2-150k_coco.py

model = {{_base_.relation}}
