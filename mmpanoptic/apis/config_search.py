"""What is known of a config's settings: comments of its files, arguments of its parts."""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mmpanoptic.registry import registries

_ARGUMENT = re.compile(r"^ {4}(\w+)(?: \(.*?\))?: (.*)$")


@cache
def comments_of(path: Path) -> dict[str, str]:
    """Read the comments at the ends of a config file's lines.

    Args:
        path (Path): The file.

    Returns:
        dict[str, str]: Comment by dotted key of the setting on that line.
    """
    text = path.read_text(encoding="utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokens
        if token.type == tokenize.COMMENT and token.line[: token.start[1]].strip()
    }
    found: dict[str, str] = {}
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            for key, line in _places(statement.targets[0].id, statement.value, statement.lineno):
                if line in lines:
                    found.setdefault(key, lines[line])
    return found


def _places(key: str, node: ast.expr, line: int) -> Iterator[tuple[str, int]]:
    """Yield the settings of a value with their lines."""
    yield key, line
    children: list[tuple[str, ast.expr]] = []
    if isinstance(node, ast.Call):
        children = [(word.arg, word.value) for word in node.keywords if word.arg]
    elif isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        children = [(str(k.value), v) for k, v in pairs if isinstance(k, ast.Constant)]
    elif isinstance(node, ast.List | ast.Tuple):
        children = [(str(number), item) for number, item in enumerate(node.elts)]
    for name, child in children:
        yield from _places(f"{key}.{name}", child, child.lineno)


@cache
def arguments_of(kind: str) -> dict[str, tuple[Any, str]]:
    """Say what a registered part takes.

    Args:
        kind (str): Its ``type``.

    Returns:
        dict[str, tuple[Any, str]]: Default (``inspect.Parameter.empty`` without one) and the words
        of the docstring, by argument; also those that a class hands on to its bases. Empty for
        what no registry knows.
    """
    found = next((part for one in registries() if (part := one.get(kind)) is not None), None)
    if not inspect.isclass(found):
        return {}
    words: dict[str, str] = {}
    for base in reversed(found.__mro__[:-1]):
        words.update(_described(inspect.getdoc(base) or ""))
    return {
        name: (default, words.get(name, "")) for name, default in _handed_on(found.__mro__).items()
    }


def _described(text: str) -> dict[str, str]:
    """Read the arguments of a docstring: their words by name."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if match := _ARGUMENT.match(line):
            name = match[1]
            found[name] = match[2]
        elif name and line.startswith(" " * 8):
            found[name] += f" {line.strip()}"
        else:
            name = ""
    return found


def _handed_on(bases: Sequence[type]) -> dict[str, Any]:
    """List the arguments of a class with their defaults, and of its bases as far as it hands on."""
    found: dict[str, Any] = {}
    for base in bases:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        for one in parameters:
            if one.name != "self" and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
                found.setdefault(one.name, one.default)
        if not any(one.kind == one.VAR_KEYWORD for one in parameters):
            break
    return found


def parts_of(node: Any, place: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Walk through a config to the dicts that have a ``type``.

    Args:
        node: A config, or a value in it.
        place (str): Its dotted key.

    Yields:
        tuple[str, Mapping]: Dotted key and dict.
    """
    if isinstance(node, Mapping):
        if isinstance(node.get("type"), str) and place:
            yield place, node
        items: Any = node.items()
    else:
        items = enumerate(node) if isinstance(node, list | tuple) else ()
    for name, child in items:
        yield from parts_of(child, f"{place}.{name}".lstrip("."))
