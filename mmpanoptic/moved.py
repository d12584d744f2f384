"""Old import paths that still work: whole modules that lie elsewhere now."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

_KEYS = ("auto_panoptic", "cops", "detectron", "efficientps", "panoptic_deeplab", "rap", "solov2")
_POSTPROCESS = ("augmented", "centers", "instance_files", "logit_contest")

MOVED = {
    "engine.commands": "cli",
    "engine.pretrained": "checkpoints.loading",
    "utils.checkpoint": "checkpoints.loading",
    "utils.restricted_pickle": "checkpoints.restricted_pickle",
    "apis.image_inputs": "apis.inferencer",
    "apis.relations": "apis.relation_accuracy",
    "evaluation.relation_order": "evaluation.relation_truth",
    "models.segmentors.foreign_weights": "checkpoints.foreign_weights",
    **{f"models.segmentors.{name}_keys": f"checkpoints.{name}_keys" for name in _KEYS},
    **{f"models.fusion_heads.{name}": f"models.postprocess.{name}" for name in _POSTPROCESS},
    "models.fusion_heads.panoptic_merge": "models.postprocess.segments",
    "models.fusion_heads.paint_order": "models.postprocess.painting",
    "models.fusion_heads.solov2_candidates": "models.postprocess.solov2_selection",
    "models.fusion_heads.multicut_scores": "models.multicut.scores",
    "models.fusion_heads.order_accuracy": "apis.relation_accuracy",
    "models.layers.flips": "models.postprocess.flips",
    "models.layers.mask_paste": "models.postprocess.mask_paste",
    "models.layers.mask_windows": "models.postprocess.mask_windows",
    "models.layers.resized_logits": "models.postprocess.resized_logits",
    "models.layers.grid_edges": "models.multicut.grid_edges",
    "models.layers.multicut": "models.multicut.layer",
    "models.losses.multicut_gradient": "models.multicut.gradient",
    "nas.budget": "nas.scoring",
    "nas.recalibration": "models.layers.recalibration",
}
"""New module by old one, both below ``mmpanoptic``."""

_PACKAGE = __package__


class _MovedModules(MetaPathFinder, Loader):
    """Answers for the old names; asked only where no file does."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.removeprefix(f"{_PACKAGE}.") not in MOVED:
            return None
        return spec_from_loader(fullname, self)

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__
        new = f"{_PACKAGE}.{MOVED[old.removeprefix(f'{_PACKAGE}.')]}"
        warnings.warn(f"{old} is {new} now", DeprecationWarning, stacklevel=2)
        sys.modules[old] = import_module(new)  # the import takes what stands here afterwards


def install() -> None:
    """Let the old import paths lead to the new modules."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())
