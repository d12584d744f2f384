"""Preprocessing and schedule of RAP against the reference's numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope

from mmpanoptic.checkpoints.rap_keys import RapKeyMap
from mmpanoptic.datasets.label_sets import COCO_PANOPTIC
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.registry import MODELS, TRANSFORMS
from tests.golden import Golden, golden_cases
from tests.parity.rap_variants import CONFIGS, SYSTEM


@pytest.fixture(scope="module")
def cfg():
    config = Config.fromfile(CONFIGS / "panoptic-fpn_r50_8xb2-150k_coco.py")
    return resolve_config(config, COCO_PANOPTIC.to_metainfo())


def resize_of(cfg: Config, **options) -> object:
    (step,) = [s for s in cfg.test_pipeline if s["type"] == "ResizeShortestEdge"]
    return TRANSFORMS.build({**step, **options})


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "resize_sizes*.json"))
def test_sizes(path, cfg):
    data = json.loads(path.read_text())
    resize = resize_of(cfg, short_edge=data["min_size"], max_size=data["max_size"])
    ours = {}
    for key in data["wh_to_output_hw"]:
        width, height = map(int, key.split("x"))
        ours[key] = list(resize.choose_size(height, width))
    assert ours == data["wh_to_output_hw"]


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "preprocess*.npz"))
def test_pixels(path, cfg):
    data = Golden(path)
    resize = resize_of(cfg, short_edge=int(data["short_side"]), max_size=int(data["max_side"]))
    bgr = resize({"img": np.ascontiguousarray(data["image_rgb_hwc"][..., ::-1])})["img"]
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    batch = {"inputs": [torch.from_numpy(bgr).permute(2, 0, 1)], "data_samples": None}
    ours = preprocessor(batch)["inputs"][0]
    height, width = data["tensor"].shape[1:]
    data.close("rap.pixels", "tensor", ours[:, :height, :width])
    assert not ours[:, height:].any()
    assert not ours[:, :, width:].any()


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "label_resize*.npz"))
def test_labels_are_resized_with_nearest_neighbour(path, cfg):
    data = Golden(path)
    height, width = data["size_hw"].tolist()
    resize = resize_of(cfg, short_edge=min(height, width), max_size=max(height, width))
    label = data["label"]
    results = {"img": np.zeros((*label.shape, 3), np.uint8), "gt_seg_map": label}
    ours = resize(results)["gt_seg_map"]
    assert ours.shape == (height, width)
    # The reference's mistake makes classes up that the map does not have; nearest does not.
    assert set(np.unique(ours)) <= set(np.unique(label))
    assert not set(np.unique(data["reference_result"])) <= set(np.unique(label))
    # "nearest" of OpenCV takes other pixels than Pillow, whose rule the image follows.
    assert (ours != data["nearest"]).mean() < 0.02


def rates(cfg: Config, optim_wrapper: OptimWrapper, iterations: list[int]) -> dict:
    """Learning rates of the first parameter that decays, by iteration counted from 1."""
    schedulers = []
    for options in cfg.param_scheduler:
        schedulers.append(PARAM_SCHEDULERS.build(dict(options, optimizer=optim_wrapper)))
    group = next(g for g in optim_wrapper.param_groups if g["weight_decay"])
    found = {}
    for iteration in range(1, max(iterations) + 1):
        found[iteration] = group["lr"]
        for scheduler in schedulers:
            scheduler.step()
    return {iteration: found[iteration] for iteration in iterations}


@pytest.fixture(scope="module")
def model(cfg):
    with torch.device("meta"):
        return MODELS.build(cfg.model)


def wrap(cfg: Config, model: torch.nn.Module) -> OptimWrapper:
    with DefaultScope.overwrite_default_scope("mmpanoptic"):
        return build_optim_wrapper(model, cfg.optim_wrapper)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "schedule*.json"))
def test_base_schedule(path, cfg):
    expected = json.loads(path.read_text())["base"]["lr_by_iteration_weights"]
    expected = {int(iteration): rate for iteration, rate in expected.items()}
    small = torch.nn.Linear(1, 1)
    ours = rates(cfg, wrap(cfg, small), list(expected))
    assert ours == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "schedule*.json"))
def test_parameter_groups(path, cfg, model):
    expected = json.loads(path.read_text())["base"]
    wrapper = wrap(cfg, model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    published = RapKeyMap(model).published
    base = cfg.optim_wrapper.optimizer
    groups = [g for g in wrapper.param_groups if g["params"][0].requires_grad]
    assert len(groups) == expected["num_param_groups"]
    biases = 0
    for group in groups:
        (parameter,) = group["params"]
        is_bias = "bias" in published[names[id(parameter)]]
        biases += is_bias
        assert group["lr"] == pytest.approx(base.lr * (2 if is_bias else 1))
        assert group["weight_decay"] == (0 if is_bias else base.weight_decay)
        assert group["momentum"] == expected["momentum"]
    assert biases == expected["bias_groups"]
