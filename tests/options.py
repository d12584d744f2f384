"""Which constructor options of registered parts does no config and no test set?

    python -m tests.options

An option is what has a default: of a part's own constructor and, where that passes further
arguments on, of those of its bases in mmpanoptic. A config sets an option in a dict of the part's
type. A test sets it if the file, or a helper of tests/ that it imports, names the part and writes
the option: as a keyword, as a key, or at the end of a dotted name ("model.head.option").
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmpanoptic.registry import register_all_modules, registries

ROOT = Path(__file__).parents[1]
OF_ALL = {
    "init_cfg": "tests/models/test_init_cfg.py sets it of every part",
    "activation_checkpointing": "tests/models/test_activation_checkpointing.py does, by system",
    "train_cfg": "the model hands its own to its heads",
    "test_cfg": "the model hands its own to its heads",
}
"""Options that are tested, but not by name of the part."""

Option = tuple[str, str]
"""Class that takes it, name."""


@cache
def parts() -> dict[str, type]:
    """All registered parts of mmpanoptic by name."""
    register_all_modules()
    return {
        name: part
        for registry in registries()
        for name, part in registry.module_dict.items()
        if part.__module__.startswith("mmpanoptic.")
    }


def takes(part: type, name: str) -> bool:
    """Tell whether a part's own constructor, or that of a base in mmpanoptic, has an argument."""
    return any(name in found for _, found in _constructors(part))


def _constructors(part: type) -> Iterator[tuple[type, dict[str, inspect.Parameter]]]:
    """Walk through the constructors of ours that the arguments of a part may reach."""
    for owner in inspect.getmro(part):
        if owner.__module__.startswith("mmpanoptic.") and "__init__" in vars(owner):
            found = dict(inspect.signature(owner.__init__).parameters)
            yield owner, found
            if not any(one.kind is one.VAR_KEYWORD for one in found.values()):
                return


def options_of(part: type) -> Iterator[Option]:
    """Walk through what can be set of a part, with the class that takes it."""
    for owner, found in _constructors(part):
        for name, parameter in found.items():
            if parameter.default is not parameter.empty and name not in OF_ALL:
                yield owner.__name__, name


def set_by_configs() -> set[Option]:
    """Options that a shipped config sets."""
    found: set[Option] = set()
    for content in _configs():
        for name, keys in [*_typed(content), ("PanopticRunner", set(content))]:
            found |= {option for option in options_of(parts()[name]) if option[1] in keys}
    return found


@cache
def _configs() -> list[dict[str, Any]]:
    return [Config.fromfile(path).to_dict() for path in sorted((ROOT / "configs").rglob("*.py"))]


def _typed(node: Any) -> Iterator[tuple[str, set[str]]]:
    """Walk through the dicts of a config that describe a part of ours."""
    if isinstance(node, dict):
        for kind in ("type", "constructor"):
            name = str(node.get(kind)).removeprefix("mmpanoptic.")
            if name in parts():
                yield name, set(node)
    children = node.values() if isinstance(node, dict) else node
    if isinstance(node, dict | list | tuple):
        for child in children:
            yield from _typed(child)


def set_by_tests() -> set[Option]:
    """Options that a test sets."""
    found: set[Option] = set()
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        words = _words(path)
        for name in words & parts().keys():
            found |= {option for option in options_of(parts()[name]) if option[1] in words}
    return found


@cache
def _words(path: Path) -> frozenset[str]:
    """Names, keywords and strings of a file and of the helpers that it imports."""
    words: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg:
            words.add(node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            words.add(node.value.partition("=")[0].rpartition(".")[2])
        elif isinstance(node, ast.alias):
            words.add(node.name)
        elif isinstance(node, ast.Attribute):
            words.add(node.attr)
        if isinstance(node, ast.Call) and (part := parts().get(ast.unparse(node.func))):
            words |= set(list(inspect.signature(part).parameters)[: len(node.args)])
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests."):
            helper = ROOT.joinpath(*str(node.module).split(".")).with_suffix(".py")
            if helper.is_file() and helper != Path(__file__):
                words |= _words(helper)
    return frozenset(words)


def unset() -> list[Option]:
    """Options that neither a config nor a test sets."""
    every = {option for part in parts().values() for option in options_of(part)}
    return sorted(every - set_by_configs() - set_by_tests())


if __name__ == "__main__":
    for owner, option in unset():
        print(f"{owner}.{option}")
