"""The folder of a run is a model: its own config, its best or newest checkpoint."""

import shutil

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmpanoptic.apis import PanopticInferencer, find_config, get_config, init_model
from mmpanoptic.apis.configs import differing_settings
from mmpanoptic.checkpoints.run_folder import run_checkpoint, run_config
from mmpanoptic.cli import parse
from mmpanoptic.engine.config_keys import read_names
from tests.tools.load_tool import load_tool

from .tiny_model import CONFIG

THRESHOLD = "model.fusion_head.threshold"


@pytest.fixture
def folder(tmp_path, checkpoint):
    """What a run with another threshold leaves."""
    run = tmp_path / "work dirs" / "run"
    run.mkdir(parents=True)
    cfg = get_config(CONFIG, {THRESHOLD: 0.77})
    read = read_names(cfg)
    kept = Config({name: value for name, value in cfg.items() if name in read})
    (run / "mine.py").write_text(kept.pretty_text)
    shutil.copy(checkpoint, run / "iter_4.pth")
    (run / "last_checkpoint").write_text("/elsewhere/iter_4.pth")
    return run


def test_the_run_s_own_config_and_newest_weights_are_taken(folder):
    model = init_model(folder, device="cpu")
    assert model.cfg.model.fusion_head.threshold == 0.77
    assert model.fusion_head.threshold == 0.77
    assert model.checkpoint == folder / "iter_4.pth"
    content = torch.load(folder / "iter_4.pth", weights_only=True)["state_dict"]
    assert all(torch.equal(model.state_dict()[name], value) for name, value in content.items())


def test_the_best_weights_are_preferred(folder):
    shutil.copy(folder / "iter_4.pth", folder / "best_PQ_iter_2.pth")
    (folder / "best_checkpoint").write_text(str(folder / "best_PQ_iter_2.pth"))
    assert run_checkpoint(folder).name == "best_PQ_iter_2.pth"
    assert PanopticInferencer(str(folder), device="cpu").model.checkpoint.name.startswith("best")
    given = PanopticInferencer(folder, folder / "iter_4.pth", "cpu").model
    assert given.checkpoint == folder / "iter_4.pth"


def test_of_several_configs_the_pointer_names_the_run_s(folder):
    (folder / "other.py").write_text("")
    with pytest.raises(FileNotFoundError, match=r"several configs \(mine.py, other.py\)"):
        find_config(folder)
    (folder / "last_config").write_text("mine.py")
    assert run_config(folder) == find_config(folder) == folder / "mine.py"
    with pytest.raises(FileNotFoundError, match="a folder without a config"):
        find_config(folder.parent)


def test_other_settings_than_those_of_the_run_are_found(folder):
    assert differing_settings(get_config(folder), folder) == []
    assert differing_settings(get_config(CONFIG), folder) == [THRESHOLD]
    cfg = get_config(folder, {"data_root": "elsewhere", "max_iters": 7})
    assert differing_settings(cfg, folder) == []
    cfg = get_config(folder, {"test_dataloader.dataset.pipeline.0.backend_args": "x"})
    assert differing_settings(cfg, folder) == ["test_dataloader.dataset.pipeline.0.backend_args"]


def test_infer_takes_the_folder_behind_the_images(folder, run_infer):
    done = run_infer("one.png", folder)
    assert "1 image done" in done.out
    assert f"model: {folder / 'mine.py'} with {folder / 'iter_4.pth'}" in done.err
    done = run_infer("one.png", CONFIG, folder)
    assert f"not the one of the run {folder}: {THRESHOLD} differ" in done.err
    done = run_infer("one.png", CONFIG, folder / "iter_4.pth")
    assert "model:" not in done.err


@pytest.fixture
def run_infer(tmp_path, monkeypatch, capsys):
    import cv2

    monkeypatch.chdir(tmp_path)
    cv2.imwrite("one.png", np.zeros((48, 64, 3), np.uint8))

    def run(*words):
        status = load_tool("infer.py").main([*map(str, words), "--device", "cpu"])
        assert status == 0
        return capsys.readouterr()

    return run


def test_words_are_divided_into_inputs_and_model(folder):
    def split(*words):
        args = parse(load_tool("infer.py").build_parser(), list(map(str, words)))
        return args.inputs, args.config, args.checkpoint

    assert split("a.jpg", "b", folder) == (["a.jpg", "b"], str(folder), None)
    assert split(folder) == ([], str(folder), None)
    assert split("a.jpg", CONFIG, folder) == (["a.jpg"], CONFIG, str(folder))
    assert split("a.jpg", "mine.py", folder) == (["a.jpg"], "mine.py", str(folder))
    assert split("a.jpg", "mine.py", "w.pth") == (["a.jpg"], "mine.py", "w.pth")


def test_weights_are_asked_for_where_no_folder_is_given(capsys):
    assert load_tool("test.py").main([CONFIG]) == 2
    assert f"the weights are missing: behind the config {CONFIG}" in capsys.readouterr().err


def test_going_on_from_a_folder_takes_its_newest_checkpoint(folder, monkeypatch):
    train = load_tool("train.py")
    monkeypatch.setattr("mmpanoptic.engine.resume.verify_checkpoint", lambda path: None)
    shutil.copy(folder / "iter_4.pth", folder / "best_PQ_iter_2.pth")
    (folder / "best_checkpoint").write_text(str(folder / "best_PQ_iter_2.pth"))
    assert train.resumable(str(folder)) == str(folder / "iter_4.pth")
    assert train.resumable("some.pth") == "some.pth"
    with pytest.raises(FileNotFoundError, match="holds no checkpoint to go on from"):
        train.resumable(str(folder.parent))
