"""RAP: relation-aware head on a trained Panoptic FPN, ResNet-50, COCO, 10k iterations.

Paper: RAP, relation-aware panoptic segmentation
Reproduces: RAP's e2e_panoptic_rcnn_R_50_FPN_1x_relation_finetune
Published: PQ 41.8, SQ 78.1, RQ 51.3, PQ_th 49.2, PQ_st 30.5 (val2017, single scale)
Measured: not yet
Hardware: 8 GPUs of 24 GB (published: 8 P40)
Command: tools/dist_train.sh configs/rap/rap_r50_relation-finetune_8xb2-10k_coco.py 8
"""

_base_ = [
    "../_base_/datasets/coco_panoptic_800.py",
    "../_base_/schedules/sgd_finetune_10k.py",
    "../_base_/default_runtime.py",
    "./panoptic-fpn.py",
    "./rap-relation.py",
]

# From tools/dataset_converters/coco_relations.py.
train_instances = "annotations/instances_train2017_with_relation.json"
load_from = "mmpanoptic://rap/panoptic-fpn-r50_coco"  # or the last checkpoint of panoptic-fpn_r50_8xb2-150k_coco.py

model = {{_base_.relation}}
