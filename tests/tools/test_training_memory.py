"""The memory table: every config of real data, the page, and the rule against measured peaks."""

import json

import pytest
import torch
from mmengine.registry import init_default_scope

from mmpanoptic.apis.speed import make_batch
from mmpanoptic.models.layers import checkpoint_backbone
from tests.gpu.real_configs import real_configs, resolve, size_of
from tests.tools.load_tool import load_tool

TOOL = load_tool("dev/training_memory.py")
MEASURED = {
    "panoptic-deeplab_r18-tiny_1xb8-500_shapes": 1.3,
    "cops_r18-tiny_pretrain_1xb8-600_shapes": 1.3,
    "panoptic-fpn_r18-tiny_1xb8-1k_shapes": 1.75,  # fewer boxes are sampled than may be
}
"""The rule by the measured peak, at most: what it adds up is not always held at the same time."""
LEAST = 0.95
IMAGES, SIZE = 4, (128, 192)


@pytest.fixture(scope="module")
def figures():
    return json.loads(TOOL.FIGURES.read_text(encoding="utf-8"))


def peak_of(step):
    """Most bytes that PyTorch holds at a time of what a step allocates."""
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        step()
    now = most = 0
    events = [e for e in profile.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


@pytest.mark.parametrize("lean", [False, True], ids=["plain", "checkpointed"])
@pytest.mark.parametrize("name", MEASURED)
def test_the_rule_is_close_to_what_a_step_takes(name, lean):
    init_default_scope("mmpanoptic")
    cfg = resolve(name)
    found = TOOL.memory_of(cfg, SIZE, "cpu")
    if lean and found["fp32"]["checkpointed"] is None:
        pytest.skip("computing the blocks again gains nothing in this network")
    model = TOOL.build(cfg.model)
    torch.manual_seed(0)
    model.init_weights()
    if lean:
        checkpoint_backbone(model.backbone)
    batch = model.data_preprocessor(make_batch(cfg, IMAGES, *SIZE), True)

    def step():
        model.parse_losses(model(**batch, mode="loss"))[0].backward()

    peak = peak_of(step)
    gradients = sum(4 * p.numel() for p in model.parameters() if p.requires_grad)
    expected = TOOL.bytes_of(found, "fp32", IMAGES, lean) - found["fixed"] + gradients
    assert LEAST <= expected / peak <= MEASURED[name], (expected, peak)


def test_every_config_of_real_data_is_counted(figures):
    configs = {name: resolve(name) for name in real_configs()}
    assert list(figures) == [n for n, c in configs.items() if c.model.type != TOOL.UNCOUNTED]
    for name, found in figures.items():
        cfg = configs[name]
        assert found["batch"] == cfg.train_dataloader.batch_size, name
        assert found["size"] == list(size_of(name)), name
        assert 0 < found["bf16"]["kept"] <= found["fp32"]["kept"], name


def test_the_page_shows_the_figures(figures, tmp_path, monkeypatch):
    page = TOOL.PAGE.read_text(encoding="utf-8")
    monkeypatch.setattr(TOOL, "PAGE", tmp_path / "page.md")
    TOOL.PAGE.write_text(page, encoding="utf-8")
    TOOL.write_page(figures)
    assert TOOL.PAGE.read_text(encoding="utf-8") == page


def test_the_pretrainings_of_cops_fit_24_gib_with_their_options(figures):
    pretrainings = {name: f for name, f in figures.items() if "pretrain" in name}
    assert len(pretrainings) == 4
    for name, found in pretrainings.items():
        assert found["batch"] == 12
        assert TOOL.largest_batch(found, "bf16", 24, lean=True) >= 12, name
        assert TOOL.largest_batch(found, "fp32", 24, lean=True) >= 6, name


def test_a_batch_fits_and_one_more_image_does_not():
    found = {"fixed": TOOL.GIB, "fp32": {"kept": TOOL.GIB, "checkpointed": None, "largest": 0}}
    batch = TOOL.largest_batch(found, "fp32", 24)
    assert TOOL.bytes_of(found, "fp32", batch) <= 24 * TOOL.USABLE * TOOL.GIB
    assert TOOL.bytes_of(found, "fp32", batch + 1) > 24 * TOOL.USABLE * TOOL.GIB
    assert TOOL.largest_batch({**found, "fixed": 24 * TOOL.GIB}, "fp32", 24) == 0


def test_an_unknown_config_is_told(capsys):
    assert TOOL.main(["--again", "missing"]) == 1
    assert "missing: no config of real data" in capsys.readouterr().err
