import pytest
import torch

from mmpanoptic.apis import get_config, init_model
from mmpanoptic.apis.model import choose_device
from mmpanoptic.checkpoints.loading import CheckpointError
from mmpanoptic.datasets.shapes import SHAPES_TABLE
from mmpanoptic.structures import LabelTable

from .tiny_model import CONFIG

OWN = "panoptic-deeplab_r18-tiny_1xb4-5k_own"


def test_weights_and_mode(checkpoint):
    model = init_model(CONFIG, checkpoint, "cpu")
    stored = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert not model.training
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())
    assert LabelTable.from_metainfo(model.dataset_meta) == SHAPES_TABLE


def test_the_checkpoints_label_table_needs_no_dataset(tmp_path):
    table = LabelTable.from_categories(
        [{"id": 5, "name": "sky", "isthing": 0}, {"id": 9, "name": "kite", "isthing": 1}]
    )
    options = {"data_root": str(tmp_path / "nothing"), "model.semantic_head.num_classes": 2}
    meta = {"dataset_meta": table.to_metainfo()}
    torch.save({"meta": meta, "state_dict": {}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="does not fit"):  # it is built, and has weights
        init_model(OWN, tmp_path / "a.pth", "cpu", options)


def test_without_table_in_the_checkpoint_the_dataset_is_asked(tmp_path):
    with pytest.raises((ValueError, OSError), match="nothing"):
        init_model(OWN, None, "cpu", {"data_root": str(tmp_path / "nothing")})


def test_options_replace_values_of_the_config():
    model = init_model(CONFIG, None, "cpu", {"model.fusion_head.threshold": 0.7})
    assert model.cfg.model.fusion_head.threshold == 0.7
    assert get_config(CONFIG).model.fusion_head.get("threshold") != 0.7


def test_a_config_object_is_not_changed():
    cfg = get_config(CONFIG)
    before = cfg.to_dict()
    init_model(cfg, None, "cpu")
    assert cfg.to_dict() == before


def test_weights_of_another_model_are_refused_with_names(checkpoint):
    with pytest.raises(CheckpointError, match=r"does not fit[\s\S]*size mismatch"):
        init_model(CONFIG, checkpoint, "cpu", {"model.instance_head.head_channels": 16})


def test_bare_state_dicts_are_accepted(tmp_path, checkpoint):
    torch.save(torch.load(checkpoint, weights_only=True)["state_dict"], tmp_path / "bare.pth")
    model = init_model(CONFIG, tmp_path / "bare.pth", "cpu")
    assert LabelTable.from_metainfo(model.dataset_meta) == SHAPES_TABLE


def test_devices_are_checked():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device(None).type in ("cpu", "cuda")
    with pytest.raises(ValueError, match="unknown device"):
        choose_device("gpu")
    with pytest.raises(ValueError, match="CUDA devices"):
        choose_device("cuda:99")
