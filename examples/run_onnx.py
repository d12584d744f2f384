"""Find segments with an exported network; docs/tutorials/onnx.md walks through it.

python examples/run_onnx.py model.onnx work_dirs/run photo.jpg out.png
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import onnxruntime
import torch
from mmengine.dataset import pseudo_collate

from mmpanoptic.apis import build_test_pipeline, init_model
from mmpanoptic.models.instance_heads import CenterOffsetOutputs
from mmpanoptic.models.segmentors import HeadOutputs
from mmpanoptic.structures import id2rgb


def find_segments(onnx_file: str, run: str, image: str) -> Any:
    """Prepare an image as the config says, run the network in onnxruntime, group its outputs.

    Args:
        onnx_file (str): From ``mmpanoptic export``.
        run (str): Folder of the run that was exported; its config prepares and groups.
        image (str): Path of an image.

    Returns:
        DetDataSample: With ``pred_panoptic_seg`` at the size of the image.
    """
    model: Any = init_model(run, device="cpu")  # of its weights none is used here
    packed = build_test_pipeline(model.cfg)({"img_path": image})
    batch = model.data_preprocessor(pseudo_collate([packed]), False)
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    arrays = session.run(names, {"inputs": batch["inputs"].numpy()})
    found = {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}
    instance = CenterOffsetOutputs(found["center"], found["offset"])
    outputs = HeadOutputs(found["semantic"], instance)
    return model.postprocess(outputs, batch["data_samples"])[0]


def main(argv: list[str] | None = None) -> None:
    """Write a panoptic PNG, and print the segments."""
    onnx_file, run, image, out = sys.argv[1:] if argv is None else argv
    panoptic = find_segments(onnx_file, run, image).pred_panoptic_seg
    rgb = id2rgb(panoptic.index_map[0].numpy())
    Path(out).write_bytes(cv2.imencode(".png", rgb[..., ::-1])[1].tobytes())
    for segment in panoptic.segments_info:
        print(segment)


if __name__ == "__main__":
    main()
