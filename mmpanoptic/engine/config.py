"""Fill the placeholders of a config: its variables, the dataset's class counts, feature maps."""

from __future__ import annotations

import inspect
import re
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import Registry

from mmpanoptic.registry import DATASETS, PLACEHOLDER, ConfigError, placeholders

from ..datasets import PanopticDataset, read_label_table
from ..datasets.label_tables import merge_metainfo, table_from_metainfo
from ..structures import LabelTable
from ..utils.format_errors import PanopticFormatError
from .argument_names import taken_by
from .config_keys import did_you_mean, in_place_of
from .feature_maps import FEATURE_MAPS, measure_feature_maps
from .size_settings import SIZE_SETTINGS, SizeChoice, choose_sizes
from .type_names import LOADERS, unknown_kind

CLASS_COUNTS: dict[str, Callable[[LabelTable], Any]] = {
    "num_classes": len,
    "num_things": lambda table: table.num_things,
    "num_stuff": lambda table: table.num_stuff,
    "thing_labels": lambda table: table.thing_labels,
    "stuff_labels": lambda table: table.stuff_labels,
    "class_names": lambda table: [label.name for label in table.labels],
}
"""Placeholders that stand for a number or list of the dataset's label table."""

LATER = {*CLASS_COUNTS, *FEATURE_MAPS, *SIZE_SETTINGS}
"""Placeholders that are no variables of the config."""


def resolve_config(
    cfg: Config,
    dataset_meta: Mapping[str, Any] | None = None,
    sizes: Mapping[str, Any] | None = None,
) -> Config:
    """Replace every string ``"$name"`` of a config by the value it stands for.

    ``$num_classes``, ``$num_things``, ``$num_stuff``, ``$thing_labels``, ``$stuff_labels`` and
    ``$class_names`` come from the dataset's label table, ``$feature_channels`` and
    ``$feature_strides`` from the model's backbone, ``$size_...`` from the training's annotation
    file (:func:`fill_sizes`); any other name
    is a top-level variable of the config, so that ``--cfg-options
    data_root=... max_iters=...`` reaches every place. ``"$max_iters*2/3-1"`` takes a share, rounded
    down, and then subtracts.

    Args:
        cfg (Config): Whole config; changed in place.
        dataset_meta (Mapping | None): Label table as metainfo, from a checkpoint for instance.
            Without it the table comes from the first dataloader of the config: its metainfo, or
            the categories of its annotation file.
        sizes (Mapping | None): Values of ``$size_...`` that a checkpoint keeps; without them the
            annotation file is measured.

    Returns:
        Config: ``cfg`` without placeholders. No file is read if none needs one.

    Raises:
        ConfigError: If a placeholder has an unknown name, or there is no dataset or backbone to
            ask.
    """
    for key, value in resolve_variables(cfg).items():
        cfg[key] = value
    choice = fill_sizes(cfg, sizes, prefer_stored=True)
    if choice is not None and not choice.known:
        warnings.warn(f"usual sizes of photographs are taken: {choice}", stacklevel=2)
    if any(match[1] in FEATURE_MAPS for match in placeholders(cfg.get("model"))):
        cfg.model = _replace(cfg.model, _feature_maps_of(cfg.model), "model", set(CLASS_COUNTS))
    if next(placeholders(cfg.get("model")), None) is None:
        return cfg
    table = LabelTable.from_metainfo(dataset_meta) if dataset_meta else label_table_of(cfg)
    counts = {name: count(table) for name, count in CLASS_COUNTS.items()}
    cfg.model = _replace(cfg.model, counts, "model", keep=set())
    return cfg


def resolve_variables(cfg: Config) -> ConfigDict:
    """Replace the placeholders that stand for the config's own variables.

    Args:
        cfg (Config): Whole config; it is not changed.

    Returns:
        ConfigDict: The top-level settings; what comes from the label table still stands there.

    Raises:
        ConfigError: If a placeholder has an unknown name.
    """
    variables = {key: value for key, value in cfg.items() if key not in LATER}
    return ConfigDict(
        {key: _replace(value, variables, key, keep=LATER) for key, value in variables.items()}
    )


def fill_sizes(
    cfg: Config, stored: Mapping[str, Any] | None = None, prefer_stored: bool = False
) -> SizeChoice | None:
    """Replace the ``$size_...`` of a config whose variables are filled in.

    Args:
        cfg (Config): Changed in place.
        stored (Mapping | None): Values that a checkpoint keeps.
        prefer_stored (bool): See :func:`.size_settings.choose_sizes`.

    Returns:
        SizeChoice | None: What was chosen, and from what; None if there was nothing to replace.
    """
    leaf = next(_leaves(cfg.get("train_dataloader")), None)
    choice = choose_sizes(cfg, leaf, stored, prefer_stored)
    if choice is not None:
        keep = {*CLASS_COUNTS, *FEATURE_MAPS}
        values = {**dict(cfg.items()), **choice.settings}
        for name, value in cfg.items():
            cfg[name] = _replace(value, values, name, keep)
    return choice


def _feature_maps_of(model: Mapping[str, Any]) -> dict[str, list[int]]:
    backbone = model.get("backbone")
    if not backbone and model.get("module"):  # wrapped for test-time augmentation
        return _feature_maps_of(model["module"])
    if not backbone:
        raise ConfigError(f"{', '.join('$' + name for name in FEATURE_MAPS)} need model.backbone")
    with explained_build_errors():
        return measure_feature_maps(backbone)


def label_table_of(cfg: Config) -> LabelTable:
    """Read the label table of the first dataset that a resolved config names.

    Raises:
        ConfigError: If the config has no dataloader.
    """
    for name in LOADERS:
        dataloader = cfg.get(name)
        if dataloader and dataloader.get("dataset"):
            return read_label_table(dataloader["dataset"])
    raise ConfigError(
        f"the model's class counts come from a dataset, but the config has none of "
        f"{', '.join(LOADERS)}; add one, or write numbers in place of "
        f"{', '.join('$' + name for name in CLASS_COUNTS)}"
    )


def _replace(node: Any, values: Mapping[str, Any], place: str, keep: set[str]) -> Any:
    """Rebuild a config node with the placeholders replaced, except the names in ``keep``."""
    if isinstance(node, Mapping):
        return ConfigDict({k: _replace(v, values, f"{place}.{k}", keep) for k, v in node.items()})
    if isinstance(node, list | tuple):
        items = [_replace(v, values, f"{place}[{i}]", keep) for i, v in enumerate(node)]
        return type(node)(items)
    match = PLACEHOLDER.fullmatch(node) if isinstance(node, str) else None
    if match is None or match[1] in keep:
        return node
    name, share, whole, addend = match.groups()
    if name not in values or values[name] == node:
        known = ", ".join(f"${key}" for key in dict.fromkeys((*sorted(LATER), *sorted(values))))
        raise ConfigError(f"{place} = {node!r} names nothing; known here: {known}")
    value = _replace(values[name], values, place, keep)  # a variable may hold placeholders, too
    if isinstance(value, str) and (share or addend) and PLACEHOLDER.fullmatch(value):
        return node  # a share of what is not known yet
    if share:
        value = max(min(value, 1), value * int(share) // int(whole))  # of something, something
    return value + int(addend) if addend else value


# ---- one label table for all datasets ---------------------------------------------------------


def share_label_table(cfg: Config, stored: LabelTable | None = None) -> LabelTable | None:
    """Let all datasets of a run number their classes alike.

    A dataset whose classes come from its annotation file would number them in the order of that
    file. Here it gets the run's table as metainfo and looks its categories up there, by id, name
    and isthing; a category that is not in the table is an error when the file is read.

    Args:
        cfg (Config): Whole config, whose variables are filled in; its datasets are changed in
            place.
        stored (LabelTable | None): Of a checkpoint. Where it has the classes of the config's
            dataset in another order, that order holds; where the dataset's annotation file is not
            there, it holds altogether.

    Returns:
        LabelTable | None: The run's table; None if there is no panoptic dataset, or no file to
        ask.

    Raises:
        ConfigError: If a dataset is configured with other classes.
    """
    for name, value in resolve_variables(cfg).items():
        cfg[name] = value
    leaves = [(name, leaf) for name in LOADERS for leaf in _leaves(cfg.get(name))]
    if not leaves:
        return None
    try:
        table: LabelTable | None = label_table_of(cfg)
    except PanopticFormatError:
        table = stored  # a machine for testing need not have the training data
    if table is None:
        return None
    if stored is not None and not table.difference(stored):
        table = table.ordered_as(stored)
    for name, leaf in leaves:
        _give_table(leaf, table, name)
    return table


def stored_label_table(checkpoint: Mapping[str, Any]) -> LabelTable | None:
    """Read the label table of a checkpoint; None if it has none (other toolboxes store less)."""
    meta = checkpoint.get("meta")
    found = meta.get("dataset_meta") if isinstance(meta, Mapping) else None
    if not isinstance(found, Mapping) or not {"classes", "dataset_ids", "isthing"} <= found.keys():
        return None
    return LabelTable.from_metainfo(found)


def stored_sizes(checkpoint: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Read what ``$size_...`` stood for when a checkpoint was trained; None if it does not say."""
    meta = checkpoint.get("meta")
    return (meta.get("size_settings") or None) if isinstance(meta, Mapping) else None


def _leaves(node: Any) -> Iterator[Any]:
    """Walk through the configs of loaders and wrappers to those of panoptic datasets."""
    if isinstance(node, list | tuple):
        for part in node:
            yield from _leaves(part)
    elif isinstance(node, Mapping):
        inner = node.get("dataset") or node.get("datasets")
        if inner:
            yield from _leaves(inner)
        elif issubclass(_class_of(node), PanopticDataset):
            yield node


def _class_of(dataset: Mapping[str, Any]) -> type:
    kind = dataset.get("type")
    found = DATASETS.get(kind) if isinstance(kind, str) else kind
    return found if inspect.isclass(found) else object


def _give_table(leaf: Any, table: LabelTable, loader: str) -> None:
    own = table_from_metainfo(merge_metainfo(_class_of(leaf), leaf.get("metainfo")))
    if own is not None:
        difference = own.difference(table)
        if difference:
            raise ConfigError(
                f"the classes of {loader}'s dataset ({leaf.get('type')}) are not those of the "
                f"model: {difference}. Give all datasets one dataset_type and metainfo"
            )
        if own.is_ordered_as(table):
            return
        table = own.ordered_as(table)  # the ids may be others: each file has its own numbering
    facts = table.to_metainfo()
    given = {name: facts[name] for name in ("classes", "dataset_ids", "isthing", "palette")}
    leaf["metainfo"] = {**(leaf.get("metainfo") or {}), **given}


# ---- errors -----------------------------------------------------------------------------------


@contextmanager
def explained_build_errors() -> Iterator[None]:
    """Turn wrong names of arguments and types in configs into one line with the nearest known."""
    try:
        yield
    except (TypeError, KeyError, AttributeError) as error:
        text = _explain_build_error(error)
        if text is None:
            raise
        raise ConfigError(text) from error


def _explain_build_error(error: Exception) -> str | None:
    """Say what is wrong with a config; None if the error does not come from building a part."""
    inner = error.__context__  # mmengine says again what a hook has raised, and adds the hook
    if isinstance(inner, TypeError) and str(error).startswith(str(inner)):
        error = inner
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    values = frames[-1].f_locals
    given = _keys_at_hand(values)
    if isinstance(values.get("self"), ConfigDict):
        return _explain_lack("a part of the config", _QUOTED.findall(str(error))[-1], given)
    if isinstance(error, AttributeError):  # of arguments that mmdet asks for by "..."
        missing = [name for name, value in values.items() if value is ...]
        owner = type(values.get("self")).__name__
        return _explain_lack(owner, missing[0], values.get("kwargs", ())) if missing else None
    if isinstance(error, KeyError):
        if frames[-1].f_code.co_name != "build_from_cfg" or values.get("registry") is None:
            return None
        return _explain_kind(values["registry"], values.get("obj_type"), values.get("cfg"))
    match = _REFUSED.search(str(error))
    built = match and _class_in(frames, match[1])
    if match is None or built is None:
        return None
    name, (known, _) = match[3], taken_by(built)
    given |= {key for frame in frames[-6:-1] for key in _keys_at_hand(frame.f_locals)}
    if match[2].startswith("missing"):
        return _explain_lack(built.__name__, name, given - known)
    if name not in given:
        return None  # no config has said so: a fault of the program
    return (
        f"{built.__name__} got an unexpected keyword argument '{name}'{did_you_mean(name, known)}"
    )


_REFUSED = re.compile(r"(\w+)\.__init__\(\) (got an unexpected|missing \d+ required).*?'(\w+)'")
_QUOTED = re.compile(r"'(\w+)'")


def _keys_at_hand(values: Mapping[str, Any]) -> set[str]:
    """List the keys of all mappings that a function holds, and of its object's attributes."""
    own = getattr(values.get("self"), "__dict__", {}).values()
    held = (*values.values(), *own, values.get("self"))
    return {str(key) for value in held if isinstance(value, Mapping) for key in value}


def _class_in(frames: Sequence[FrameType], name: str) -> type | None:
    """Find a class or one that is built on it by name in what the innermost functions hold."""
    for frame in frames[:-7:-1]:
        held = (*frame.f_locals.values(), *frame.f_globals.values())
        built_on = [
            value
            for value in held
            if inspect.isclass(value) and name in [base.__name__ for base in value.__mro__]
        ]
        if built_on:
            return min(built_on, key=lambda found: found.__name__ != name)
    return None


def _explain_lack(owner: str, name: str, given: Iterable[str]) -> str:
    hint = in_place_of(name, given) or ", it has " + ", ".join(map(str, given))
    return f"{owner} needs {name}{hint}"


def _explain_kind(registry: Registry, kind: Any, given: Any) -> str | None:
    """Say which kind a registry does not know, or that a part says none."""
    if isinstance(kind, str):
        return unknown_kind("", registry, kind)
    if isinstance(given, Mapping) and "type" not in given:
        return _explain_lack(f"a {registry.name}", "type", given)
    return None
