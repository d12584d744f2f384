"""The tutorial on a backbone of one's own: its page tells what its file does, and the file runs."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmpanoptic.checkpoints.key_map import CheckpointMismatchError
from mmpanoptic.checkpoints.loading import load_checkpoint
from mmpanoptic.datasets.shapes import ShapesSettings, generate_shapes
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.engine.feature_maps import measure_feature_maps
from mmpanoptic.registry import MODELS
from tests import fake_timm

ROOT = Path(__file__).parent.parent
FILE = ROOT / "examples" / "own_backbone.py"
PAGE = (ROOT / "docs" / "own_backbone.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)
SNIPPETS = [block for block in BLOCKS if block.startswith("backbone = dict(")]
TINY = ["--iterations", "2", "--num-workers", "0"]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes")
    list(generate_shapes(root, {"train": 8, "val": 2}, ShapesSettings(96, 64), 1))
    return root


@pytest.fixture(scope="module")
def example():
    sys.path.insert(0, str(ROOT))
    try:
        from examples import own_backbone
    finally:
        sys.path.remove(str(ROOT))
    init_default_scope("mmpanoptic")
    return own_backbone


def run(*arguments):
    """Run a command as the page says, from the root of the clone."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_page_shows_the_code_of_the_file():
    code = FILE.read_text(encoding="utf-8")
    shown = [block for block in BLOCKS if "_base_" not in block and block not in SNIPPETS]
    assert len(shown) >= 4
    for block in shown:
        assert block.strip("\n") in code


def test_the_config_of_the_page_is_the_model_of_the_file(example, tmp_path):
    (block,) = [block for block in BLOCKS if "_base_" in block]
    path = tmp_path / "my_config.py"
    path.write_text(block.replace('_base_ = "', f'_base_ = "{ROOT}/'))
    sys.path.insert(0, str(ROOT))
    try:
        cfg = Config.fromfile(path)
    finally:
        sys.path.remove(str(ROOT))
    expected = example.make_config(example.plain(), "data/shapes", "work")
    assert cfg.model.to_dict() == expected.model.to_dict()
    features = MODELS.build(resolve_config(cfg).model.backbone)(torch.zeros(1, 3, 64, 96))
    assert [tuple(f.shape[1:]) for f in features] == [(32, 16, 24), (64, 8, 12), (128, 4, 6)]


def test_the_backbones_of_the_page_make_maps(monkeypatch):
    """A stand-in takes the place of timm; mmpretrain is tried where it is installed."""
    fake_timm.stand_in(monkeypatch)
    init_default_scope("mmpanoptic")
    found = [part for text in SNIPPETS for part in text.split("backbone = ")[1:]]
    assert len(found) == 3
    for text in found:
        cfg = Config.fromstring(f"backbone = {text}", ".py").backbone
        if cfg.type.startswith("mmpretrain") and importlib.util.find_spec("mmpretrain") is None:
            continue
        assert measure_feature_maps(cfg)["feature_strides"] == [4, 8, 16, 32]


def test_the_file_trains_and_the_tools_take_its_result(shapes, tmp_path):
    work = tmp_path / "work"
    run(FILE, "train", "plain", "--data", shapes, "--work-dir", work, *TINY)
    (config,) = work.glob("*.py")
    text = run("tools/test.py", config, work, "--work-dir", tmp_path / "test")
    assert "coco_panoptic/PQ" in text


def classifier_of(backbone, rename, extra):
    """What a trained classifier's file would hold."""
    state = {rename(name): value for name, value in backbone.state_dict().items()}
    return {**state, **extra}


def test_weights_of_a_classifier_become_the_backbone(example, tmp_path, capsys):
    torch.manual_seed(3)
    net = example.PlainNet()
    head = {"module.fc.weight": torch.zeros(5, 128), "module.fc.bias": torch.zeros(5)}
    state = classifier_of(net, lambda name: f"module.features.{name}", head)
    source, out = tmp_path / "classifier.pth", tmp_path / "plain.pth"
    torch.save({"state_dict": state}, source)
    example.main(["convert", "plain", str(source), str(out)])
    assert "2 tensors deliberately dropped" in capsys.readouterr().out
    weights = load_checkpoint(out)["state_dict"]
    assert weights.keys() == {f"backbone.{name}" for name in net.state_dict()}
    for name, value in net.state_dict().items():
        assert torch.equal(weights[f"backbone.{name}"], value)


def test_a_tensor_without_a_place_is_an_error(example, tmp_path):
    net = example.PlainNet()
    state = classifier_of(net, lambda name: f"module.features.{name}", {"module.se": torch.ones(1)})
    torch.save(state, tmp_path / "classifier.pth")
    with pytest.raises(CheckpointMismatchError, match=r"unexpected \(se\)"):
        example.main(
            ["convert", "plain", *(str(tmp_path / n) for n in ("classifier.pth", "o.pth"))]
        )


def test_training_starts_from_the_converted_weights(example, shapes, tmp_path):
    net = example.PlainNet()
    state = classifier_of(net, lambda name: f"module.features.{name}", {})
    torch.save(state, tmp_path / "classifier.pth")
    example.main(["convert", "plain", *(str(tmp_path / n) for n in ("classifier.pth", "p.pth"))])
    work = tmp_path / "work"
    text = run(
        *(FILE, "train", "plain", "--data", shapes, "--work-dir", work, *TINY),
        *("--weights", tmp_path / "p.pth"),
    )
    assert f"Load checkpoint from {tmp_path / 'p.pth'}" in text


TIMM = ["resnet18", "convnext_atto", "mobilenetv3_small_050", "hrnet_w18_small"]


@pytest.mark.optional
@pytest.mark.parametrize("name", TIMM)
def test_models_of_timm(example, tmp_path, name):
    pytest.importorskip("timm")
    backbone = example.timm_model(name)
    cfg = resolve_config(example.make_config(backbone, str(tmp_path), "work"))
    model = MODELS.build(cfg.model)
    features = model.backbone(torch.zeros(2, 3, 64, 96))
    assert [f.shape[1] for f in features] == list(backbone.channels)
    assert [64 // f.shape[2] for f in features] == list(backbone.strides)


@pytest.mark.optional
def test_training_on_a_model_of_timm(shapes, tmp_path):
    pytest.importorskip("timm")
    arguments = ["--data", shapes, "--work-dir", tmp_path / "work", *TINY]
    run(FILE, "train", "timm", "--model", "resnet18", *arguments)
