"""Find out before a run of several processes whether all of them are about to do the same."""

from __future__ import annotations

import hashlib
import json
import platform
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import torch.distributed as dist
from mmengine.config import Config
from mmengine.dist import all_gather_object, is_main_process

from ..datasets.label_tables import annotation_file
from ..version import __version__

PACKAGES = ("torch", "mmengine", "mmcv", "mmcv-lite", "mmdet")
"""Packages on whose version a result may depend."""
SHOWN = 4
"""Settings of the config that a message names."""

_PACKAGE = Path(__file__).resolve().parent.parent
_CODE = (".py", ".so", ".pyd", ".yml")
_ABSENT, _HASH = "absent", "sha256 "


class RankMismatchError(RuntimeError):
    """A process of the run has another version, config or annotation file than the others."""


def compare_ranks(cfg: Config) -> None:
    """Compare versions, code, config and annotation files of all processes.

    A few hashes travel; the settings themselves only where they differ. To be called by all.

    Args:
        cfg (Config): What this process is about to run.

    Raises:
        RankMismatchError: On the first process, with one line that names those that differ. The
            others exit with status 1.
    """
    settings = dict(_flat(cfg._cfg_dict))
    facts = all_gather_object({**describe_process(cfg), "config": _hash(repr(settings).encode())})
    unlike = differences(facts)
    if any("config" in names for names in unlike.values()):
        everyone = all_gather_object(settings)
        for rank, names in differences(everyone).items():
            unlike[rank] = {n: v for n, v in unlike.get(rank, {}).items() if n != "config"} | {
                f"config: {name}": value for name, value in names.items()
            }
    if not unlike:
        return
    hosts = all_gather_object(socket.gethostname())
    if is_main_process():
        raise RankMismatchError(
            "; ".join(_sentence(rank, hosts[rank], names) for rank, names in unlike.items())
            + ". Make them equal and start again"
        )
    with suppress(RuntimeError):  # until the first one has said so
        dist.barrier()
    raise SystemExit(1)


def describe_process(cfg: Config) -> dict[str, str]:
    """Collect what must be equal in all processes.

    Args:
        cfg (Config): What this process is about to run.

    Returns:
        dict[str, str]: Versions and hashes by name.
    """
    python = ".".join(platform.python_version_tuple()[:2])
    facts = {"Python": python, "mmpanoptic": __version__}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            facts[name] = metadata.version(name)
    files = sorted(path for path in _PACKAGE.rglob("*") if path.suffix in _CODE)
    code = b"".join(f"{p.relative_to(_PACKAGE)}\0".encode() + p.read_bytes() for p in files)
    facts["the code of mmpanoptic"] = _hash(code)
    for name in (cfg.get("custom_imports") or {}).get("imports", ()):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file:
            facts[f"the code of {name}"] = _hash_file(Path(file))
    for path in sorted(set(_annotations(cfg._cfg_dict))):
        facts[f"the annotation file {path}"] = _hash_file(path)
    return facts


def differences(facts: Sequence[Mapping[str, str]]) -> dict[int, dict[str, str]]:
    """Find the ranks that differ from most; of equally many, from the first one's.

    Args:
        facts (Sequence[Mapping]): By rank.

    Returns:
        dict[int, dict[str, str]]: By rank what differs: its name, and how.
    """
    unlike: dict[int, dict[str, str]] = {}
    for name in dict.fromkeys(name for one in facts for name in one):
        values = [one.get(name, _ABSENT) for one in facts]
        usual = Counter(values).most_common(1)[0][0]  # of ties the one that came first
        for rank, value in enumerate(values):
            if value != usual:
                words = f"is {value} instead of {usual}"
                if _HASH in value + usual:
                    words = "is absent" if value == _ABSENT else "differs"
                unlike.setdefault(rank, {})[name] = words
    return dict(sorted(unlike.items()))


def _sentence(rank: int, host: str, names: Mapping[str, str]) -> str:
    told = [f"{name} {words}" for name, words in list(names.items())[:SHOWN]]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"rank {rank} on {host} is not like the others: {', '.join(told)}{more}"


def _annotations(node: Any) -> Iterator[Path]:
    """Walk through a config to the annotation files of its datasets and metrics."""
    if isinstance(node, Mapping):
        file = annotation_file(node) if isinstance(node.get("ann_file"), str) else None
        if file:
            yield Path(file)
    for inner in node.values() if isinstance(node, Mapping) else node:
        if isinstance(inner, Mapping | list | tuple):
            yield from _annotations(inner)


def _flat(node: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """List the settings of a config by their path."""
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _flat(value, f"{place}.{key}" if place else str(key))
    elif isinstance(node, list | tuple) and any(isinstance(one, Mapping) for one in node):
        for index, value in enumerate(node):
            yield from _flat(value, f"{place}.{index}")
    else:
        yield place, json.dumps(node, default=_name)


def _name(value: Any) -> str:
    """Name a class or function of a config alike in all processes."""
    return getattr(value, "__qualname__", None) or type(value).__qualname__


def _hash(content: bytes) -> str:
    return _HASH + hashlib.sha256(content).hexdigest()


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return _ABSENT
    return _HASH + digest.hexdigest()
