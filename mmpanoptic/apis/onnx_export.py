"""Models as ONNX files: the network alone, or from the image to the panoptic map."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmpanoptic.deployment.errors import ExportError
from mmpanoptic.runtime.model_file import DEFAULT_NAME, FORMAT, facts_text
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils import atomic_write
from mmpanoptic.version import __version__

from .inferencer import test_pipeline_steps
from .stacked_instances import StackingInferencer

MIN_OPSET = 18  # the oldest that PyTorch's exporter writes
TOLERANCE = 1e-4


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
            "fixed shape to export alone. --end-to-end exports it with all that lies between; "
            "networks alone: Panoptic-DeepLab, DeepLabV3+, COPS, SOLOv2, EfficientPS with SOLOv2"
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
    from mmpanoptic.deployment.end_to_end import Network, named_outputs

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


def export_end_to_end(
    model: Any,
    out: Path,
    size: Sequence[int] | None = None,
    score_thr: float = 0.0,
    images: Sequence[np.ndarray] = (),
    precision: str = "fp32",
) -> str:
    """Write a model from the image to the panoptic map: a graph, and a JSON beside it.

    Args:
        model (nn.Module): From ``init_model``, on the CPU; it is changed, and cannot be trained
            afterwards.
        out (Path): The ``.onnx`` file, or a folder that gets ``model.onnx``; the JSON has the same
            name with ``.json``.
        size (Sequence[int] | None): Height and width of the images to fix; None leaves them open.
        score_thr (float): Things below it are left out by who reads the files.
        images (Sequence[np.ndarray]): uint8 BGR ``(H, W, 3)`` to compare with PyTorch.
        precision (str): "fp32", "fp16" (weights stored in half precision) or "int8" (convolutions
            and linear layers in 8 bits), see :mod:`mmpanoptic.deployment.precision`.

    Returns:
        str: What was written, and of each image how much of its map is equal.

    Raises:
        ExportError: If a part has no counterpart in the graph, or the precision costs quality;
            the message names it.
        ImportError: If a package is absent.
    """
    check_packages(bool(images) or precision == "int8")
    from mmpanoptic.deployment.end_to_end import build_graph
    from mmpanoptic.deployment.precision import check_precision, save_graph

    steps = test_pipeline_steps(model.cfg)
    if hasattr(model, "fusion_head"):
        check_precision(model.fusion_head, precision)
    fixed = None if size is None else (int(size[0]), int(size[1]))
    expected = StackingInferencer.of_model(model)(list(images)) if images else []
    facts = describe_files(model, fixed, score_thr, precision)
    graph = build_graph(model, steps, fixed)
    path = out if out.suffix == ".onnx" else out / DEFAULT_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        save_graph(graph, temporary, precision)
    with atomic_write(path.with_suffix(".json")) as temporary:
        temporary.write_text(facts_text(facts), encoding="utf-8")
    lines = [f"written to {path} and {path.with_suffix('.json').name}"]
    if images:
        from mmpanoptic.runtime import PanopticRuntime

        found = PanopticRuntime(path, score_thr=0.0)(list(images))
        lines += [_compare_maps(a, b) for a, b in zip(found, expected, strict=True)]
    return "\n".join(lines)


def _compare_maps(found: Any, expected: Any) -> str:
    same = float((found.panoptic_seg == expected.panoptic_seg).mean())
    counts = len(found.segments_info), len(expected.segments_info)
    return (
        f"compared with PyTorch: {same:.2%} of the pixels equal, {counts[0]} segments here and "
        f"{counts[1]} there"
    )


def describe_files(
    model: Any, size: tuple[int, int] | None, score_thr: float, precision: str
) -> dict[str, Any]:
    """Collect what the graph does not say, see :mod:`mmpanoptic.runtime.model_file`."""
    head = model.fusion_head
    facts: dict[str, Any] = {
        "format": FORMAT,
        "mmpanoptic": __version__,
        "system": type(model).__name__,
        "fusion_head": type(head).__name__,
        "kind": "multicut" if hasattr(head, "solve_asymmetric") else "panoptic",
        "image_size": None if size is None else list(size),
        "precision": precision,
        "score_thr": score_thr,
        "categories": LabelTable.from_metainfo(model.dataset_meta).to_categories(),
    }
    if facts["kind"] == "multicut":
        if head.score_mode != "network":
            raise ExportError(
                f"MulticutHead(score_mode={head.score_mode!r}) is not served without torch; export "
                "with --cfg-options model.fusion_head.score_mode=network"
            )
        facts["multicut"] = {
            "distances": list(head.distances),
            "intervals": list(head.intervals),
            "isthing": head.thing_flags,
            "stride": head.stride,
            "stuff_area": head.stuff_area,
            "instance_area": head.instance_area,
            "min_cells": head.min_cells,
            "solver": vars(head.solver_options),
        }
    return facts
