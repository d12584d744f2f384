"""Converters of published weights, one a system."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mmpanoptic import cli

if TYPE_CHECKING:
    from mmpanoptic.checkpoints.key_map import KeyMap


def convert_model(args: argparse.Namespace, key_map: type[KeyMap]) -> Iterator[str]:
    """Convert weights as the arguments say, with or without ``--initial``.

    Args:
        args (argparse.Namespace): The arguments.
        key_map (type[KeyMap]): The system's map of names.

    Yields:
        str: What was done.
    """
    from mmpanoptic.apis import conversion
    from mmpanoptic.checkpoints.conversion import restore_published

    initial = getattr(args, "initial", False)
    if args.to_published:
        if args.new_classes or args.drop or initial:
            raise cli.UsageError(
                "--to-published converts whole models; no --new-classes, --drop or --initial"
            )
        model = conversion.model_of_config(args.config, args.cfg_options)[0]
        yield restore_published(args.source, args.out, key_map(model)).report()
        return
    options = {"drop": args.drop, "new_classes": args.new_classes, "initial": initial}
    yield conversion.convert_model(
        args.source, args.config, args.out, key_map, args.cfg_options, **options
    ).report()
