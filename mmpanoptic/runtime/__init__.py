"""Exported models without torch: numpy, onnxruntime and, for COPS, the compiled solver.

Nothing here imports torch, mmengine, mmcv or OpenCV, so that ``pip install --no-deps mmpanoptic``
beside ``numpy``, ``onnxruntime`` and ``pillow`` is enough.
"""

from .model import PanopticRuntime
from .model_file import ModelFile, ModelFileError

__all__ = ["ModelFile", "ModelFileError", "PanopticRuntime"]
