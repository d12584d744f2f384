#!/usr/bin/env python
"""Export the network of a model to ONNX; post-processing stays in Python.

The graph maps normalised images to the heads' outputs at their stride. What an application must do
before (order of the channels, mean, std, padding) and the names of the classes are in the file's
metadata. The file is compared with PyTorch in onnxruntime.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmpanoptic.apis import init_model
from mmpanoptic.checkpoints.loading import CheckpointError
from mmpanoptic.utils import atomic_write
from mmpanoptic.utils.cfg_options import ConfigOptions
from mmpanoptic.utils.format_errors import PanopticFormatError

EXAMPLES = """examples:
  %(prog)s CONFIG CHECKPOINT model.onnx --shape 1024 2048
  %(prog)s CONFIG CHECKPOINT model.onnx --shape 640 640 --batch 4 --no-check

needs: pip install onnx onnxscript, and onnxruntime for the comparison
"""
MIN_OPSET = 18  # the oldest that PyTorch's exporter writes
TOLERANCE = 1e-4


class NetworkError(RuntimeError):
    """The exported network is not the one of PyTorch."""


class Network(nn.Module):
    """Backbone and heads of a panoptic model with a flat tuple of outputs.

    Args:
        model (nn.Module): With ``forward_heads``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Map normalised images ``(N, 3, H, W)`` to all outputs of the heads."""
        return tuple(named_outputs(self.model.forward_heads(inputs)).values())


def named_outputs(outputs: Any, name: str = "output") -> dict[str, Tensor]:
    """Flatten (named) tuples of tensors; a field gives its name, a place in a tuple a number."""
    if outputs is None:
        return {}
    if isinstance(outputs, Tensor):
        return {name: outputs}
    fields = getattr(outputs, "_fields", [f"{name}{i}" for i in range(len(outputs))])
    found: dict[str, Tensor] = {}
    for field, value in zip(fields, outputs, strict=True):
        found.update(named_outputs(value, field))
    return found


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("config", metavar="CONFIG", help="config file, or name of a shipped config")
    add("checkpoint", metavar="CHECKPOINT", help="weights")
    add("out", metavar="OUT", type=Path, help="the .onnx file to write")
    add(
        "--shape",
        nargs=2,
        type=int,
        required=True,
        metavar=("H", "W"),
        help="height and width of the network's input, fixed in the file",
    )
    add("--batch", type=int, default=1, help="images per run, fixed in the file (default 1)")
    add("--opset", type=int, default=MIN_OPSET, help="ONNX opset (default %(default)s)")
    add("--no-check", action="store_true", help="do not compare with onnxruntime")
    add("--cfg-options", nargs="+", action=ConfigOptions, help="KEY=VALUE, replaces config values")
    add("--trust", action="store_true", help="accept checkpoints of mmengine, mmdet and mmseg")
    args = parser.parse_args(argv)
    if min(*args.shape, args.batch) < 1:
        parser.error("--shape and --batch need positive numbers")
    if args.opset < MIN_OPSET:
        parser.error(f"--opset must be at least {MIN_OPSET}, got {args.opset}")
    needed = ["onnx", "onnxscript", *([] if args.no_check else ["onnxruntime"])]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(f"needs packages that are absent: pip install {' '.join(missing)}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Export and compare; 1 on an error."""
    args = parse_args(argv)
    try:
        model = init_model(args.config, args.checkpoint, "cpu", args.cfg_options, args.trust)
        inputs = torch.rand(args.batch, 3, *args.shape, generator=torch.Generator().manual_seed(0))
        print(export(model, 4 * inputs - 2, args.out, args.opset, check=not args.no_check))
    except (CheckpointError, PanopticFormatError, NetworkError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def export(model: nn.Module, inputs: Tensor, out: Path, opset: int, check: bool) -> str:
    """Write the network of a model as one ONNX file.

    Args:
        model (nn.Module): From ``init_model``, on the CPU.
        inputs (Tensor): Normalised images ``(N, 3, H, W)`` of the size to fix.
        out (Path): The file to write; it appears only if the comparison succeeds.
        opset (int): ONNX opset.
        check (bool): Compare with onnxruntime.

    Returns:
        str: Names, shapes and differences of the outputs.

    Raises:
        NetworkError: If onnxruntime computes something else.
    """
    with torch.no_grad():
        expected = named_outputs(model.forward_heads(inputs))
    with atomic_write(out) as temporary:
        program = torch.onnx.export(
            Network(model).eval(),
            (inputs,),
            input_names=["inputs"],
            output_names=list(expected),
            opset_version=opset,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        program.model.metadata_props.update(describe(model))
        program.save(str(temporary), external_data=False)
        lines = [f"{name}: {tuple(value.shape)}" for name, value in expected.items()]
        if check:
            differences = compare(temporary, inputs, expected)
            lines = [
                f"{line}, largest relative difference {difference:.1e}"
                for line, difference in zip(lines, differences, strict=True)
            ]
    return "\n".join([*lines, f"written to {out}"])


def describe(model: nn.Module) -> dict[str, str]:
    """List what an application must know: input rules and classes, as JSON texts."""
    preprocessor = model.cfg.model.data_preprocessor
    keys = ("mean", "std", "bgr_to_rgb", "pad_size_divisor")
    facts = {key: preprocessor[key] for key in keys if key in preprocessor}
    facts["classes"] = list(model.dataset_meta["classes"])
    return {key: json.dumps(value) for key, value in facts.items()}


def compare(path: Path, inputs: Tensor, expected: dict[str, Tensor]) -> list[float]:
    """Run an ONNX file and compare its outputs with PyTorch's.

    Args:
        path (Path): The file.
        inputs (Tensor): Normalised images.
        expected (dict[str, Tensor]): Outputs of PyTorch by name.

    Returns:
        list[float]: Largest difference of each output, relative to its largest value.

    Raises:
        NetworkError: If one is above the tolerance.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(list(expected), {"inputs": inputs.numpy()})
    differences = []
    for (name, value), actual in zip(expected.items(), found, strict=True):
        scale = max(value.abs().max().item(), 1e-12)
        difference = float(np.abs(actual - value.numpy()).max()) / scale
        if not difference <= TOLERANCE:
            raise NetworkError(
                f"onnxruntime differs from PyTorch in {name} by {difference:.1e} of its largest "
                f"value, allowed {TOLERANCE:.0e}; try other versions of onnxruntime or torch"
            )
        differences.append(difference)
    return differences


if __name__ == "__main__":
    sys.exit(main())
