"""Export the network of a model to ONNX; post-processing stays in Python.

The graph maps normalised images to the heads' outputs at their stride. What an application must do
before (order of the channels, mean, std, padding) and the names of the classes are in the file's
metadata. The file is compared with PyTorch in onnxruntime.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from mmpanoptic import cli

EXAMPLES = """
  %(prog)s CONFIG CHECKPOINT model.onnx --size 1024 2048
  %(prog)s CONFIG CHECKPOINT model.onnx --size 640 640 --batch-size 4 --no-check

needs: pip install onnx onnxscript, and onnxruntime for the comparison
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("config", "checkpoint")
    parser.add("out", metavar="OUT", type=Path, help="the .onnx file to write")
    parser.take(
        "size", old=["--shape"], required=True, help="of the network's input, fixed in the file"
    )
    parser.take("batch_size", old=["--batch"], help="images per run, fixed in the file (default 1)")
    # 18 is the oldest that PyTorch's exporter writes.
    parser.add("--opset", type=cli.at_least(18), default=18, help="ONNX opset (default 18)")
    parser.add("--no-check", action="store_true", help="do not compare with onnxruntime")
    parser.take("cfg_options", "trust")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Export and compare."""
    import torch

    from mmpanoptic.apis.onnx_export import export

    model = cli.load_model(args, "cpu")
    generator = torch.Generator().manual_seed(0)
    inputs = 4 * torch.rand(args.batch_size, 3, *args.size, generator=generator) - 2
    yield export(model, inputs, args.out, args.opset, not args.no_check)


main = cli.Command(build_parser, run)
