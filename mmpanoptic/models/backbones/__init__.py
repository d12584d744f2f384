"""Backbones: images to feature maps."""

from .hrnet import HRNet
from .resnet import DeepLabResNet
from .shufflenet_v2_plus import ShuffleNetV2Plus
from .timm_backbone import TIMMBackbone
from .xception import Xception

__all__ = ["DeepLabResNet", "HRNet", "ShuffleNetV2Plus", "TIMMBackbone", "Xception"]
