"""Export a model to ONNX: its network alone, or from the image to the panoptic map.

Without --end-to-end the graph maps normalised images to the heads' outputs at their stride. What an
application must do before (order of the channels, mean, std, padding) and the names of the classes
are in the file's metadata. The file is compared with PyTorch in onnxruntime.

With --end-to-end the graph takes a uint8 RGB image (H, W, 3) and gives panoptic_ids (H, W) and
segments (N, 6): label, score, x0, y0, x1, y1. A JSON beside it holds the classes; the module
mmpanoptic.runtime runs both without torch. Of COPS, whose solver is no graph, the network is
exported, and mmpanoptic.runtime calls the compiled solver.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmpanoptic import cli

EXAMPLES = """
  %(prog)s work_dirs/run exported/model.onnx --end-to-end
  %(prog)s CONFIG CHECKPOINT model.onnx --end-to-end --size 1024 2048 --compare photos
  %(prog)s CONFIG CHECKPOINT model.onnx --size 1024 2048
  %(prog)s CONFIG CHECKPOINT model.onnx --size 640 640 --batch-size 4 --no-check

needs: pip install onnx onnxscript, and onnxruntime for the comparison
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("config", "checkpoint")
    parser.add("out", metavar="OUT", type=Path, help="the .onnx file to write, or its folder")
    parser.add(
        "--end-to-end",
        action="store_true",
        help="preparation of the image, network and post-processing in one graph",
    )
    parser.take(
        "size",
        old=["--shape"],
        help="of the network's input, fixed in the file; with --end-to-end of the image (default "
        "there: any size)",
    )
    parser.take("batch_size", old=["--batch"], help="images per run, fixed in the file (default 1)")
    # 18 is the oldest that PyTorch's exporter writes.
    parser.add("--opset", type=cli.at_least(18), default=18, help="ONNX opset (default 18)")
    parser.add("--no-check", action="store_true", help="do not compare with onnxruntime")
    parser.add(
        "--compare",
        metavar="IMAGES",
        type=Path,
        help="with --end-to-end: image or folder to compare with PyTorch",
    )
    parser.add(
        "--score-thr",
        metavar="F",
        type=cli.at_least(0, float),
        default=0.0,
        help="with --end-to-end: leave out things of a lower score (default 0)",
    )
    parser.add(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="with --end-to-end: of the network's weights, where PQ was measured to stay within 1 "
        "(default fp32)",
    )
    parser.take("cfg_options", "trust")
    return parser


PRECISIONS = ("fp32", "fp16", "int8")
ALONE = {"batch_size": 1, "opset": 18, "no_check": False}
"""Options of networks alone, and what they are by default."""
WHOLE = {"compare": None, "score_thr": 0.0, "precision": "fp32"}
"""Options of --end-to-end."""


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that would do nothing.

    Raises:
        cli.UsageError: If there is one.
    """
    idle = ALONE if args.end_to_end else WHOLE
    for name, default in idle.items():
        if getattr(args, name) != default:
            flag = "--" + name.replace("_", "-")
            where = "without" if args.end_to_end else "with"
            raise cli.UsageError(f"{flag} counts only {where} --end-to-end; leave it out")


def run(args: argparse.Namespace) -> Iterator[str]:
    """Export and compare."""
    check_options(args)
    import torch

    from mmpanoptic.apis.onnx_export import export, export_end_to_end

    model = cli.load_model(args, "cpu")
    if args.end_to_end:
        images = read_images(args.compare)
        yield export_end_to_end(model, args.out, args.size, args.score_thr, images, args.precision)
        return
    if args.size is None:
        raise cli.UsageError("--size H W is needed: a network alone has one size")
    generator = torch.Generator().manual_seed(0)
    inputs = 4 * torch.rand(args.batch_size, 3, *args.size, generator=generator) - 2
    yield export(model, inputs, args.out, args.opset, not args.no_check)


def read_images(path: Path | None) -> list[Any]:
    """Read the images to compare: uint8 BGR ``(H, W, 3)``."""
    if path is None:
        return []
    from mmpanoptic.runtime.model import list_files, read_image

    return [read_image(file)[..., ::-1].copy() for file in list_files(path)]


main = cli.Command(build_parser, run)
