# Panoptic FPN with ResNet-101.
_base_ = "./panoptic-fpn.py"

model = dict(backbone=dict(depth=101))
