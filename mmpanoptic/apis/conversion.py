"""Conversion of published weights for the model of a config; commands of tools/model_converters."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.registry import init_default_scope
from torch import nn

from mmpanoptic.checkpoints.conversion import Conversion, convert_published, restore_published
from mmpanoptic.checkpoints.errors import CheckpointMismatchError
from mmpanoptic.checkpoints.key_map import KeyMap
from mmpanoptic.checkpoints.loading import CheckpointError
from mmpanoptic.engine.config import label_table_of, resolve_config
from mmpanoptic.models.segmentors.image_classifier import ImageClassifier
from mmpanoptic.registry import MODELS
from mmpanoptic.utils.cfg_options import ConfigOptions

from .configs import get_config

PathLike = str | os.PathLike[str]


def convert_model(
    source: PathLike,
    config: PathLike,
    out: PathLike,
    key_map: type[KeyMap],
    cfg_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Conversion:
    """Convert the published weights of a config's model, see :func:`convert_published`.

    Args:
        source: See :func:`mmpanoptic.checkpoints.foreign_weights.read_foreign_weights`.
        config: Path or name of the config of the same variant.
        out: The file to write.
        key_map (type[KeyMap]): The system's map of names.
        cfg_options (Mapping | None): Values that replace those of the config.
        options: ``drop``, ``new_classes`` and ``initial`` of :func:`convert_published`.

    Returns:
        Conversion: What was done.
    """
    model, cfg = model_of_config(config, cfg_options)
    is_classifier = isinstance(model, ImageClassifier)
    return convert_published(
        source,
        out,
        key_map(model),
        normalisation=(cfg.model.data_preprocessor.mean, cfg.model.data_preprocessor.std),
        dataset_meta=None if is_classifier else lambda: label_table_of(cfg).to_metainfo(),
        **options,
    )


def model_of_config(
    config: PathLike, cfg_options: Mapping[str, Any] | None
) -> tuple[nn.Module, Any]:
    """Build a model without memory for its weights; only names and shapes are needed.

    Args:
        config: Path or name of a config.
        cfg_options (Mapping | None): Values that replace those of the config.

    Returns:
        tuple: The model, and the resolved config.
    """
    cfg = get_config(config)
    if cfg_options:
        cfg.merge_from_dict(dict(cfg_options))
    cfg = resolve_config(cfg)
    init_default_scope("mmpanoptic")
    with torch.device("meta"):
        return MODELS.build(cfg.model), cfg


def conversion_parser(description: str | None, examples: str) -> argparse.ArgumentParser:
    """Make a parser with the arguments that every converter has.

    Args:
        description: The command's docstring.
        examples: Lines for the end of ``--help``.

    Returns:
        argparse.ArgumentParser: With ``source``, ``out`` and ``--drop``.
    """
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"examples:{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="published weights: a file or an address")
    parser.add_argument("out", metavar="OUT", help="the .pth file to write")
    parser.add_argument(
        "--drop",
        nargs="+",
        default=[],
        metavar="REGEX",
        help="drop tensors whose names begin like this; each is listed",
    )
    return parser


def model_parser(description: str | None, examples: str) -> argparse.ArgumentParser:
    """Make a parser for the conversion of whole models, read by :func:`convert_model_command`.

    Args:
        description: The command's docstring.
        examples: Lines for the end of ``--help``.

    Returns:
        argparse.ArgumentParser: That of :func:`conversion_parser` with the config and its options.
    """
    parser = conversion_parser(description, examples)
    add = parser.add_argument
    add("--config", required=True, help="config of the same variant: a file or a shipped name")
    add(
        "--new-classes",
        action="store_true",
        help="the config has other classes: leave out what depends on them (fine-tuning)",
    )
    add("--to-published", action="store_true", help="the other way: SOURCE is ours")
    add("--cfg-options", nargs="+", action=ConfigOptions, help="KEY=VALUE, replaces config values")
    return parser


def convert_model_command(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, key_map: type[KeyMap]
) -> int:
    """Convert as the arguments of :func:`model_parser` say.

    Args:
        parser: From :func:`model_parser`; ``--initial`` may have been added.
        argv: Arguments; those of the process by default.
        key_map (type[KeyMap]): The system's map of names.

    Returns:
        int: The exit status.
    """
    args = parser.parse_args(argv)
    initial = getattr(args, "initial", False)
    if args.to_published:
        if args.new_classes or args.drop or initial:
            parser.error(
                "--to-published converts whole models; it takes no --new-classes and --drop, "
                "and no --initial"
            )
        return run_conversion(
            lambda: restore_published(
                args.source, args.out, key_map(model_of_config(args.config, args.cfg_options)[0])
            )
        )
    options = {"drop": args.drop, "new_classes": args.new_classes, "initial": initial}
    return run_conversion(
        lambda: convert_model(
            args.source, args.config, args.out, key_map, args.cfg_options, **options
        )
    )


def run_conversion(convert: Callable[[], Conversion]) -> int:
    """Convert and print the report, or the error.

    Returns:
        int: The exit status.
    """
    init_default_scope("mmpanoptic")
    try:
        print(convert().report())  # noqa: T201
    except (CheckpointError, CheckpointMismatchError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0
