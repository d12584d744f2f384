"""mmpanoptic: panoptic segmentation in the OpenMMLab style."""

from .ops.mmcv_ext import install as _provide_mmcv_ext
from .version import __version__

_provide_mmcv_ext()

__all__ = ["__version__"]
