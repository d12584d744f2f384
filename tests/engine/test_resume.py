"""Which checkpoint a restarted run takes, and which it refuses."""

import os
from pathlib import Path

import pytest
import torch

from mmpanoptic.checkpoints.loading import CheckpointError, load_checkpoint, save_checkpoint
from mmpanoptic.engine.resume import find_checkpoint

from .toy import ToyModel, assert_same, final_state, toy_config, train

ROOT = Path(__file__).parent.parent.parent


def auto_resume(work_dir, **changes):
    cfg = toy_config(work_dir, **changes)
    cfg.resume = True
    return train(cfg)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture
def finished(tmp_path):
    """A run of 10 iterations: its folder and its end state."""
    torch.set_num_threads(1)
    runner = train(toy_config(tmp_path / "run"))
    return tmp_path / "run", final_state(runner)


def test_damaged_newest_checkpoint_is_reported_and_the_previous_one_used(finished, caplog):
    folder, state = finished
    cut(folder / "iter_10.pth")
    runner = auto_resume(folder)
    assert_same(final_state(runner), state)
    log = next(folder.glob("*/*.log")).parent.parent
    text = "".join(path.read_text() for path in log.glob("*/*.log"))
    assert "iter_10.pth is damaged" in text
    load_checkpoint(folder / "iter_10.pth")  # written again


def test_deleted_newest_checkpoint_is_passed_over(finished):
    folder, state = finished
    (folder / "iter_10.pth").unlink()
    assert_same(final_state(auto_resume(folder)), state)


@pytest.mark.parametrize("pointer", ["", "\0\0\0", "x" * 9000, "/nowhere/iter_10.pth"])
def test_broken_pointer_and_moved_folder_do_no_harm(finished, tmp_path, pointer):
    folder, state = finished
    moved = tmp_path / "moved"
    folder.rename(moved)
    (moved / "last_checkpoint").write_text(pointer)
    runner = auto_resume(moved, steps=10)
    assert_same(final_state(runner), state)


def test_only_damaged_checkpoints_are_an_error_not_a_new_start(finished):
    folder, _ = finished
    for path in folder.glob("*.pth"):
        cut(path)
    with pytest.raises(CheckpointError, match="none of the 2 checkpoints"):
        auto_resume(folder)


def test_first_start_with_resume_begins_anew_from_the_given_weights(finished, tmp_path):
    folder, state = finished
    never = {"val_cfg": None, "val_dataloader": None, "val_evaluator": None}
    cfg = toy_config(tmp_path / "new", steps=1, **never)
    cfg.resume, cfg.initial_weights = True, str(folder / "iter_10.pth")
    cfg.optim_wrapper.optimizer.lr = 0.0
    runner = train(cfg)
    weight = "net.0.weight"
    assert torch.equal(runner.model.state_dict()[weight], state[f"ema.module.{weight}"])


def test_a_resume_fetches_no_weights_that_it_replaces(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(ToyModel, "init_weights", lambda self: begun.append(self))
    train(toy_config(tmp_path / "run"))
    assert len(begun) == 1
    (tmp_path / "run" / "iter_10.pth").unlink()
    auto_resume(tmp_path / "run")
    assert len(begun) == 1
    auto_resume(tmp_path / "another")  # no checkpoint is there
    assert len(begun) == 2


def test_half_written_best_and_published_files_are_no_candidates(tmp_path):
    for number, name in enumerate(["iter_2.pth", "best_PQ_iter_3.pth", "iter_3-0123abcd.pth"]):
        save_checkpoint({"x": number}, tmp_path / name)
        os.utime(tmp_path / name, ns=(number * 10**9, number * 10**9))
    (tmp_path / ".iter_4.abc.pth").write_bytes(b"PK")
    assert find_checkpoint(tmp_path, pytest.fail) == tmp_path / "iter_2.pth"
    assert find_checkpoint(tmp_path / "none", pytest.fail) is None


def test_best_checkpoint_cannot_be_resumed(tmp_path):
    train(toy_config(tmp_path / "run", **{"default_hooks.checkpoint.save_best": "toy/PQ"}))
    best = next((tmp_path / "run").glob("best_*.pth"))
    cfg = toy_config(tmp_path / "run")
    cfg.resume, cfg.load_from = True, str(best)
    with pytest.raises(CheckpointError, match=r"no state of an optimizer.*load_from"):
        train(cfg)


def test_checkpoint_of_another_model_is_refused_on_resume_and_in_tests(finished):
    from mmpanoptic.engine.runner import PanopticRunner

    folder, _ = finished
    cfg = toy_config(folder, model={"width": 5})
    cfg.resume = True
    with pytest.raises(CheckpointError, match=r"net\.0\.weight has shape \(4, 3, 3, 3\) instead"):
        train(cfg)
    cfg.resume, cfg.load_from = False, str(folder / "iter_10.pth")
    cfg.test_cfg, cfg.test_dataloader = {}, cfg.val_dataloader
    cfg.test_evaluator = cfg.val_evaluator
    with pytest.raises(CheckpointError, match="does not fit ToyModel"):
        PanopticRunner.from_cfg(cfg).test()


def test_code_in_a_checkpoints_config_is_not_executed(finished, tmp_path):
    folder, _ = finished
    content = load_checkpoint(folder / "iter_10.pth")
    content["meta"]["config"] = f"import pathlib\npathlib.Path({str(tmp_path / 'x')!r}).touch()"
    save_checkpoint(content, folder / "iter_10.pth")
    auto_resume(folder)
    assert not (tmp_path / "x").exists()


def test_logged_values_and_best_score_survive_a_resume(tmp_path):
    best = {"default_hooks.checkpoint.save_best": "toy/PQ"}
    whole = train(toy_config(tmp_path / "one", **best))
    train(toy_config(tmp_path / "two", steps=5, **best))
    again = auto_resume(tmp_path / "two", **best)
    first, second = (run.message_hub.get_scalar("train/loss").data for run in (whole, again))
    assert first[0].tolist() == second[0].tolist()
    assert len(first[0]) == 10
    scores = [run.message_hub.get_info("best_score") for run in (whole, again)]
    # The first half's last iteration is validated in addition.
    assert scores[1] >= scores[0]
