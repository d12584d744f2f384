"""mmpanoptic: panoptic segmentation in the OpenMMLab style."""

from .moved import install as _keep_old_import_paths
from .ops.mmcv_ext import install as _provide_mmcv_ext
from .version import __version__

_provide_mmcv_ext()
_keep_old_import_paths()

__all__ = ["__version__"]
