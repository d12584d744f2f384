"""What of a config is read: overrides that reach something, and names that do nothing."""

from __future__ import annotations

import ast
import copy
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from mmpanoptic.registry import ConfigError, placeholders

_RUNNER_KEYS = """
    model work_dir train_dataloader val_dataloader test_dataloader train_cfg val_cfg test_cfg
    auto_scale_lr auto_batch optim_wrapper param_scheduler val_evaluator test_evaluator
    default_hooks custom_hooks data_preprocessor load_from resume launcher env_cfg log_processor
    log_level visualizer default_scope randomness experiment_name model_wrapper_cfg sync_bn
    find_unused_parameters activation_checkpointing efficient_conv_bn_eval compile runner_type
    custom_imports trust_checkpoint stored_sizes initial_weights tta_model tta_pipeline search_space
"""
RUNNER_KEYS = frozenset(_RUNNER_KEYS.split())
"""Top-level names that mmengine's runner, ours and the tools read."""

INNER_KEYS = {
    "env_cfg": {"cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit"},
    "env_cfg.mp_cfg": {"mp_start_method", "opencv_num_threads"},
    "env_cfg.dist_cfg": {"backend", "timeout", "init_backend", "init_method"},
    "randomness": {"seed", "diff_rank_seed", "deterministic"},
    "auto_scale_lr": {"enable", "base_batch_size", "accumulative_counts"},
}
"""Names below a top-level one of which mmengine reads no others, without saying so."""

CLASS_COUNT_NAMES = frozenset(
    {"num_classes", "num_things", "num_stuff", "thing_labels", "stuff_labels", "class_names"}
)
"""Placeholders that stand for a number or list of the dataset's label table."""

_PATH_NAME = re.compile(r"(root|dir|folder|file|path|prefix|filename|load_from|initial_weights)$")
_BASE_NAME = re.compile(r"_base_(?:\.|\[['\"])(\w+)")


# ---- names that do nothing --------------------------------------------------------------------


def read_names(cfg: Mapping[str, Any]) -> set[str]:
    """List the top-level names that something reads.

    Args:
        cfg (Mapping): A config with its placeholders.

    Returns:
        set[str]: The names that runner and tools know, and the variables that these refer to,
        directly or by other variables.
    """
    found: set[str] = set()
    waiting = {name for name in cfg if name in RUNNER_KEYS}
    while waiting:
        found |= waiting
        named = {match[1] for name in waiting for match in placeholders(cfg[name])}
        waiting = {name for name in named if name in cfg and name not in CLASS_COUNT_NAMES} - found
    return found


def check_keys(cfg: Config) -> None:
    """Refuse a config with names that nothing reads.

    Names that stand in a base file only are not looked at: whoever inherits the file may have
    replaced what reads them.

    Args:
        cfg (Config): A config with its placeholders, as a file gives it or changed since.

    Raises:
        ConfigError: With the file and the nearest name that is read.
    """
    used, inherited = _python_names(cfg.filename)
    read = read_names(cfg)
    unread = [name for name in cfg if name not in read | used | inherited]
    if unread:
        place = f"{cfg.filename}: " if cfg.filename else ""
        raise ConfigError("\n".join(place + _explain_unread(cfg, name) for name in unread))
    hooks = cfg.get("default_hooks") or {}
    named = [name for name, hook in hooks.items() if isinstance(hook, Mapping) and "type" in hook]
    for name in hooks.keys() - {*named}:
        if hint := did_you_mean(name, named):
            raise ConfigError(f"default_hooks.{name} has no type{hint}")
    for name, known in INNER_KEYS.items():
        outer, _, inner = name.partition(".")
        settings = cfg.get(outer) or {}
        for key in (settings.get(inner) or {}) if inner else settings:
            if key not in known:
                raise ConfigError(f"nothing reads {name}.{key}{did_you_mean(key, known)}")


def _explain_unread(cfg: Mapping[str, Any], name: str) -> str:
    if name in CLASS_COUNT_NAMES:
        return (
            f"{name} = {cfg[name]!r} does nothing: class counts come from the dataset's label "
            f'table; "${name}" in the model stands for its number'
        )
    hint = did_you_mean(name, read_names(cfg) | RUNNER_KEYS)
    return f"nothing reads the setting {name}{hint or '; take it out'}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Name the nearest known name, as the end of a message; empty if none is near."""
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def in_place_of(name: str, given: Iterable[Any]) -> str:
    """Say which given name may be a slip for a needed one, as the end of a message; or nothing."""
    near = difflib.get_close_matches(name, [*map(str, given)], n=1)
    return f"; did you mean {name} in place of {near[0]}?" if near else ""


def _python_names(file: str | None) -> tuple[set[str], set[str]]:
    """List the names that a config file uses as Python variables, and those of its bases."""
    if file is None or not Path(file).is_file():
        return set(), set()
    path = Path(file)
    inherited: set[str] = set()
    if path.suffix == ".py" and Config._is_lazy_import(str(path)):
        # Pure Python configs import their bases: every name is a Python variable.
        return set(Config.fromfile(path, import_custom_modules=False)), set()
    text = path.read_text(encoding="utf-8")
    for name in Config._get_base_files(str(path)):
        base = Config._get_cfg_path(name, str(path))[0]
        inherited |= set(Config.fromfile(base, import_custom_modules=False))
    if path.suffix != ".py":
        return set(), inherited
    names = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)]
    loaded = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    loaded |= set(_BASE_NAME.findall(text))
    assigned = set(_assigned(ast.parse(text).body))
    stored = {node.id for node in names} - assigned  # by loops and the like
    return loaded | stored, inherited - assigned


def _assigned(body: Iterable[ast.stmt]) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = getattr(statement, "targets", None) or [statement.target]  # type: ignore[union-attr]
            for node in (node for target in targets for node in ast.walk(target)):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id


# ---- overrides --------------------------------------------------------------------------------


def apply_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Replace settings of a config.

    Below a placeholder, as in ``train_dataloader.dataset.pipeline.4.prob``, the setting gets a copy
    of the variable's value of its own; overrides of variables come first. Where the config holds a
    path, ``a,b`` and ``2024`` are names of folders.

    Differences from the original (``Config.merge_from_dict``): an override that nothing reads is
    an error, and so is a number that a list does not have; numbers, texts and tuples in lists can
    be replaced, too.

    Args:
        cfg (Config): Changed in place; it still has its placeholders.
        options (Mapping): Values by dotted key. Those of the command line know what was typed, see
            :class:`mmpanoptic.utils.cfg_options.Options`.

    Raises:
        ConfigError: If a key leads nowhere.
    """
    texts = getattr(options, "texts", {})
    waiting: list[str] = []
    for expand in (False, True):
        for key in waiting if expand else options:
            if not _override(cfg, key, options[key], texts.get(key), expand):
                waiting.append(key)
    read = read_names(cfg)
    for key in options:
        name = key.partition(".")[0]
        if name not in read and name not in RUNNER_KEYS:
            raise ConfigError(f"--cfg-options {key}: {_explain_override(cfg, name)}")


def _explain_override(cfg: Config, name: str) -> str:
    used, inherited = _python_names(cfg.filename)
    if name in used | inherited and name not in CLASS_COUNT_NAMES:
        return (
            f"{name} is a variable of the Python file, which has used it already; override the "
            "settings that are made of it, such as model.KEY (print_config.py shows them all)"
        )
    return _explain_unread(cfg, name)


def _override(cfg: Config, key: str, value: Any, text: str | None, expand: bool) -> bool:
    """Set one value; False if the way leads through a placeholder and ``expand`` does not hold."""
    node: Any = cfg
    *parents, last = key.split(".")
    for depth, name in enumerate(parents):
        part = _position(node, name, key)
        child = node[part] if isinstance(part, int) else node.get(part)
        if next(placeholders([child] if isinstance(child, str) else ()), None):
            if not expand:
                return False
            child = value_of(cfg, child)
        node[part] = _own_copy(child, ".".join(parents[: depth + 1]), key)
        node = node[part]  # a Config keeps a copy of what it is given
    place = _position(node, last, key)
    old = node[place] if isinstance(place, int) else node.get(place)
    if text is not None and isinstance(value, int | float | list) and not isinstance(value, bool):
        value = text if _is_path(last, value_of(cfg, old)) else value
    node[place] = _merged(value, old)
    return True


def _merged(value: Any, old: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if isinstance(old, dict) and "_delete_" not in value:
        return Config._merge_a_into_b(dict(value), old, allow_list_keys=True)
    return ConfigDict({name: part for name, part in value.items() if name != "_delete_"})


def value_of(cfg: Config, value: Any) -> Any:
    """Look a placeholder up in the config, through other variables; other values stay."""
    seen = set()
    while isinstance(value, str) and value not in seen:
        seen.add(value)
        match = next(placeholders([value]), None)
        if match is None or match[2] or match[4] or match[1] not in cfg:
            break
        value = cfg[match[1]]
    return value


def _own_copy(node: Any, place: str, key: str) -> Any:
    """Copy what an override goes through, since other places may hold the same object."""
    if node is None:
        return ConfigDict()
    if isinstance(node, Mapping):
        return copy.copy(node)
    if isinstance(node, list | tuple):
        return list(node)
    raise ConfigError(f"--cfg-options {key}: {place} is {node!r}, which has no parts")


def _position(node: Any, part: str, key: str) -> str | int:
    """Read a part of a key as number where it leads into a list."""
    if not isinstance(node, list):
        return part
    if part.isdigit() and int(part) < len(node):
        return int(part)
    names = [item.get("type", "") if isinstance(item, Mapping) else item for item in node]
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(names))
    raise ConfigError(f"--cfg-options {key}: {part} is not a number of the list's ({listed})")


def _is_path(name: str, old: Any) -> bool:
    """Tell whether a setting holds a path, by its present value or its name."""
    if isinstance(old, str) and not old.startswith("$") and ("/" in old or "\\" in old):
        return True
    return bool(_PATH_NAME.search(name))
