"""RAP: relation-aware head on a trained Panoptic FPN, ResNeXt-101-32x8d, COCO, 10k iterations.

Paper: RAP, relation-aware panoptic segmentation
Reproduces: RAP's e2e_panoptic_rcnn_X_101_32x8d_FPN_1x_relation_finetune
Published: PQ 45.7, SQ 79.2, RQ 55.8, PQ_th 53.9, PQ_st 33.3 (val2017, single scale)
Measured: not yet
Hardware: 8 GPUs of 24 GB (published: 8 P40)
Command: tools/dist_train.sh configs/rap/rap_x101_relation-finetune_8xb2-10k_coco.py 8
"""

_base_ = [
    "../_base_/datasets/coco_panoptic_800.py",
    "../_base_/schedules/sgd_finetune_10k.py",
    "../_base_/default_runtime.py",
    "./panoptic-fpn_x101.py",
    "./rap-relation.py",
]

# From tools/dataset_converters/coco_relations.py.
train_instances = "annotations/instances_train2017_with_relation.json"
load_from = "mmpanoptic://rap/panoptic-fpn-x101_coco"  # or the last checkpoint of panoptic-fpn_x101_8xb2-150k_coco.py

model = {{_base_.relation}}
