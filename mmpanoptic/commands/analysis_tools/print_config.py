"""Print a whole config and where each value comes from; find a setting; compare two configs."""

from __future__ import annotations

import argparse
import inspect
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
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
  %(prog)s CONFIG --search crop           # what --cfg-options could set, with meanings
  %(prog)s --search crop                  # the variables of all shipped configs

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
    parser.take("config", nargs="?")
    parser.take("cfg_options")
    parser.add("--only", metavar="KEY", help="print what lies under it, such as model.backbone")
    parser.add(
        "--search",
        metavar="WORD",
        help="print the settings with this word in their key, value or comment, and the options of "
        "the config's parts that it leaves at their defaults; without CONFIG of all shipped ones",
    )
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

    return Config.fromfile(path, import_custom_modules=False)


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


def search(path: Path, options: Mapping[str, Any] | None, word: str) -> Iterator[str]:
    """Yield the settings of a config that have to do with a word, then the options it leaves out.

    Raises:
        UsageError: If there is none; with the nearest name.
    """
    from mmpanoptic.apis.config_search import arguments_of, comments_of, parts_of
    from mmpanoptic.engine.config_keys import apply_options

    values = Origins().trace(path, options)
    files = {_short(file): file for file in _chain(path)}
    cfg = _load(path)
    apply_options(cfg, options or {})
    parts = dict(parts_of(cfg.to_dict()))
    names, count = set(values), 0
    for key, (value, origin) in values.items():
        place, _, name = key.rpartition(".")
        part = parts.get(place)
        file = files.get(origin.partition(": ")[0])
        said = comments_of(file).get(key, "") if file and file.suffix == ".py" else ""
        if _has(word, key, value, said):
            said = said or (arguments_of(part["type"]).get(name, ("", ""))[1] if part else "")
            yield f"{key} = {value!r}  # {origin}{f'; {said}' if said else ''}"
            count += 1
    for place, part in parts.items():
        if "$" in part["type"]:
            continue
        for name, (default, said) in arguments_of(part["type"]).items():
            names.add(name)
            if name not in part and default is not inspect.Parameter.empty and _has(word, name):
                yield f"{place}.{name} = {default!r}  # default of {part['type']}; {said}"
                count += 1
    if not count:
        words = {word for name in names for word in (name.rpartition(".")[2], *name.split("_"))}
        raise cli.UsageError(f"{path} has no setting with {word!r}{_near(word, words)}")


def search_shipped(word: str) -> Iterator[str]:
    """Yield the variables of all shipped configs that have to do with a word, one line each.

    Raises:
        UsageError: If there is none; with the nearest name.
    """
    from mmpanoptic.apis import list_configs
    from mmpanoptic.apis.config_search import comments_of

    found: dict[str, dict[str, int]] = {}
    said: dict[str, str] = {}
    chains = {file for path in list_configs().values() for file in _chain(path)}
    for file in sorted(chains):
        said = {**comments_of(file), **said}
    for path in list_configs().values():
        for key, value in _load(path).items():
            if not isinstance(value, Mapping):
                counts = found.setdefault(key, {})
                counts[repr(value)] = counts.get(repr(value), 0) + 1
    matching = [key for key in sorted(found) if _has(word, key, "", said.get(key, ""))]
    for key in matching:
        most = sorted(found[key], key=lambda text: -found[key][text])
        shown = ", ".join(text if len(text) <= 60 else f"{text[:57]}..." for text in most[:3])
        more = f", and {len(most) - 3} more" if len(most) > 3 else ""
        count = sum(found[key].values())
        comment = f"; {said[key]}" if key in said else ""
        yield f"{key} = {shown}{more}  # in {count} configs{comment}"
    if not matching:
        raise cli.UsageError(f"no shipped config has a variable {word!r}{_near(word, found)}")


def _chain(path: Path) -> Iterator[Path]:
    """Walk through a config and what it inherits."""
    yield path
    for base in _bases(path):
        yield from _chain(base)


def _near(word: str, names: Iterable[str]) -> str:
    from mmpanoptic.engine.config_keys import did_you_mean

    return did_you_mean(word, names)


def _has(word: str, *texts: Any) -> bool:
    return any(word.lower() in str(text).lower() for text in texts)


def run(args: argparse.Namespace) -> Iterator[str]:
    """Print the config or the difference.

    Raises:
        UsageError: If there is nothing under the key of ``--only``.
    """
    from mmpanoptic.apis import find_config

    if args.config is None:
        if args.search is None:
            raise cli.UsageError("the following arguments are required: CONFIG, or --search WORD")
        yield from search_shipped(args.search)
        return
    if args.search is not None:
        yield from search(find_config(args.config), args.cfg_options, args.search)
        return
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
