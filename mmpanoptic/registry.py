"""Registries of mmpanoptic, children of mmengine's.

A registry imports its modules on first use and only as far as a name needs: it walks through its
``locations`` until the name is registered. Names with another scope (``mmdet.ResNet``) go to
mmengine's usual look-up and import nothing of ours.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry

PLACEHOLDER = re.compile(r"\$(\w+)(?:\*(\d+)/(\d+))?([+-]\d+)?")
"""What stands in a config for a variable of the config, a share of it, or a class count."""


class ConfigError(ValueError):
    """A config says something that cannot be done; the message says where and what to write."""


def placeholders(node: Any) -> Iterator[re.Match[str]]:
    """Find the placeholders in a part of a config, at any depth.

    Args:
        node: Mapping, list, tuple or value.

    Yields:
        re.Match: Of :data:`PLACEHOLDER`; the first group is the name.
    """
    if isinstance(node, Mapping):
        for value in node.values():
            yield from placeholders(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from placeholders(value)
    elif isinstance(node, str):
        match = PLACEHOLDER.fullmatch(node)
        if match is not None:
            yield match


def refuse_placeholders(name: str, node: Any) -> None:
    """Refuse the settings of a part if nobody has filled in their placeholders.

    Args:
        name (str): Of the part.
        node: Its settings.

    Raises:
        ConfigError: Naming the first placeholder, and what fills them in.
    """
    unfilled = next(placeholders(node), None)
    if unfilled is not None:
        raise ConfigError(
            f"{name} cannot be built with the placeholder {unfilled[0]!r}: configs "
            "of mmpanoptic take class counts from the dataset and values from their "
            "variables. Use PanopticRunner.from_cfg(cfg) of mmpanoptic.engine.runner in place "
            "of mmengine's Runner, init_model(cfg, checkpoint) of mmpanoptic.apis in place of "
            "mmdet's init_detector, or fill them in before with resolve_config(cfg) of "
            "mmpanoptic.engine.config"
        )


class StagedRegistry(Registry):
    """Import ``locations`` one after another until a name is found.

    Differences from the original (``mmengine.registry.Registry``): mmengine imports every location
    at the first look-up. One optional or heavy part (mmdet's detectors, say) would then be paid
    for by every model. A name that a parent registry already holds (``BN``, ``ReLU``) is taken
    from there without importing anything, so names here must not shadow mmengine's. Configs with
    placeholders that nobody has filled in are refused.
    """

    def import_from_location(self) -> None:
        """Do nothing: look-ups import what they need, see :meth:`get`."""

    def import_all(self) -> None:
        """Import every location, so that the registry's content is complete."""
        for location in self._locations:
            import_module(location)

    def build(self, cfg: Any, *args: Any, **kwargs: Any) -> Any:
        """Build an object from its config.

        Raises:
            ConfigError: If the config has placeholders.
        """
        name = cfg.get("type") if isinstance(cfg, Mapping) else "a list of parts"
        refuse_placeholders(str(name), cfg)
        return super().build(cfg, *args, **kwargs)

    def get(self, key: str) -> Any:
        """Look a class up, importing locations as needed.

        Args:
            key (str): Name, with or without scope prefix.

        Returns:
            type | None: The registered class or function; None if nobody knows it.
        """
        scope, name = self.split_scope_key(key)
        if scope in (None, self.scope) and not self._inherits(name, scope):
            for location in self._locations:
                if name in self._module_dict:
                    break
                import_module(location)
        return super().get(key)

    def _inherits(self, name: str, scope: str | None) -> bool:
        if scope is not None:
            return False
        parent = self.parent
        while parent is not None:
            if name in parent.module_dict:
                return True
            parent = parent.parent
        return False


def _child(name: str, *locations: str) -> StagedRegistry:
    """Create the child of ``mmengine.registry.<name>`` with our scope."""
    parent = getattr(mmengine_registry, name)
    return StagedRegistry(
        parent.name,
        parent=parent,
        scope="mmpanoptic",
        locations=[f"mmpanoptic.{location}" for location in locations],
    )


RUNNERS = _child("RUNNERS", "engine.runner")
RUNNER_CONSTRUCTORS = _child("RUNNER_CONSTRUCTORS", "engine")
LOOPS = _child("LOOPS", "engine", "nas", "apis.tuning")
HOOKS = _child("HOOKS", "engine", "nas")
OPTIMIZERS = _child("OPTIMIZERS", "engine")
OPTIM_WRAPPERS = _child("OPTIM_WRAPPERS", "engine")
OPTIM_WRAPPER_CONSTRUCTORS = _child("OPTIM_WRAPPER_CONSTRUCTORS", "engine", "nas")
PARAM_SCHEDULERS = _child("PARAM_SCHEDULERS", "engine")
LOG_PROCESSORS = _child("LOG_PROCESSORS", "engine")

STRATEGIES = _child("STRATEGIES")
FUNCTIONS = _child("FUNCTIONS")

DATASETS = _child(
    "DATASETS",
    "datasets.panoptic_dataset",
    "datasets.coco_panoptic",
    "datasets.cityscapes_panoptic",
    "datasets.ade20k_panoptic",
    "datasets.mapillary_panoptic",
    "datasets.sharded_dataset",
    "datasets.shapes.dataset",
    "datasets.image_folder",
)
DATA_SAMPLERS = _child("DATA_SAMPLERS", "datasets.samplers", "datasets.batch_samplers")
TRANSFORMS = _child("TRANSFORMS", "datasets.transforms")

# In the order in which a look-up tries them: rooms that need only mmengine and mmcv come first,
# rooms that build on mmdet's or mmsegmentation's models last.
MODELS = _child(
    "MODELS",
    "models.data_preprocessors",
    "models.segmentors.panoptic_segmentor",
    "models.segmentors.cops",
    "models.segmentors.panoptic_tta",
    "models.segmentors.image_classifier",
    "models.segmentors.transformers_segmentor",
    "models.segmentors.mmdet_segmentor",
    "models.backbones",
    "models.semantic_heads",
    "models.instance_heads",
    "models.fusion_heads",
    "models.losses",
    "models.necks",
    "models.backbones.efficientnet",
    "models.instance_heads.solov2",
    "models.roi_heads",
    "models.semantic_heads.searchable_head",
    "models.segmentors.two_stage",
    "models.segmentors.two_stage_tta",
    "models.segmentors.auto_panoptic",
)
TASK_UTILS = _child("TASK_UTILS", "models.task_modules")
WEIGHT_INITIALIZERS = _child("WEIGHT_INITIALIZERS")
MODEL_WRAPPERS = _child("MODEL_WRAPPERS")

METRICS = _child(
    "METRICS",
    "evaluation.panoptic_metric",
    "evaluation.semantic_metric",
    "evaluation.cityscapes_metric",
    "evaluation.coco_metric",
    "evaluation.class_metric",
)
EVALUATOR = _child("EVALUATOR", "evaluation.separate_evaluator")
VISUALIZERS = _child("VISUALIZERS", "visualization")
VISBACKENDS = _child("VISBACKENDS", "visualization.backends")
INFERENCERS = _child("INFERENCERS", "apis.inferencer")


def registries() -> list[StagedRegistry]:
    """List all registries of this module."""
    module = vars(sys.modules[__name__])
    return [value for value in module.values() if isinstance(value, StagedRegistry)]


def register_all_modules() -> None:
    """Import every registered part, as ``register_all_modules`` of the OpenMMLab packages does."""
    for registry in registries():
        registry.import_all()
