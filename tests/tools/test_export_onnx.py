import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmpanoptic.apis import init_model, onnx_export
from mmpanoptic.deployment.end_to_end import named_outputs
from tests.apis.tiny_model import CONFIG

TOOL = "export_onnx.py"
NO_DATA = {"data_root": "no such folder"}
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def test_help_shows_examples(run_tool):
    assert "examples:\n" in run_tool(TOOL, "--help").stdout


def test_missing_packages_are_named(run_tool, checkpoint, monkeypatch):
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    done = run_tool(TOOL, CONFIG, checkpoint, "o.onnx", "--size", 64, 96, status=1)
    assert "pip install onnx onnxscript onnxruntime" in done.stderr


@pytest.mark.parametrize("options", [["--size", 0, 64], ["--size", 64, 64, "--opset", 11]])
def test_bad_numbers_are_refused(run_tool, checkpoint, options):
    done = run_tool(TOOL, CONFIG, checkpoint, "o.onnx", *options, status=2)
    assert f"error: argument {options[-2 if options[-1] == 11 else 0]}: must be" in done.stderr


def test_outputs_are_named_by_their_fields():
    model = init_model(CONFIG, device="cpu", cfg_options=NO_DATA)
    with torch.no_grad():
        outputs = named_outputs(model.forward_heads(torch.zeros(1, 3, 64, 96)))
    assert list(outputs) == ["semantic", "center", "offset"]
    assert list(named_outputs((torch.zeros(1), None, torch.zeros(1)))) == [
        "output0",
        "output2",
    ]


@pytest.mark.optional
@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        "panoptic-deeplab_r50-tiny_1xb8-900_shapes",
        "panoptic-deeplab_x65-tiny_1xb8-700_shapes",
        "panoptic-deeplab_h8-tiny_1xb8-900_shapes",
    ],
)
def test_onnxruntime_computes_what_pytorch_computes(run_tool, config):
    for package in PACKAGES:
        pytest.importorskip(package)
    import onnxruntime

    torch.manual_seed(0)
    model = init_model(config, device="cpu", cfg_options=NO_DATA)
    torch.save({"state_dict": model.state_dict()}, "weights.pth")
    options = ["--size", 64, 96, "--batch-size", 2, "--cfg-options", "data_root=no such folder"]
    done = run_tool(TOOL, config, "weights.pth", "model.onnx", *options)
    size = (2, len(model.dataset_meta["classes"]), 16, 24)
    assert f"semantic: {size}, largest relative difference" in done.stdout
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    x = torch.randn(2, 3, 64, 96)
    actual = session.run(["semantic", "center", "offset"], {"inputs": x.numpy()})
    with torch.no_grad():
        semantic, instance = model.forward_heads(x)
    for ours, theirs in zip(actual, (semantic, *instance), strict=True):
        scale = float(theirs.abs().max())
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-4 * scale)
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["mean"]) == list(model.cfg.model.data_preprocessor.mean)
    assert json.loads(facts["classes"]) == list(model.dataset_meta["classes"])


def test_the_command_writes_and_compares(run_tool, checkpoint):
    for package in PACKAGES:
        pytest.importorskip(package)
    y, x = np.mgrid[:64, :96]
    photo = np.stack([2 * x, 255 - 2 * x, 3 * y], -1).astype(np.uint8)
    cv2.imwrite("photo.png", photo)
    options = ["--end-to-end", "--size", 64, 96, "--compare", "photo.png"]
    options += ["--score-thr", 0.3, "--cfg-options", "data_root=no such folder"]
    done = run_tool("export_onnx.py", CONFIG, checkpoint, "out/net.onnx", *options)
    equal = re.search(r"compared with PyTorch: ([\d.]+)% of the pixels equal", done.stdout)
    assert float(equal[1]) >= 99.9
    facts = json.loads(Path("out/net.json").read_text())
    assert facts["score_thr"] == 0.3
    assert facts["image_size"] == [64, 96]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--end-to-end", "--no-check"], "--no-check counts only without --end-to-end"),
        (["--size", 64, 64, "--precision", "fp16"], "--precision counts only with --end-to-end"),
    ],
)
def test_options_that_would_do_nothing_are_refused(run_tool, options, message):
    done = run_tool("export_onnx.py", CONFIG, "weights.pth", "m.onnx", *options, status=2)
    assert message in done.stderr


def test_a_network_alone_needs_a_size(run_tool, checkpoint):
    options = ["--cfg-options", "data_root=no such folder"]
    done = run_tool("export_onnx.py", CONFIG, checkpoint, "m.onnx", *options, status=2)
    assert "--size H W is needed" in done.stderr
