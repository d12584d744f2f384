"""Print a whole config and where each value comes from; or what two configs differ in."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmpanoptic import cli

if TYPE_CHECKING:
    from mmengine.config import Config

EXAMPLES = """
  %(prog)s CONFIG
  %(prog)s CONFIG --only model.semantic_head
  %(prog)s CONFIG --cfg-options base_lr=1e-4 max_iters=500
  %(prog)s CONFIG --diff OTHER_CONFIG
  %(prog)s CONFIG --parameters

A line is KEY = VALUE  # FILE. Where the config has a placeholder such as $num_classes, VALUE is
what it stands for and the placeholder is named behind the file; a class count whose dataset is
not there stays a placeholder. A file that repeats the value of its base is not named.
"""

_OPTIONS = "--cfg-options"
_MISSING = object()

Flat = dict[str, Any]


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("config", "cfg_options")
    parser.add("--only", metavar="KEY", help="print what lies under it, such as model.backbone")
    parser.add("--diff", metavar="OTHER", help="print the keys whose values differ from OTHER's")
    parser.add("--parameters", action="store_true", help="also count those of the model")
    return parser


def difference(
    first: dict[str, tuple[Any, str]], second: dict[str, tuple[Any, str]], only: str | None
) -> Iterator[str]:
    """Yield ``-`` lines for the first config and ``+`` lines for the second where they differ."""
    for key in dict.fromkeys([*first, *second]):
        if not _is_under(key, only):
            continue
        old, new = first.get(key), second.get(key)
        if old is not None and new is not None and _equal(old[0], new[0]):
            continue
        for sign, entry in (("-", old), ("+", new)):
            if entry is not None:
                yield f"{sign} {key} = {entry[0]!r}  # {entry[1]}"


class Origins:
    """Find the file that each value of a config comes from.

    A value belongs to a base if the base, merged with its own bases, has it too.
    """

    def __init__(self) -> None:
        self._merged: dict[Path, Flat] = {}

    def trace(self, path: Path, options: Mapping[str, Any] | None) -> dict[str, tuple[Any, str]]:
        """Flatten a config and name the origin of each value.

        Args:
            path (Path): The config.
            options (Mapping | None): Values from the command line.

        Returns:
            dict: (value, origin) by dotted key.
        """
        from mmpanoptic.engine.config_keys import apply_options

        cfg = _load(path)
        apply_options(cfg, options or {})
        raw = flatten(cfg.to_dict())
        resolved = flatten(_resolve(cfg).to_dict())
        result = {}
        for key, value in raw.items():
            origin = self._origin(path, key, value)
            final = resolved.get(key, value)
            if not _equal(final, value):
                origin += f": {value}"
            result[key] = (final, origin)
        return result

    def _origin(self, path: Path, key: str, value: Any) -> str:
        if not _equal(self._flat(path).get(key, _MISSING), value):
            return _OPTIONS
        for base in _bases(path):
            if _equal(self._flat(base).get(key, _MISSING), value):
                return self._origin(base, key, value)
        return _short(path)

    def _flat(self, path: Path) -> Flat:
        if path not in self._merged:
            self._merged[path] = flatten(_load(path).to_dict())
        return self._merged[path]


def _load(path: Path) -> Config:
    from mmengine.config import Config  # imports torch: --help is answered without it

    return Config.fromfile(path)


def _bases(path: Path) -> list[Path]:
    """List the files in ``_base_``, nearest first."""
    from mmengine.config import Config

    names = Config._get_base_files(str(path))
    return [Path(Config._get_cfg_path(name, str(path))[0]).resolve() for name in names]


def _short(path: Path) -> str:
    """Show a path relative to where the user is, if that is shorter."""
    path = path.resolve()
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


def _resolve(cfg: Config) -> Config:
    """Replace placeholders; class counts stay where the dataset's files are not there."""
    from mmpanoptic.engine.config import resolve_config

    resolved = cfg.copy()
    try:
        return resolve_config(resolved)
    except (OSError, ValueError) as error:
        warnings.warn(f"class counts are not resolved: {error}", stacklevel=2)
        return resolved


def flatten(node: Any, prefix: str = "") -> Flat:
    """Flatten nested dicts and lists of dicts: ``{"a": {"b": 1}}`` becomes ``{"a.b": 1}``."""
    if isinstance(node, Mapping) and node:
        pairs = ((str(key), value) for key, value in node.items())
    elif isinstance(node, list | tuple) and any(isinstance(item, Mapping) for item in node):
        pairs = ((str(number), item) for number, item in enumerate(node))
    else:
        return {prefix: node} if prefix else {}
    flat: Flat = {}
    for key, value in pairs:
        flat.update(flatten(value, f"{prefix}.{key}" if prefix else key))
    return flat


def _equal(first: Any, second: Any) -> bool:
    return type(first) is type(second) and bool(first == second)


def _is_under(key: str, only: str | None) -> bool:
    return only is None or key == only or key.startswith(f"{only}.")


def count_parameters(args: argparse.Namespace) -> Iterator[str]:
    """Build the model and count the parameters of its parts."""
    from mmpanoptic.apis import init_model

    model = init_model(args.config, None, "cpu", args.cfg_options)
    parts = {name: part for name, part in model.named_children() if list(part.parameters())}
    for name, part in {"total": model, **parts}.items():
        yield f"{name}: {sum(parameter.numel() for parameter in part.parameters()):,} parameters"


def run(args: argparse.Namespace) -> Iterator[str]:
    """Print the config or the difference.

    Raises:
        UsageError: If there is nothing under the key of ``--only``.
    """
    from mmpanoptic.apis import find_config

    values = Origins().trace(find_config(args.config), args.cfg_options)
    if args.diff:
        yield from difference(values, Origins().trace(find_config(args.diff), None), args.only)
    else:
        shown = [key for key in values if _is_under(key, args.only)]
        if not shown:
            raise cli.UsageError(f"{args.config} has nothing under {args.only!r}")
        yield from (f"{key} = {values[key][0]!r}  # {values[key][1]}" for key in shown)
    if args.parameters:
        yield from count_parameters(args)


main = cli.Command(build_parser, run)
