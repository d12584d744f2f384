"""Make the weights of a model in the package from a training's checkpoint.

Kept are the weights (arrays of several dimensions as float16, the others as they are), the label
table and the sizes that the config was filled in with; the optimizer and the rest are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mmpanoptic import cli

if TYPE_CHECKING:
    import torch

KEPT = ("dataset_meta", "size_settings", "seed", "iter", "mmpanoptic_version", "torch_version")
LARGEST = 6_000_000
"""Bytes."""
EXAMPLES = """
  %(prog)s work_dirs/nuclei nuclei
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.add("checkpoint", help="of a training, or the folder of its run")
    parser.add("name", help="of the model: its folder, with card.yml, is in the package")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Write the weights.

    Raises:
        Failure: If they are too large for the package.
    """
    from mmpanoptic.checkpoints import load_checkpoint, save_checkpoint
    from mmpanoptic.checkpoints.shipped_models import get_shipped_model

    path = get_shipped_model(args.name).weights
    content = load_checkpoint(args.checkpoint)
    meta = {name: content["meta"][name] for name in KEPT}
    weights = {name: _small(value) for name, value in content["state_dict"].items()}
    size = sum(value.nbytes for value in weights.values())
    if size > LARGEST:
        raise cli.Failure(f"{size / 1e6:.1f} MB are too much for the package ({LARGEST / 1e6})")
    save_checkpoint({"meta": meta, "state_dict": weights}, path)
    yield f"wrote {path}: {len(weights)} arrays, {path.stat().st_size / 1e6:.2f} MB"


def _small(value: torch.Tensor) -> torch.Tensor:
    """Halve weights of convolutions; statistics and biases are few, and need their range."""
    return value.half() if value.is_floating_point() and value.dim() > 1 else value.clone()


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
