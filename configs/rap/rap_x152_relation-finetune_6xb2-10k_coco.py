"""RAP: relation-aware head on a trained Panoptic FPN, ResNeXt-152-32x8d, COCO, 10k iterations.

Paper: RAP, relation-aware panoptic segmentation
Reproduces: RAP's e2e_panoptic_rcnn_X_152_32x8d_FPN_1x_relation_finetune
Published: PQ 46.9, SQ 79.7, RQ 57.0, PQ_th 55.5, PQ_st 33.9 (val2017, single scale)
Measured: not yet
Hardware: 6 GPUs of 24 GB (published: 8 P40)
Command: tools/dist_train.sh configs/rap/rap_x152_relation-finetune_6xb2-10k_coco.py 6
"""

_base_ = [
    "../_base_/datasets/coco_panoptic_800.py",
    "../_base_/schedules/sgd_finetune_10k.py",
    "../_base_/default_runtime.py",
    "./panoptic-fpn_x152.py",
    "./rap-relation.py",
]

# 12 images per iteration at the learning rate of 16, as published.
# From tools/dataset_converters/coco_relations.py.
train_instances = "annotations/instances_train2017_with_relation.json"
load_from = "mmpanoptic://rap/panoptic-fpn-x152_coco"  # or the last checkpoint of panoptic-fpn_x152_8xb2-150k_coco.py
auto_scale_lr = dict(base_batch_size=12)

model = {{_base_.relation}}
