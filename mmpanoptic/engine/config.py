"""Fill the placeholders of a config: its own variables and the dataset's class counts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any

from mmengine.config import Config, ConfigDict

from ..datasets import read_label_table
from ..structures import LabelTable

CLASS_COUNTS: dict[str, Callable[[LabelTable], Any]] = {
    "num_classes": len,
    "num_things": lambda table: table.num_things,
    "num_stuff": lambda table: table.num_stuff,
    "thing_labels": lambda table: table.thing_labels,
    "stuff_labels": lambda table: table.stuff_labels,
}
"""Placeholders that stand for a number or list of the dataset's label table."""

READ_SETTINGS = frozenset(
    {
        *(f"{part}_{kind}" for part in ("train", "val", "test") for kind in ("dataloader", "cfg")),
        *("val_evaluator", "test_evaluator", "tta_model", "tta_pipeline"),
        *("model", "data_preprocessor", "model_wrapper_cfg", "find_unused_parameters", "sync_bn"),
        *(
            "optim_wrapper",
            "param_scheduler",
            "auto_scale_lr",
            "activation_checkpointing",
            "compile",
        ),
        *("default_hooks", "custom_hooks", "visualizer", "log_processor", "log_level"),
        *("load_from", "initial_weights", "resume", "trust_checkpoint", "work_dir", "launcher"),
        *("env_cfg", "randomness", "experiment_name", "default_scope", "custom_imports"),
        *("runner_type", "search_space", "efficient_conv_bn_eval"),
    }
)
"""Top-level settings that the runner or a tool reads by name."""

DATALOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")

_PLACEHOLDER = re.compile(r"\$(\w+)(?:\*(\d+)/(\d+))?([+-]\d+)?")


def resolve_config(cfg: Config, dataset_meta: Mapping[str, Any] | None = None) -> Config:
    """Replace every string ``"$name"`` of a config by the value it stands for.

    ``$num_classes``, ``$num_things``, ``$num_stuff``, ``$thing_labels`` and ``$stuff_labels`` come
    from the dataset's label table; any other name is a top-level variable of the config, so that
    ``--cfg-options data_root=... max_iters=...`` reaches every place. ``"$max_iters*2/3-1"`` takes
    a share, rounded down, and then subtracts.

    Args:
        cfg (Config): Whole config; changed in place.
        dataset_meta (Mapping | None): Label table as metainfo, from a checkpoint for instance.
            Without it the table comes from the first dataloader of the config: its metainfo, or
            the categories of its annotation file.

    Returns:
        Config: ``cfg`` without placeholders. No file is read if none needs the label table.

    Raises:
        ValueError: If a placeholder has an unknown name, or there is no dataset to ask.
    """
    for key, value in resolve_variables(cfg).items():
        cfg[key] = value
    if not _has_placeholder(cfg.get("model")):
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
        ValueError: If a placeholder has an unknown name.
    """
    variables = {key: value for key, value in cfg.items() if key not in CLASS_COUNTS}
    return ConfigDict(
        {
            key: _replace(value, variables, key, keep=set(CLASS_COUNTS))
            for key, value in variables.items()
        }
    )


def check_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Refuse options whose setting nothing would read.

    A setting counts if the runner or a tool reads it, or if such a setting holds ``"$name"``, also
    through other variables. What only the text of a config used while it was read does not.

    Args:
        cfg (Config): The config with its placeholders, before or after the options are merged.
        options (Mapping): Dotted names and values, as ``Config.merge_from_dict`` takes them.

    Raises:
        ValueError: If an option changes nothing; the message lists names that are alike.
    """
    used = set(READ_SETTINGS)
    waiting = [*(cfg.get(name) for name in used), *options.values()]
    while waiting:
        for name in _named_in(waiting.pop()) - used:
            used.add(name)
            waiting.append(cfg.get(name))
    used -= CLASS_COUNTS.keys()
    for option in options:
        name = option.partition(".")[0]
        if name not in used:
            raise ValueError(_explain_unused(option, name, cfg, used))


def _explain_unused(option: str, name: str, cfg: Config, used: set[str]) -> str:
    if name in CLASS_COUNTS:
        reason = "the number comes from the dataset's classes"
    elif name in cfg:
        reason = "its text uses the name while it is read, and not after that"
    else:
        reason = "it has no such name"
    alike = difflib.get_close_matches(name, sorted(used & cfg.keys()), n=3)
    hint = f" Alike: {', '.join(alike)}." if alike else ""
    return (
        f"--cfg-options {option} would change nothing in this config: {reason}.{hint} "
        "tools/analysis_tools/print_config.py shows what there is"
    )


def label_table_of(cfg: Config) -> LabelTable:
    """Read the label table of the first dataset that a resolved config names.

    Raises:
        ValueError: If the config has no dataloader.
    """
    for name in DATALOADERS:
        dataloader = cfg.get(name)
        if dataloader and dataloader.get("dataset"):
            return read_label_table(dataloader["dataset"])
    raise ValueError(
        f"the model's class counts come from a dataset, but the config has none of "
        f"{', '.join(DATALOADERS)}; add one, or write numbers in place of "
        f"{', '.join('$' + name for name in CLASS_COUNTS)}"
    )


def _named_in(node: Any) -> set[str]:
    """Collect the names of the placeholders below a node."""
    if isinstance(node, Mapping):
        return set().union(*(_named_in(value) for value in node.values()))
    if isinstance(node, list | tuple):
        return set().union(*(_named_in(value) for value in node))
    return {_PLACEHOLDER.fullmatch(node)[1]} if _is_placeholder(node) else set()  # type: ignore[index]


def _is_placeholder(node: Any) -> bool:
    return isinstance(node, str) and _PLACEHOLDER.fullmatch(node) is not None


def _has_placeholder(node: Any) -> bool:
    if isinstance(node, Mapping):
        return any(_has_placeholder(value) for value in node.values())
    if isinstance(node, list | tuple):
        return any(_has_placeholder(value) for value in node)
    return _is_placeholder(node)


def _replace(node: Any, values: Mapping[str, Any], place: str, keep: set[str]) -> Any:
    """Rebuild a config node with the placeholders replaced, except the names in ``keep``."""
    if isinstance(node, Mapping):
        items = {k: _replace(v, values, f"{place}.{k}", keep) for k, v in node.items()}
        return ConfigDict(items)
    if isinstance(node, list | tuple):
        items = [_replace(v, values, f"{place}[{i}]", keep) for i, v in enumerate(node)]
        return type(node)(items)
    if not _is_placeholder(node):
        return node
    name, share, whole, addend = _PLACEHOLDER.fullmatch(node).groups()  # type: ignore[union-attr]
    if name in keep:
        return node
    if name not in values or values[name] == node:
        known = ", ".join(f"${key}" for key in (*CLASS_COUNTS, *sorted(values)))
        raise ValueError(f"{place} = {node!r} names nothing; known here: {known}")
    value = _replace(values[name], values, place, keep)  # a variable may hold placeholders, too
    if share:
        value = value * int(share) // int(whole)
    return value + int(addend) if addend else value
