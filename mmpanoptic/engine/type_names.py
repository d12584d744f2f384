"""Names of kinds that do not exist, where nobody would say which they are.

Most parts are built by a registry, which knows its names. Layers, optimizers, loops and loaders are
built by functions that look names up in their own ways, or hours later, or never.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmengine.registry import Registry

from mmpanoptic.registry import MODELS, ConfigError, placeholders

from .config_keys import did_you_mean, in_place_of

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
_LAYERS = frozenset({"norm_cfg", "conv_cfg", "act_cfg", "upsample_cfg", "padding_cfg"})
_OPERATORS = frozenset({"roi_layer", "nms"})
_NEAR_TYPE = 0.7
"""``tpye`` is as near to ``type``; of the names in use only ``dtype`` is nearer."""


def check_types(cfg: Mapping[str, Any]) -> None:
    """Refuse kinds that do not exist and parts that say none by a slip.

    Args:
        cfg (Mapping): A config, with its placeholders or without.

    Raises:
        ConfigError: With the place and the nearest name.
    """
    for place, node in _mappings(cfg, ""):
        near = difflib.get_close_matches("type", [*map(str, node)], n=1, cutoff=_NEAR_TYPE)
        if place and "type" not in node and near not in ([], ["dtype"]):
            raise ConfigError(f"{place} has no type{in_place_of('type', near)}")
        name = place.rpartition(".")[2]
        if name in _LAYERS:
            _check_layer(node, place)
        elif name in _OPERATORS:
            _check_operator(node, place)
    for name in LOADERS:
        _require(cfg.get(name), "dataset", name)
    wrapper = cfg.get("optim_wrapper")
    if isinstance(wrapper, Mapping) and "constructor" not in wrapper:
        _require(wrapper, "optimizer", "optim_wrapper")
    _check_compile(cfg.get("compile"))


def _mappings(node: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Find the mappings at any depth, with their places."""
    if isinstance(node, Mapping):
        yield place, node
    for key, part in parts_of(node):
        yield from _mappings(part, f"{place}.{key}".lstrip("."))


def parts_of(node: Any) -> Iterable[tuple[Any, Any]]:
    """List the parts of a mapping or list with their keys; of anything else none."""
    if isinstance(node, Mapping):
        return node.items()
    return enumerate(node) if isinstance(node, list | tuple) else ()


def _require(node: Any, name: str, place: str) -> None:
    if isinstance(node, Mapping) and name not in node:
        raise ConfigError(f"{place} has no {name}{in_place_of(name, node)}")


def _written_kind(node: Any) -> str | None:
    """Return the kind that a part names; None if it is a class, or a variable of the config."""
    kind = node.get("type") if isinstance(node, Mapping) else None
    return kind if isinstance(kind, str) and not any(placeholders([kind])) else None


def unknown_kind(place: str, registry: Registry, kind: str) -> str:
    """Say that a registry does not know a kind, and the nearest one that it knows.

    Args:
        place (str): Dotted key of the part; may be empty.
        registry (Registry): Which was asked.
        kind (str): What the config says.

    Returns:
        str: One line.
    """
    known = [*registry.module_dict, *getattr(registry.parent, "module_dict", ())]
    front = f"{place}: " if place else ""
    return f"{front}{registry.scope} has no {registry.name} {kind}{did_you_mean(kind, known)}"


def _check_layer(node: Mapping[str, Any], place: str) -> None:
    import mmcv.cnn  # noqa: F401 - registers the layers, so that nothing else is imported for them

    kind = _written_kind(node)
    if kind is not None and MODELS.get(kind) is None:
        raise ConfigError(unknown_kind(place, MODELS, kind))
    if kind == "GN":  # mmcv asserts it in silence
        _require(node, "num_groups", place)


def _check_operator(node: Mapping[str, Any], place: str) -> None:
    from mmcv import ops

    kind = _written_kind(node)
    if kind is not None and not hasattr(ops, kind):
        hint = did_you_mean(kind, dir(ops))
        raise ConfigError(f"{place}: mmcv.ops has no {kind}{hint}")


def _check_compile(settings: Any) -> None:
    """Compare with what ``torch.compile`` takes, which looks at it in the first iteration."""
    if not settings or settings is True:
        return
    if not isinstance(settings, Mapping):
        raise ConfigError(f"compile is True, False or a dict of settings, got {settings!r}")
    import torch

    known: dict[str, list[str]] = {"": [*inspect.signature(torch.compile).parameters][1:]}
    given: dict[str, Iterable[Any]] = {"": settings}
    if settings.get("mode"):
        known[".mode"] = [*torch._inductor.list_mode_options()]
        given[".mode"] = [settings["mode"]]
    if isinstance(settings.get("backend"), str):
        known[".backend"] = torch._dynamo.list_backends(exclude_tags=())
        given[".backend"] = [settings["backend"]]
    if settings.get("options") and settings.get("backend", "inductor") == "inductor":
        known[".options"] = torch._inductor.list_options()
        given[".options"] = [name.replace("-", "_") for name in settings["options"]]
    for place, names in given.items():
        for name in names:
            if name not in known[place]:
                listed = ", ".join(sorted(known[place])) if len(known[place]) < 20 else "others"
                hint = did_you_mean(name, known[place]) or f"; it has {listed}"
                raise ConfigError(f"compile{place}: torch.compile does not know {name}{hint}")


def check_custom_imports(settings: Any) -> None:
    """Refuse what is no list of modules.

    Args:
        settings: ``custom_imports`` of a config.

    Raises:
        ConfigError: With the nearest name of a setting.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f'custom_imports is dict(imports=["module"]), got {settings!r}')
    for name in settings:
        if name not in (known := ("imports", "allow_failed_imports")):
            raise ConfigError(f"nothing reads custom_imports.{name}{did_you_mean(name, known)}")


def explain_failed_import(name: str, error: ImportError) -> str:
    """Say why a module of ``custom_imports`` cannot be imported.

    Args:
        name (str): What the config names.
        error (ImportError): What Python said.

    Returns:
        str: One line; the nearest module if there is none of the name.
    """
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is None or not f"{name}.".startswith(f"{missing}."):
        return f"custom_imports: {name} cannot be imported: {error}"
    outer, _, inner = missing.rpartition(".")
    spec = importlib.util.find_spec(outer) if outer else None
    folders = spec.submodule_search_locations if spec else None
    siblings = [module.name for module in pkgutil.iter_modules(folders if outer else None)]
    hint = did_you_mean(inner, siblings)
    if hint and outer:
        hint = hint.replace("mean ", f"mean {outer}.")
    where = "; run from the folder that holds it, or name that folder in PYTHONPATH"
    return f"custom_imports: there is no module {missing}{hint or where}"
