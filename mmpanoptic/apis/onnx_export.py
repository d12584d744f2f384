"""Networks as ONNX files; post-processing stays in Python."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmpanoptic.utils import atomic_write

MIN_OPSET = 18  # the oldest that PyTorch's exporter writes
TOLERANCE = 1e-4


class ExportError(RuntimeError):
    """A model cannot be exported, or its file computes something else than PyTorch."""


class Network(nn.Module):
    """Backbone and heads of a panoptic model with a flat tuple of outputs.

    Args:
        model (nn.Module): With ``forward_heads``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

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


def check_exportable(model: nn.Module) -> None:
    """Refuse models whose network depends on what it finds.

    Args:
        model (nn.Module): From ``init_model``.

    Raises:
        ExportError: If the model has no network of a fixed shape.
    """
    kind = type(model).__name__
    if hasattr(model, "rpn_head"):
        raise ExportError(
            f"{kind} finds boxes, and its heads work on those it found: there is no network of a "
            "fixed shape to export. One-stage models can be exported: Panoptic-DeepLab, "
            "DeepLabV3+, COPS, SOLOv2, EfficientPS with SOLOv2"
        )
    if not hasattr(model, "forward_heads"):
        raise ExportError(f"{kind} is no panoptic model; only those can be exported")
    if getattr(model, "export_obstacle", None):
        raise ExportError(f"{kind} cannot be exported: {model.export_obstacle}")


def check_packages(compare: bool = True) -> None:
    """Name the packages that are absent.

    Args:
        compare (bool): The file will be compared with PyTorch.

    Raises:
        ImportError: If one is.
    """
    needed = ["onnx", "onnxscript", *(["onnxruntime"] if compare else [])]
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise ImportError(f"the export lacks packages: pip install {' '.join(missing)}")


def export(
    model: Any, inputs: Tensor, out: Path, opset: int = MIN_OPSET, check: bool = True
) -> str:
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
        ExportError: If the model cannot be exported, or onnxruntime computes something else.
        ImportError: If a package is absent.
    """
    check_exportable(model)
    check_packages(check)
    with torch.no_grad():
        expected = named_outputs(model.forward_heads(inputs))
    with atomic_write(out) as temporary:
        program: Any = torch.onnx.export(
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


def describe(model: Any) -> dict[str, str]:
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
        ExportError: If one is above the tolerance.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(list(expected), {"inputs": inputs.numpy()})
    differences = []
    for (name, value), actual in zip(expected.items(), found, strict=True):
        scale = max(value.abs().max().item(), 1e-12)
        difference = float(np.abs(actual - value.numpy()).max()) / scale
        if not difference <= TOLERANCE:
            raise ExportError(
                f"onnxruntime differs from PyTorch in {name} by {difference:.1e} of its largest "
                f"value, allowed {TOLERANCE:.0e}; try other versions of onnxruntime or torch"
            )
        differences.append(difference)
    return differences
