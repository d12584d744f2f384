import json
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch

from mmpanoptic.apis import init_model
from mmpanoptic.checkpoints.loading import load_checkpoint
from mmpanoptic.checkpoints.panoptic_deeplab_keys import PanopticDeepLabKeyMap
from tests.apis.tiny_model import CONFIG
from tests.golden import golden_dir

TOOL = "model_converters/panoptic_deeplab.py"
BACKBONE_TOOL = "model_converters/backbone.py"
RECIPE = "panoptic-deeplab_{}_8xb4-90k_cityscapes-512x1024"
NO_DATA = ("--cfg-options", "data_root=no such folder")


def manifest_weights(name):
    """float16 weights of a golden manifest: what counts here is names, shapes and bits."""
    manifest = json.loads((golden_dir("panoptic_deeplab") / f"manifest_{name}.json").read_text())
    generator = np.random.default_rng(0)
    weights = {}
    for tensor, shape in manifest.items():
        integer = tensor.endswith("num_batches_tracked")
        value = np.zeros(shape, np.int64 if integer else np.float16)
        value.flat[:4] = generator.integers(1, 100, value[..., None].reshape(-1)[:4].shape)
        weights[tensor] = value
    return weights


def dump(path, content):
    path.write_bytes(pickle.dumps(content, 4))
    return path


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = init_model(CONFIG, device="cpu", cfg_options={"data_root": "no such folder"})
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    return model


@pytest.fixture
def published(model):
    """The demo's model as detectron2 would store it."""
    state = PanopticDeepLabKeyMap(model).to_published(model.state_dict())
    return {name: value.numpy() for name, value in state.items()}


def test_a_released_model_loads_after_conversion(run_tool, model, published):
    mean, std = (np.float32(model.cfg.model.data_preprocessor[k]) for k in ("mean", "std"))
    thin = {n: v for n, v in published.items() if not n.endswith("num_batches_tracked")}
    thin |= {"pixel_mean": mean.reshape(3, 1, 1), "pixel_std": std.reshape(3, 1, 1)}
    source = dump(run_tool.folder / "a model.pkl", {"model": thin, "__author__": "x"})
    done = run_tool(TOOL, source, "ours.pth", "--config", CONFIG, *NO_DATA)
    counters = len(published) - len(thin) + 2
    assert f"{len(published)} tensors written to ours.pth" in done.stdout
    assert f"{counters} of them are batch counters" in done.stdout
    assert "2 tensors deliberately dropped\n  pixel_mean\n  pixel_std" in done.stdout
    # No dataset is needed: the label table is in the file.
    ours = init_model(CONFIG, "ours.pth", "cpu", {"data_root": "no such folder"})
    for name, value in model.state_dict().items():
        expected = torch.zeros_like(value) if name.endswith("num_batches_tracked") else value
        assert torch.equal(ours.state_dict()[name], expected)


@pytest.mark.parametrize("form", ["training", "data parallel", "zip called pkl"])
def test_files_of_torch_save_are_read(run_tool, model, published, form):
    tensors = {name: torch.from_numpy(value) for name, value in published.items()}
    path = run_tool.folder / ("x.pkl" if "pkl" in form else "x.pth")
    content = {"model": tensors, "optimizer": {"state": {}}, "iteration": 9}
    if form == "data parallel":
        content = {f"module.{name}": value for name, value in tensors.items()}
    torch.save(content, path)
    run_tool(TOOL, path, "ours.pth", "--config", CONFIG, *NO_DATA)
    state = load_checkpoint("ours.pth")["state_dict"]
    assert all(torch.equal(state[n], v) for n, v in model.state_dict().items())


def test_the_way_back_gives_the_published_file(run_tool, model, published):
    torch.save({"state_dict": model.state_dict()}, "ours.pth")
    run_tool(TOOL, "ours.pth", "theirs.pth", "--to-published", "--config", CONFIG, *NO_DATA)
    theirs = load_checkpoint("theirs.pth")["model"]
    assert theirs.keys() == published.keys()
    assert all(np.array_equal(theirs[n], v) for n, v in published.items())


def test_what_does_not_fit_is_refused_and_nothing_is_written(run_tool, published):
    name = "sem_seg_head.predictor.bias"
    cases = {
        "another shape than": {name: np.zeros(133, np.float32)},
        "1 are unexpected (sem_seg_head.extra": {"sem_seg_head.extra": np.zeros(1)},
        "trained with pixel_mean [128.0": {"pixel_mean": np.full((3, 1, 1), 128.0)},
    }
    for message, change in cases.items():
        source = dump(run_tool.folder / "x.pkl", {"model": {**published, **change}})
        done = run_tool(TOOL, source, "o.pth", "--config", CONFIG, *NO_DATA, status=1)
        assert done.stderr.startswith("error: ")
        assert message in done.stderr
    missing = dict(published)
    del missing[name]
    source = dump(run_tool.folder / "x.pkl", {"model": missing})
    done = run_tool(TOOL, source, "o.pth", "--config", CONFIG, *NO_DATA, status=1)
    assert f"1 tensors are missing ({name})" in done.stderr
    assert not (run_tool.folder / "o.pth").exists()


def test_extra_tensors_are_dropped_where_that_is_said(run_tool, published):
    source = dump(run_tool.folder / "x.pkl", {"model": {**published, "ema.w": np.zeros(1)}})
    done = run_tool(TOOL, source, "o.pth", "--config", CONFIG, "--drop", r"ema\.", *NO_DATA)
    assert "1 tensors deliberately dropped\n  ema.w" in done.stdout


def test_new_classes_leave_only_the_predictor_out(run_tool, model, published):
    for part in ("weight", "bias"):
        name = f"sem_seg_head.predictor.{part}"
        published[name] = np.zeros((133, *published[name].shape[1:]), np.float32)
    source = dump(run_tool.folder / "x.pkl", {"model": published})
    done = run_tool(TOOL, source, "o.pth", "--config", CONFIG, "--new-classes", *NO_DATA)
    assert "2 tensors deliberately dropped\n  sem_seg_head.predictor.bias" in done.stdout
    content = load_checkpoint("o.pth")
    absent = model.state_dict().keys() - content["state_dict"].keys()
    assert absent == {"semantic_head.predictor.weight", "semantic_head.predictor.bias"}
    assert "dataset_meta" not in content["meta"]


def test_a_file_that_would_run_code_is_refused(run_tool, published):
    class Attack:
        def __reduce__(self):
            import os

            return os.mkdir, (str(run_tool.folder / "mark"),)

    source = dump(run_tool.folder / "x.pkl", {"model": {**published, "w": Attack()}})
    done = run_tool(TOOL, source, "o.pth", "--config", CONFIG, *NO_DATA, status=1)
    assert "x.pkl holds more than weights (posix.mkdir)" in done.stderr
    assert not (run_tool.folder / "mark").exists()


@pytest.mark.parametrize("content", [[1], {}, {"model": {"w": 3}}, {"tensors": {"w": np.zeros(1)}}])
def test_files_without_tensors_by_name_are_refused(run_tool, content):
    source = dump(run_tool.folder / "x.pkl", content)
    done = run_tool(TOOL, source, "o.pth", "--config", CONFIG, *NO_DATA, status=1)
    assert "expected a state dict" in done.stderr


IMAGENET = {
    "x65": ("imagenet_xception65_tf", {"fc.weight": (10, 8)}),
    "r52": ("imagenet_r52_d2", {"stem.fc.weight": (10, 8), "stem.fc.bias": (10,)}),
    "h48": ("imagenet_hrnetv2_w48", {}),
}


@pytest.mark.parametrize("backbone", IMAGENET)
def test_imagenet_weights_become_a_backbone(run_tool, backbone):
    manifest, classifier = IMAGENET[backbone]
    weights = manifest_weights(manifest)
    weights |= {name: np.zeros(shape, np.float16) for name, shape in classifier.items()}
    state = OrderedDict((name, torch.from_numpy(value)) for name, value in weights.items())
    if backbone == "r52":
        source = dump(run_tool.folder / "x.pkl", {"model": weights, "matching_heuristics": True})
    elif backbone == "h48":  # as the seed's converter writes it
        source = dump(run_tool.folder / "x.pkl", {"model": state, "__author__": "third_party"})
    else:
        source = run_tool.folder / "x.pth"
        torch.save(state, source, _use_new_zipfile_serialization=False)
    done = run_tool(BACKBONE_TOOL, source, "backbone.pth", "--config", RECIPE.format(backbone))
    dropped = 126 if backbone == "h48" else len(classifier)
    assert f"{len(weights) - dropped} tensors written" in done.stdout
    assert f"{dropped} tensors deliberately dropped" in done.stdout
    ours = load_checkpoint("backbone.pth")["state_dict"]
    assert all(name.startswith("backbone.") for name in ours)
    total = sum(int(value.sum(dtype=torch.float64)) for value in ours.values())
    placed = [v for n, v in weights.items() if not n.startswith(("incre", "downsamp", "final"))]
    kept = sum(int(v.astype(np.float64).sum()) for v in placed)
    kept -= int(weights.get("classifier.weight", np.zeros(1)).astype(np.float64).sum())
    kept -= int(weights.get("classifier.bias", np.zeros(1)).astype(np.float64).sum())
    assert total == kept


@pytest.mark.parametrize("backbone", IMAGENET)
def test_a_foreign_backbone_is_refused(run_tool, backbone):
    source = dump(run_tool.folder / "x.pkl", {"model": {"a.weight": np.zeros(1, np.float32)}})
    config = RECIPE.format(backbone)
    done = run_tool(BACKBONE_TOOL, source, "backbone.pth", "--config", config, status=1)
    assert done.stderr.startswith("error: the checkpoint")


@pytest.mark.parametrize("tool", ["panoptic_deeplab", "backbone"])
def test_help_shows_examples(run_tool, tool):
    assert "examples:\n" in run_tool(f"model_converters/{tool}.py", "--help").stdout
