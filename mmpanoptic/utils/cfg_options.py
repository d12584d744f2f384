"""``--cfg-options KEY=VALUE ...`` of the tools: reading the values, and where they go."""

from __future__ import annotations

import ast
import re
from argparse import Action, ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from typing import Any

_WORDS = {"true": True, "false": False}
_BRACKETS = {"(": ")", "[": "]", "{": "}"}


class Options(dict):
    """Settings by dotted key.

    Attributes:
        texts (dict[str, str]): What was typed for each key: whether ``a,b`` is a list or the name
            of a folder is known only where the config is at hand.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings or {})
        self.texts: dict[str, str] = dict(getattr(settings, "texts", {}))


class ConfigOptions(Action):
    """Argparse action that collects ``KEY=VALUE`` pairs into :class:`Options`.

    Differences from the original (``mmengine.config.DictAction``): see :func:`parse_value`; a pair
    without ``=``, or with brackets that do not close, is an error of the command line.
    """

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Add the pairs to those given before."""
        options = Options(getattr(namespace, self.dest, None))
        for pair in [values] if isinstance(values, str) else values or ():
            key, sign, text = str(pair).partition("=")
            if not sign or not key:
                parser.error(f"{option_string} takes KEY=VALUE pairs, got {pair!r}")
            try:
                options[key] = parse_value(text)
            except ValueError as error:
                parser.error(f"{option_string} {key}: {error}")
            options.texts[key] = _unquoted(text)
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> Any:
    """Read a value of the command line, as mmengine does: ``1``, ``1e-4``, ``true``, ``[(1,2),a]``.

    Differences from the original (``mmengine.config.DictAction``): text in quotes is a text; a
    value with spaces stays whole (mmengine removes the spaces, which breaks paths) unless it is a
    Python literal, such as ``"[1, 2]"``; lists may hold dicts, written ``{'a': 1}`` or
    ``dict(a=1)``, which mmengine tears apart at their commas.

    Args:
        text (str): As typed.

    Returns:
        Any: Number, bool, None, list, tuple, dict or text.

    Raises:
        ValueError: If a bracket at the beginning is not closed at the end, or a dict cannot be
            read.
    """
    if text[:1] in ("'", '"'):
        return _unquoted(text)
    if text[:1] in _BRACKETS or text.startswith("dict("):
        return _parse_brackets(text)
    if " " in text:
        try:
            return ast.literal_eval(text)  # 1, 2
        except (ValueError, SyntaxError):
            return text
    parts = _split(text)
    return _parse_word(text) if len(parts) < 2 else [parse_value(part) for part in parts]


def _unquoted(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def _parse_word(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None if text == "None" else _WORDS.get(text.lower(), text)


def _parse_brackets(text: str) -> Any:
    try:
        return _read(ast.parse(text.strip(), mode="eval").body)
    except (ValueError, SyntaxError):
        pass
    first, last = text[0], text.rstrip()[-1]
    if first in "([" and last == _BRACKETS[first] and not set("{}='\"") & set(text):
        values = [parse_value(part.strip()) for part in _split(text.strip()[1:-1])]  # [a/b,c-d]
        return tuple(values) if first == "(" else values
    if re.match(r"\{\w+\}.", text):  # a name with a place for a variable, such as {id}.png
        return text
    raise ValueError(
        f"cannot read {text!r}; write lists and dicts as in Python, with quotes around texts "
        "(\"[dict(type='A', n=1)]\"), or put a text that begins with a bracket into quotes"
    )


def _read(node: ast.expr) -> Any:
    """Evaluate literals, ``dict(a=1)`` and bare words, and nothing else."""
    if isinstance(node, ast.List | ast.Tuple):
        items = [_read(item) for item in node.elts]
        return tuple(items) if isinstance(node, ast.Tuple) else items
    if isinstance(node, ast.Dict):
        keys = [key and _read(key) for key in node.keys]
        return dict(zip(keys, map(_read, node.values), strict=True))
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "dict" and not node.args:
        return {_name_of(keyword): _read(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Name | ast.Attribute):
        return _parse_word(ast.unparse(node))
    return ast.literal_eval(node)


def _name_of(keyword: ast.keyword) -> str:
    if keyword.arg is None:
        raise ValueError("dict(**...) is not read")
    return keyword.arg


def _split(text: str) -> list[str]:
    """Split at the commas outside brackets; a comma at the end adds nothing."""
    parts, depth, start = [], 0, 0
    for place, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    return parts + [text[start:]] * (start < len(text))
