"""What a user calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from mmpanoptic.checkpoints.shipped_models import list_shipped_models

    from .configs import find_config, get_config, list_configs
    from .inferencer import PanopticInferencer, build_test_pipeline
    from .model import init_model
    from .panoptic_result import PanopticResult, Segment

# Results are light; what makes them with torch is not.
__getattr__ = lazy_names(
    __name__,
    {
        "configs": "find_config get_config list_configs",
        "inferencer": "PanopticInferencer build_test_pipeline",
        "model": "init_model",
        "panoptic_result": "PanopticResult Segment",
        ".checkpoints.shipped_models": "list_shipped_models",
    },
)

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
