"""What a user calls."""

from mmpanoptic.checkpoints.shipped_models import list_shipped_models

from .configs import find_config, get_config, list_configs
from .inferencer import PanopticInferencer, build_test_pipeline
from .model import init_model
from .panoptic_result import PanopticResult, Segment

__all__ = [
    "PanopticInferencer",
    "PanopticResult",
    "Segment",
    "build_test_pipeline",
    "find_config",
    "get_config",
    "init_model",
    "list_configs",
    "list_shipped_models",
]
