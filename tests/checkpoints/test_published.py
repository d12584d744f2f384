"""Published weights for the model at hand: downloaded, converted once, told what does not fit."""

import dataclasses
import logging
import multiprocessing
import pickle
import time

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from torch import nn

from mmpanoptic.apis import get_config, init_model
from mmpanoptic.apis.offline_fusion import load_semantic_part, use_saved_instances
from mmpanoptic.checkpoints import CheckpointError, load_checkpoint
from mmpanoptic.checkpoints import published as module
from mmpanoptic.checkpoints.efficientps_keys import EfficientPSKeyMap
from mmpanoptic.checkpoints.panoptic_deeplab_keys import PanopticDeepLabKeyMap
from mmpanoptic.checkpoints.published import install_safe_loading, load_for_model
from mmpanoptic.checkpoints.weights import manifest
from mmpanoptic.engine.resume import ResumeMixin
from mmpanoptic.models.postprocess.instance_files import SavedInstances, write_instances
from mmpanoptic.registry import MODELS
from tests.apis.tiny_model import CONFIG

from .file_server import FileServer

NO_DATA = {"data_root": "no such folder"}
install_safe_loading()


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("MMPANOPTIC_HOME", str(tmp_path / "home"))
    server = FileServer()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def publish(server, monkeypatch):
    """Put a file on the server and into the manifest."""

    def add(name, data, like="panoptic-deeplab/r52_cityscapes", **fields):
        path = f"/{name}.bin"
        server.files[path] = data
        entry = dataclasses.replace(
            manifest()[like], id=name, url=(server.url(path),), file="x.bin", sha256=None, **fields
        )
        monkeypatch.setitem(manifest(), name, entry)
        return f"mmpanoptic://{name}"

    return add


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = init_model(CONFIG, device="cpu", cfg_options=NO_DATA)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    return model


def released(model, **changes):
    """The model as detectron2 pickles it."""
    state = PanopticDeepLabKeyMap(model).to_published(model.state_dict())
    content = {name: value.numpy() for name, value in {**state, **changes}.items()}
    return pickle.dumps({"model": content, "__author__": "x"}, 4)


def same(state, model):
    return all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_a_published_model_is_loaded_by_its_id(publish, server, model):
    address = publish("test/model", released(model))
    for _ in range(2):
        ours = init_model(CONFIG, address, "cpu", NO_DATA)
        assert same(ours.state_dict(), model)
    assert len(server.requests) == 1


def test_the_conversion_is_kept_with_the_hash_of_its_source(publish, model, monkeypatch):
    address = publish("test/model", released(model))
    calls = []
    convert = module.convert_published
    monkeypatch.setattr(
        module, "convert_published", lambda *a, **k: calls.append(a[1]) or convert(*a, **k)
    )
    for _ in range(2):
        content = load_for_model(model, address)
    (kept,) = calls
    source = manifest()["test/model"].remote.path
    assert kept.parent == source.parent
    digest = module.check_cached(manifest()["test/model"].remote)["sha256"]
    assert load_checkpoint(kept)["meta"] == {"converted": address, "source_sha256": digest}
    assert content["meta"]["source_sha256"] == digest
    kept.write_bytes(kept.read_bytes()[:-100])  # a damaged one is made anew
    assert same(load_for_model(model, address)["state_dict"], model)
    assert len(calls) == 2


def test_another_source_is_converted_anew(publish, server, model):
    address = publish("test/model", released(model))
    first = load_for_model(model, address)["state_dict"]
    bias = "sem_seg_head.predictor.bias"
    other = released(model, **{bias: torch.full_like(first["semantic_head.predictor.bias"], 7.0)})
    server.files["/test/model.bin"] = other
    module.locate(address, again=True)
    again = load_for_model(model, address)["state_dict"]
    assert (again["semantic_head.predictor.bias"] == 7).all()


def test_other_classes_start_anew_in_training_and_are_refused_elsewhere(publish, model, caplog):
    bias = torch.zeros(133)
    weight = torch.zeros(133, *model.semantic_head.predictor.weight.shape[1:])
    name = "sem_seg_head.predictor."
    address = publish(
        "test/other", released(model, **{f"{name}weight": weight, f"{name}bias": bias})
    )
    with pytest.raises(CheckpointError, match=r"does not fit PanopticSegmentor: 2 tensors have"):
        load_for_model(model, address)
    state = load_for_model(model, address, training=True)["state_dict"]
    assert model.state_dict().keys() - state.keys() == {
        "semantic_head.predictor.weight",
        "semantic_head.predictor.bias",
    }


def test_another_variant_is_refused_in_training_too(publish, model):
    data = released(model, **{"sem_seg_head.more": torch.zeros(1)})
    address = publish("test/model", data)
    with pytest.raises(CheckpointError, match=r"1 are unexpected \(sem_seg_head\.more\)"):
        load_for_model(model, address, training=True)


def test_another_input_is_told(publish, model, monkeypatch):
    said = []
    monkeypatch.setattr(module, "print_log", lambda text, _, level=20: said.append((level, text)))
    load_for_model(model, publish("test/same", released(model)))
    assert not any("was trained on" in text for _, text in said)
    load_for_model(model, publish("test/bgr", released(model), order="BGR"))
    (text,) = [text for level, text in said if level == logging.WARNING]
    assert "was trained on BGR with mean [123.675" in text
    assert "the model takes RGB" in text


class Detector(BaseModule):
    def __init__(self, checkpoint):
        super().__init__()
        init_cfg = {"type": "Pretrained", "checkpoint": checkpoint}
        self.backbone = MODELS.build(
            {"type": "DeepLabResNet", "depth": 50, "base_width": 8, "init_cfg": init_cfg}
        )
        self.head = nn.Linear(2, 2)


def imagenet_file(backbone):
    """ImageNet weights as timm names those of the deep stem, with a classifier."""
    state = {}
    for name, value in backbone.state_dict().items():
        name = name.replace("stem.7.", "bn1.").replace("stem.", "conv1.")
        if not name.endswith("num_batches_tracked"):
            state[name] = torch.rand(value.shape)
    return {**state, "fc.weight": torch.zeros(10, 4)}


def dump(state):
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["id", "address", "path"])
def test_a_backbone_is_initialised_without_a_converter(publish, server, tmp_path, form):
    state = imagenet_file(Detector("none").backbone)
    data = dump(state)
    address = publish("test/backbone", data, like="imagenet/resnet50s-gluon")
    if form == "address":
        server.files["/b.pth"] = data
        address = server.url("/b.pth")
    elif form == "path":
        (tmp_path / "b.pth").write_bytes(data)
        address = str(tmp_path / "b.pth")
    detector = Detector(address)
    detector.init_weights()
    assert torch.equal(detector.backbone.stem[0].weight, state["conv1.0.weight"])
    assert torch.equal(detector.backbone.stem[7].bias, state["bn1.bias"])
    assert torch.equal(detector.backbone.layer4[2].bn3.weight, state["layer4.2.bn3.weight"])


def test_a_backbone_that_does_not_fit_is_refused(tmp_path):
    state = imagenet_file(Detector("none").backbone)
    del state["layer1.0.conv1.weight"]
    torch.save(state, tmp_path / "b.pth")
    state = {name.replace("layer", "stage"): value for name, value in state.items()}
    torch.save(state, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match=r"none of its names.*tensors are missing"):
        Detector(str(tmp_path / "b.pth")).init_weights()


def test_a_backbone_starts_a_whole_model(publish, model):
    """What load_from of a config does."""
    state = imagenet_file(Detector("none").backbone)
    detector = Detector("none")
    address = publish("test/backbone", dump(state), like="imagenet/resnet50s-gluon")
    ours = load_for_model(detector, address, training=True)["state_dict"]
    assert {name.split(".")[0] for name in ours} == {"backbone"}
    with pytest.raises(CheckpointError, match="does not fit PanopticSegmentor"):
        load_for_model(model, address)  # ResNet-18


def test_our_own_checkpoints_stay_as_they_are(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / "a.pth")
    assert same(load_for_model(model, tmp_path / "a.pth")["state_dict"], model)
    wrapped = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": wrapped, "meta": {"iter": 3}}, tmp_path / "b.pth")
    content = load_for_model(model, tmp_path / "b.pth")
    assert content["meta"] == {"iter": 3}
    assert content["state_dict"].keys() == wrapped.keys()


def load_in_a_process(address):
    torch.set_num_threads(1)
    return load_for_model(init_model(CONFIG, device="cpu", cfg_options=NO_DATA), address)["meta"]


def test_of_several_processes_one_downloads_and_converts(
    publish, server, model, monkeypatch, tmp_path
):
    convert, log = module.convert_published, tmp_path / "conversions"

    def slow(*args, **settings):
        time.sleep(0.5)
        with log.open("a") as file:
            file.write("x")
        return convert(*args, **settings)

    monkeypatch.setattr(module, "convert_published", slow)
    address = publish("test/model", released(model))
    server.slow = 0.001
    with multiprocessing.get_context("fork").Pool(2) as pool:
        first, second = pool.map(load_in_a_process, [address] * 2)
    assert first == second
    assert len(server.requests) == 1
    assert log.read_text() == "x"


def test_a_missing_stage_of_ours_says_what_to_train():
    cfg = Config({"load_from": "work_dirs/cops_r52_pretrain_4xb12-50k/iter_50000.pth"})
    with pytest.raises(CheckpointError, match=r"what cops_r52_pretrain_4xb12-50k writes\. Train"):
        ResumeMixin._load_ahead(cfg)


EPS = "efficientps-maskrcnn_b0-tiny_1xb8-600_shapes"


def test_saved_instances_are_fused_with_published_weights(publish, tmp_path):
    torch.manual_seed(0)
    whole = init_model(EPS, device="cpu", cfg_options=NO_DATA)
    for name, value in whole.state_dict().items():
        if name.endswith(".bn.weight"):
            value.uniform_(0.5, 1.5)
    state = EfficientPSKeyMap(whole).to_published(whole.state_dict())
    address = publish("test/eps", dump(state), like="efficientps/cityscapes", by_hand=None)
    cfg = get_config(EPS)
    things = tuple(whole.dataset_meta["classes"][i] for i in whole.fusion_head.thing_labels)
    none = torch.zeros(0)
    write_instances(
        tmp_path,
        SavedInstances(1, things, none.long(), none, torch.zeros(0, 8, 8, dtype=torch.bool)),
    )
    semantic = MODELS.build(use_saved_instances(cfg.copy(), tmp_path).model)
    load_semantic_part(semantic, address, cfg)
    assert same(whole.state_dict(), semantic)
