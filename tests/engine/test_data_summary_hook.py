from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch.utils.data import DataLoader

from mmpanoptic.datasets import PanopticDataset
from mmpanoptic.engine.data_summary_hook import DataErrorSummaryHook
from mmpanoptic.registry import HOOKS
from tests.datasets.tiny_data import dataset_args, write_dataset

PIPELINE = [{"type": "LoadPanopticAnnotations"}, {"type": "LoadImage"}]


class Messages(logging.Handler):
    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


def make_runner(dataset, loop_class=EpochBasedTrainLoop) -> tuple[SimpleNamespace, list[str]]:
    handler = Messages()
    logger = logging.getLogger("summary of data errors")
    logger.handlers = [handler]
    loop = object.__new__(loop_class)
    loop.dataloader = DataLoader(dataset, num_workers=2, collate_fn=list)
    return SimpleNamespace(train_loop=loop, logger=logger, epoch=0, iter=0), handler.texts


@pytest.fixture
def make_dataset(tmp_path):
    def make(name="data", on_error="skip"):
        write_dataset(tmp_path / name)
        (tmp_path / name / "maps/map_0.png").unlink()
        return PanopticDataset(
            **dataset_args(tmp_path / name), pipeline=PIPELINE, on_error=on_error
        )

    return make


def test_an_epoch_ends_with_what_its_workers_have_skipped(make_dataset):
    runner, texts = make_runner(make_dataset())
    hook = DataErrorSummaryHook()
    list(runner.train_loop.dataloader)
    hook.after_train_epoch(runner)
    (text,) = texts
    assert "epoch 1: 1 draws skipped (1 so far): 1 of 4 samples of" in text
    assert "images/photo_0.png: missing_file, drawn 1 times" in text
    list(runner.train_loop.dataloader)
    runner.epoch = 1
    hook.after_train_epoch(runner)
    assert "epoch 2: 1 draws skipped (2 so far)" in texts[1]
    hook.after_train_epoch(runner)
    assert len(texts) == 2


def test_loops_without_epochs_get_a_summary_every_interval(make_dataset):
    runner, texts = make_runner(make_dataset(), IterBasedTrainLoop)
    hook = DataErrorSummaryHook(interval=10)
    list(runner.train_loop.dataloader)
    for runner.iter in range(9):
        hook.after_train_iter(runner, runner.iter)
    assert not texts
    runner.iter = 9
    hook.after_train_iter(runner, 9)
    assert "iteration 10: 1 draws skipped" in texts[0]
    list(runner.train_loop.dataloader)
    runner.iter = 12
    hook.after_train_epoch(runner)
    assert "iteration 12: 1 draws skipped (2 so far)" in texts[1]


def test_epoch_loops_get_no_summary_between_epochs(make_dataset):
    runner, texts = make_runner(make_dataset())
    list(runner.train_loop.dataloader)
    DataErrorSummaryHook(interval=1).after_train_iter(runner, 0)
    assert not texts


def test_datasets_inside_wrappers_are_found(make_dataset):
    parts = ConcatDataset([make_dataset("a"), make_dataset("b")])
    runner, texts = make_runner(parts)
    list(runner.train_loop.dataloader)
    DataErrorSummaryHook().after_train_epoch(runner)
    for name, text in zip("ab", texts, strict=True):
        assert f"{name}/images/photo_0.png" in text
    runner, texts = make_runner(RepeatDataset(make_dataset("c"), 2))
    list(runner.train_loop.dataloader)
    DataErrorSummaryHook().after_train_epoch(runner)
    assert "2 draws skipped" in texts[0]


def test_nothing_is_logged_for_datasets_that_stop(make_dataset):
    runner, texts = make_runner(make_dataset(on_error="stop"))
    DataErrorSummaryHook().after_train_epoch(runner)
    assert not texts


def test_long_lists_are_cut(make_dataset, tmp_path):
    dataset = make_dataset()
    for number in range(4):
        dataset.errors.record(number, "corrupt_png")
    runner, texts = make_runner(dataset)
    DataErrorSummaryHook(max_files=2).after_train_epoch(runner)
    assert texts[0].count("corrupt_png") == 2
    assert "... and 2 more" in texts[0]


def test_the_interval_is_checked():
    with pytest.raises(ValueError, match="interval"):
        DataErrorSummaryHook(interval=0)


def test_the_hook_is_registered():
    assert HOOKS.get("DataErrorSummaryHook") is DataErrorSummaryHook
