"""Processes that are not about to do the same say so before they begin."""

import json

import pytest
import torch.distributed as dist

from mmpanoptic.datasets import label_tables
from mmpanoptic.engine import rank_preflight
from mmpanoptic.engine.distributed import init_cpu_process_group
from mmpanoptic.engine.rank_preflight import RankMismatchError, compare_ranks, differences
from mmpanoptic.engine.runner import PanopticRunner

from .ranks import run_ranks
from .toy import toy_config


def test_the_odd_one_is_named_and_of_two_the_second():
    assert differences([{"a": "1"}] * 3) == {}
    assert differences([{"a": "1"}, {"a": "2"}, {"a": "2"}]) == {0: {"a": "is 1 instead of 2"}}
    assert differences([{"a": "1"}, {"a": "2"}]) == {1: {"a": "is 2 instead of 1"}}
    assert differences([{"a": "1"}, {}]) == {1: {"a": "is absent instead of 1"}}


def change_config(cfg, folder):
    cfg.optim_wrapper.optimizer.lr = 0.1


def change_code(cfg, folder):
    (folder / "own").mkdir(exist_ok=True)
    (folder / "own" / "code.py").write_text("an older version")
    rank_preflight._PACKAGE = folder / "own"


def change_version(cfg, folder):
    rank_preflight.metadata.version = lambda name: "2.6.0"


CASES = {
    change_config: "config: optim_wrapper.optimizer.lr is 0.1 instead of 0.05.",
    change_code: "the code of mmpanoptic differs.",
    change_version: "torch is 2.6.0 instead of ",
}


def begin(rank, cfg, change, folder):
    if rank == 1:
        change(cfg, folder)
    init_cpu_process_group("pytorch")
    compare_ranks(cfg)
    dist.destroy_process_group()


@pytest.mark.parametrize("change", CASES, ids=lambda change: change.__name__)
def test_one_line_names_the_rank_and_what_differs(tmp_path, change):
    first, second = run_ranks(begin, toy_config(tmp_path), change, tmp_path)
    assert isinstance(first, RankMismatchError)
    text = str(first)
    assert text.startswith("rank 1 on ")
    assert CASES[change] in text
    assert "\n" not in text
    assert isinstance(second, SystemExit)  # says nothing
    assert second.code == 1


def begin_with_data(rank, folder):
    """Both processes name one path; behind it the second one has another file."""
    file = folder / str(rank) / "a.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"images": [rank]}))
    hashed = rank_preflight._hash_file
    rank_preflight._hash_file = lambda path: hashed(
        file if path.name == "a.json" else path  # the disk of another machine
    )
    cfg = toy_config(folder)
    cfg.val_evaluator.ann_file = "/data/a.json"
    begin(0, cfg, None, folder)


def test_another_annotation_file_is_named(tmp_path):
    first, second = run_ranks(begin_with_data, tmp_path)
    assert "rank 1" in str(first)
    assert "the annotation file /data/a.json differs." in str(first)
    assert isinstance(second, SystemExit)


def start_runner(rank, cfg):
    if rank == 1:
        cfg.train_cfg.max_iters = 11
    cfg.launcher = "pytorch"
    PanopticRunner.from_cfg(cfg)


def test_a_run_does_not_begin(tmp_path):
    first, second = run_ranks(start_runner, toy_config(tmp_path))
    assert "rank 1" in str(first)
    assert "config: train_cfg.max_iters is 11 instead of 10." in str(first)
    assert isinstance(second, SystemExit)


def test_annotation_files_of_datasets_and_metrics_are_found():
    cfg = {
        "train_dataloader": {
            "dataset": {"datasets": [{"data_root": "/data", "ann_file": "a.json"}, {"x": 1}]}
        },
        "val_evaluator": [{"ann_file": "/other/b.json", "data_root": "/data"}],
    }
    assert list(map(str, rank_preflight._annotations(cfg))) == ["/data/a.json", "/other/b.json"]


def test_the_annotation_file_of_a_server_is_its_copy(monkeypatch):
    asked = []
    monkeypatch.setattr(
        label_tables, "fetch_annotations", lambda *given: asked.append(given) or "/copy/a.json"
    )
    cfg = {"dataset": {"data_root": "https://host/set", "ann_file": "a.json"}}
    assert list(map(str, rank_preflight._annotations(cfg))) == ["/copy/a.json"]
    assert asked == [("https://host/set", None, "a.json")]
