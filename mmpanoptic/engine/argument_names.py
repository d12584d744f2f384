"""Names of arguments that nothing takes, in parts of a config that a training builds late or never.

What a training builds at its start is refused there, by the part itself. A test's pipeline, a
learning rate for a part that does not exist or the initialisation of a layer would go wrong hours
later, or in silence.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import torch
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import Registry
from torch import nn
from torch.utils.data import DataLoader

from mmpanoptic.registry import (
    DATA_SAMPLERS,
    DATASETS,
    FUNCTIONS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIMIZERS,
    TASK_UTILS,
    TRANSFORMS,
    WEIGHT_INITIALIZERS,
    ConfigError,
)

from .config_keys import did_you_mean
from .type_names import LOADERS, parts_of, unknown_kind

SURE = 0.8
"""How alike a name is to a known one if it is taken for it, where any name is allowed."""
_LOADER = {"dataset", "sampler", "batch_sampler", "collate_fn", "worker_init_fn"}
_LOADER |= {"num_batch_per_epoch", "disable_subprocess_warning"}
_INNER = {
    "dataset": DATASETS,
    "datasets": DATASETS,
    "pipeline": TRANSFORMS,
    "transforms": TRANSFORMS,
    "sampler": DATA_SAMPLERS,
    "batch_sampler": DATA_SAMPLERS,
    "collate_fn": FUNCTIONS,
    "worker_init_fn": FUNCTIONS,
}
"""What the parts below a name are; below any other name they are parts of the same kind."""
_PARAMWISE = {
    *("custom_keys", "bias_lr_mult", "bias_decay_mult", "norm_decay_mult", "dwconv_decay_mult"),
    *("dcn_offset_lr_mult", "flat_decay_mult", "bypass_duplicate"),
}
_CUSTOM_KEY = ("lr_mult", "decay_mult")
_PREFIX = ("img", "seg")
_META = ("classes", "dataset_ids", "isthing", "palette")
_HOOKS = (
    *("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint"),
    "visualization",
)
_LOGGED = ("data_src", "method_name", "log_name", "window_size")
_TWO_STAGE = {
    "train_cfg": {"rpn", "rpn_proposal", "rcnn"},
    "train_cfg.rpn": {"assigner", "sampler", "allowed_border", "pos_weight", "debug"},
    "train_cfg.rpn_proposal": {"nms_pre", "max_per_img", "max_per_batch", "nms", "min_bbox_size"},
    "train_cfg.rcnn": {"assigner", "sampler", "mask_size", "pos_weight", "debug"},
    "test_cfg": {"rpn", "rcnn"},
    "test_cfg.rpn": {"nms_pre", "max_per_img", "nms", "min_bbox_size"},
    "test_cfg.rcnn": {"score_thr", "nms", "max_per_img", "mask_thr_binary"},
}
"""Settings of two-stage models, which mmdet's heads read where they need them."""
_MASK_SET = ("num_points", "oversample_ratio", "importance_sample_ratio", "assigner", "sampler")
"""Settings of a training of mmdet's MaskFormer and Mask2Former."""
_NMS = (
    *("type", "iou_threshold", "class_agnostic", "split_thr", "max_num", "score_threshold"),
    "offset",
)


def check_arguments(cfg: Mapping[str, Any]) -> None:
    """Refuse names of arguments that nothing takes.

    Args:
        cfg (Mapping): A config whose variables are filled in.

    Raises:
        ConfigError: With the place and the nearest name that is taken.
    """
    for name in ("val_dataloader", "test_dataloader"):
        _check_loader(cfg.get(name), name)
    collate = (cfg.get("train_dataloader") or {}).get("collate_fn")
    _check_part(collate, "train_dataloader.collate_fn", FUNCTIONS)
    for name, registry in (("tta_pipeline", TRANSFORMS), ("tta_model", MODELS)):
        _check_part(cfg.get(name), name, registry)
    for name in ("val_evaluator", "test_evaluator"):
        _check_part(cfg.get(name), name, METRICS)
    for place, node in _named("init_cfg", cfg.get("model"), "model"):
        _check_initialisation(node, place)
    loaders = {name: cfg.get(name) for name in LOADERS}
    for name, known in (("metainfo", _META), ("data_prefix", _PREFIX)):
        for place, node in _named(name, loaders, ""):
            _refuse_near(node, known, place)
    _refuse_near(cfg.get("default_hooks"), _HOOKS, "default_hooks")
    for number, entry in enumerate((cfg.get("log_processor") or {}).get("custom_cfg") or ()):
        _refuse_near(entry, _LOGGED, f"log_processor.custom_cfg.{number}")
    for name in ("val_cfg", "test_cfg"):
        _check_part(cfg.get(name), name, LOOPS)
    _check_optimization(cfg.get("optim_wrapper") or {})
    _check_two_stage(cfg.get("model") or {})


def _check_loader(loader: Any, place: str) -> None:
    if isinstance(loader, Mapping):
        _refuse_unknown(loader, {*inspect.signature(DataLoader).parameters, *_LOADER}, place)
        for name in _LOADER & loader.keys():
            _check_part(loader[name], f"{place}.{name}", _INNER.get(name, FUNCTIONS))


def _check_part(node: Any, place: str, registry: Registry) -> None:
    """Compare the names of a part, and of the parts in it, with what their classes take."""
    if isinstance(node, list | tuple):
        for number, part in enumerate(node):
            _check_part(part, f"{place}.{number}", registry)
    if not isinstance(node, Mapping):
        return
    kind = node.get("type")
    if kind is not None:
        found = registry.get(kind) if isinstance(kind, str) else kind
        if found is None:
            raise ConfigError(unknown_kind(place, registry, str(kind)))
        names, closed = taken_by(found)
        given = [name for name in node if name not in ("type", "_scope_")]
        check = _refuse_unknown if closed else _refuse_near
        check(given, names, place, f" of {found.__name__}")
    for name, part in node.items():
        _check_part(part, f"{place}.{name}", _INNER.get(name, registry))


def taken_by(kind: Callable[..., Any]) -> tuple[set[str], bool]:
    """List the names of arguments that a class or function takes.

    Args:
        kind (Callable): The class or function.

    Returns:
        tuple[set[str], bool]: The names, those of its base classes among them if it hands others
        on; whether that are all.
    """
    if not inspect.isclass(kind):
        parameters = inspect.signature(kind).parameters.values()
        open_ = any(one.kind is one.VAR_KEYWORD for one in parameters)
        return {one.name for one in parameters}, not open_
    names: set[str] = set()
    closed = True
    for base in kind.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        names |= {one.name for one in parameters}
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            break
        closed = False  # what it does with others, only its code knows
    return names - {"self", "args", "kwargs"}, closed


def _refuse_unknown(
    given: Iterable[str], known: Collection[str], place: str, owner: str = ""
) -> None:
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known) or f"; known are {', '.join(sorted(known))}"
            raise ConfigError(f"nothing reads {place}.{name}{owner}{hint}")


def _refuse_near(
    given: Iterable[str] | None, known: Collection[str], place: str, owner: str = ""
) -> None:
    """Refuse a name that is nearly a known one; others may be read by somebody."""
    for name in given or ():
        near = difflib.get_close_matches(name, known, n=1, cutoff=SURE)
        if name not in known and near:
            raise ConfigError(f"nothing reads {place}.{name}{owner}; did you mean {near[0]}?")


def _named(name: str, node: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Find the parts of a name at any depth."""
    for key, part in parts_of(node):
        inner = f"{place}.{key}" if place else str(key)
        if key == name:
            yield inner, part
        else:
            yield from _named(name, part, inner)


def _check_initialisation(node: Any, place: str) -> None:
    for one in node if isinstance(node, list | tuple) else [node]:
        if not isinstance(one, Mapping):
            continue
        if "type" not in one:
            hint = did_you_mean(next(iter(one), ""), ["type"])
            raise ConfigError(f"{place} has no type, an initialisation as Kaiming{hint}")
        override = one.get("override") or ()
        for part in override if isinstance(override, list | tuple) else [override]:
            if isinstance(part, Mapping) and "name" not in part:
                hint = did_you_mean(next(iter(part), ""), ["name"])
                raise ConfigError(f"{place}.override has no name, of the part it is for{hint}")
        own = {name: value for name, value in one.items() if name != "override"}
        _check_part(own, place, WEIGHT_INITIALIZERS)


# ---- optimisation and two-stage models ---------------------------------------------------------


def _check_optimization(wrapper: Mapping[str, Any]) -> None:
    _check_part(wrapper.get("optimizer"), "optim_wrapper.optimizer", OPTIMIZERS)
    place = "optim_wrapper.paramwise_cfg"
    options = wrapper.get("paramwise_cfg") or {}
    default = DefaultOptimWrapperConstructor.__name__
    check = _refuse_unknown if wrapper.get("constructor", default) == default else _refuse_near
    check(options, _PARAMWISE, place)
    for key, values in (options.get("custom_keys") or {}).items():
        _refuse_near(values, _CUSTOM_KEY, f"{place}.custom_keys.{key}")
    clip = dict(wrapper.get("clip_grad") or {})
    by_value = clip.pop("type", "norm") == "value"
    function = nn.utils.clip_grad_value_ if by_value else nn.utils.clip_grad_norm_
    known = {*inspect.signature(function).parameters} - {"parameters"}
    _refuse_unknown(clip, known, "optim_wrapper.clip_grad")


def _check_two_stage(model: Mapping[str, Any]) -> None:
    detector = model.get("detector") or {}
    if "panoptic_head" in detector:
        _refuse_near(detector.get("train_cfg"), _MASK_SET, "model.detector.train_cfg")
    if not isinstance(model.get("rpn_head"), Mapping):
        return
    for place, known in _TWO_STAGE.items():
        node: Any = model
        for name in place.split("."):
            node = node.get(name) if isinstance(node, Mapping) else None
        if isinstance(node, Mapping):
            _refuse_unknown(node, known, f"model.{place}")
            _refuse_near(node.get("nms"), _NMS, f"model.{place}.nms")
            for part in ("assigner", "sampler"):
                _check_part(node.get(part), f"model.{place}.{part}", TASK_UTILS)


def check_against_model(cfg: Mapping[str, Any], model: nn.Module) -> list[str]:
    """Compare what a config names of a model with the model.

    Args:
        cfg (Mapping): Without placeholders.
        model (nn.Module): Built.

    Returns:
        list[str]: What is strange and may be meant.

    Raises:
        ConfigError: If a layer of an initialisation is of no known kind, a key of
            ``paramwise_cfg.custom_keys`` is nearly the name of a part, or an argument nearly the
            name of one that its class takes.
    """
    modules = [*model.modules()]
    _check_handed_on(cfg.get("model"), "model", {type(one).__name__: type(one) for one in modules})
    kinds = {base.__name__ for module in modules for base in type(module).__mro__}
    for place, node in _named("init_cfg", cfg.get("model"), "model"):
        for one in node if isinstance(node, list | tuple) else [node]:
            layers = one.get("layer") if isinstance(one, Mapping) else None
            for layer in [layers] if isinstance(layers, str) else layers or ():
                if layer not in kinds and not hasattr(torch.nn, layer):
                    hint = did_you_mean(layer, kinds) or "; it is the name of a class, as Conv2d"
                    raise ConfigError(f"{place}: the model has no layer {layer}{hint}")
    names = [name for name, _ in model.named_parameters()]
    parts = {part for name in names for part in name.split(".")}
    notes = []
    wrapper = cfg.get("optim_wrapper") or {}
    for key in (wrapper.get("paramwise_cfg") or {}).get("custom_keys") or ():
        if not any(key in name for name in names):
            place = "optim_wrapper.paramwise_cfg.custom_keys"
            _refuse_near([key.strip(".")], parts, place)
            notes.append(f"{place}.{key} fits no parameter of the model")
    return notes


def _check_handed_on(node: Any, place: str, classes: Mapping[str, type]) -> None:
    """Look at arguments that a class hands on to others, which may take any name."""
    somewhere = {name for one in classes.values() for name in taken_by(one)[0]}
    for inner, part in _typed(node, place):
        found = classes.get(part["type"].rpartition(".")[2])
        names, closed = taken_by(found) if found else (set(), True)
        if found and not closed:
            handed_on = [name for name in part if name not in somewhere]
            _refuse_near(handed_on, {*names, "type"} - {*part}, inner, f" of {found.__name__}")


def _typed(node: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Find the parts that name their kind, at any depth."""
    if isinstance(node, Mapping) and isinstance(node.get("type"), str):
        yield place, node
    for name, part in parts_of(node):
        yield from _typed(part, f"{place}.{name}")


def check_log_names(asked: Iterable[Mapping[str, Any]], logged: Collection[str]) -> list[str]:
    """Compare the sources of ``log_processor.custom_cfg`` with what has been logged.

    Args:
        asked (Iterable[Mapping]): The entries.
        logged (Collection[str]): Names of losses, rates and times.

    Returns:
        list[str]: Sources that are not there and not nearly one; they may come later.

    Raises:
        ConfigError: If a source is nearly one that is there.
    """
    notes = []
    for number, entry in enumerate(asked):
        place, name = f"log_processor.custom_cfg.{number}.data_src", entry.get("data_src")
        if isinstance(name, str) and name not in logged:
            near = did_you_mean(name, logged)
            if near:
                raise ConfigError(f"{place}: nothing logs {name}{near}")
            notes.append(f"{place}: nothing logs {name} so far, but {', '.join(sorted(logged))}")
    return notes
