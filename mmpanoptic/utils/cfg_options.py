"""``--cfg-options KEY=VALUE ...`` of the tools."""

from __future__ import annotations

import ast
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

from mmengine.config import DictAction


class ConfigOptions(DictAction):
    """Argparse action that collects ``KEY=VALUE`` pairs into a dict.

    Values are read as by mmengine: ``1``, ``1e-4``, ``true``, ``None``, ``a,b`` and ``[(1,2),a]``.

    Differences from the original (``mmengine.config.DictAction``): a value with spaces stays whole
    (mmengine removes the spaces, which breaks paths) unless it is a Python literal, such as
    ``"[1, 2]"``; dicts in Python's notation are accepted; a pair without ``=`` is an error of the
    command line.
    """

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Add the pairs to those given before."""
        options = dict(getattr(namespace, self.dest, None) or {})
        for pair in [values] if isinstance(values, str) else values or ():
            key, sign, text = str(pair).partition("=")
            if not sign or not key:
                parser.error(f"{option_string} takes KEY=VALUE pairs, got {pair!r}")
            options[key] = parse_value(text)
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> Any:
    """Read a value of the command line.

    Args:
        text (str): As typed.

    Returns:
        Any: Number, bool, None, list, tuple, dict or text.
    """
    if " " in text or text.startswith("{"):
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text.strip("'\"")
    return DictAction._parse_iterable(text)
