"""What is best is saved, by any name of the metric, and a run that stops early keeps it."""

import pytest
from mmengine.evaluator import Evaluator

from mmpanoptic.checkpoints.loading import load_checkpoint
from mmpanoptic.checkpoints.run_folder import run_checkpoint
from mmpanoptic.engine.checkpoint_hook import AtomicCheckpointHook, find_metric, rule_of
from mmpanoptic.engine.stop_hooks import PatienceStopHook
from mmpanoptic.evaluation import PanopticQualityMetric
from mmpanoptic.registry import METRICS, ConfigError

from .toy import toy_config, train

NAMES = ["coco_panoptic/PQ", "coco_panoptic/PQ_th", "a/mIoU", "b/mIoU"]


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("PQ", "greater"),
        ("coco_panoptic/PQ_th", "greater"),
        ("coco_panoptic/PQ/person", "greater"),
        ("cityscapes_instance/AP50", "greater"),
        ("coco/segm_mAP", None),
        ("semantic/mIoU", "greater"),
        ("accuracy/top1", "greater"),
        ("val/loss_shape", "less"),
        ("apple", None),
    ],
)
def test_the_name_of_a_metric_tells_what_is_better(name, rule):
    assert rule_of(name) == rule


def test_metrics_are_found_with_and_without_prefix():
    assert find_metric("PQ", NAMES) == find_metric("coco_panoptic/PQ", NAMES) == "coco_panoptic/PQ"
    with pytest.raises(ConfigError, match="gives no metric 'QP'; there are: coco_panoptic/PQ"):
        find_metric("QP", NAMES)
    with pytest.raises(ConfigError, match="several metrics are called 'mIoU'; there are: a/mI"):
        find_metric("mIoU", NAMES)


def test_rules_are_those_of_the_names_where_none_is_given():
    assert AtomicCheckpointHook(save_best="coco_panoptic/PQ").rules == ["greater"]
    assert AtomicCheckpointHook(save_best=["PQ", "loss"]).rules == ["greater", "less"]
    assert AtomicCheckpointHook(save_best="PQ", rule="less").rules == ["less"]
    assert AtomicCheckpointHook(save_best="coco/segm_mAP").rules == ["greater"]  # mmengine knows
    with pytest.raises(ValueError, match="Cannot infer the rule"):
        AtomicCheckpointHook(save_best="apple")
    assert PatienceStopHook("PQ").rule == "greater"


@pytest.mark.parametrize("name", ["PQ", "toy/PQ", "auto"])
def test_the_best_checkpoint_is_saved(tmp_path, name):
    train(toy_config(tmp_path, steps=6, **{"default_hooks.checkpoint.save_best": name}))
    assert len(list(tmp_path.glob("best_*.pth"))) == 1


def test_a_pointer_names_the_best_of_the_last_training(tmp_path):
    best = {"default_hooks.checkpoint.save_best": "PQ"}
    train(toy_config(tmp_path, steps=6, **best))
    (found,) = tmp_path.glob("best_*.pth")
    assert run_checkpoint(tmp_path) == found
    train(toy_config(tmp_path, steps=6, resume=True, **best))
    assert run_checkpoint(tmp_path).name.startswith("best_")
    train(toy_config(tmp_path, steps=3))  # without: what another training left is not its best
    assert list(tmp_path.glob("best_*.pth"))
    assert run_checkpoint(tmp_path).name == "iter_3.pth"


@METRICS.register_module()
class LevelMetric(METRICS.get("ToyMetric")):
    """The same value whenever it is asked."""

    def compute_metrics(self, results):
        return {"PQ": 0.0}


def test_of_equal_checkpoints_the_later_is_the_best(tmp_path):
    level = {"val_evaluator": {"type": "LevelMetric"}, "train_cfg.val_interval": 2}
    train(toy_config(tmp_path, steps=6, **{"default_hooks.checkpoint.save_best": "PQ"}, **level))
    (best,) = tmp_path.glob("best_*.pth")
    assert best.name == "best_PQ_iter_6.pth"
    assert run_checkpoint(tmp_path) == best


def test_of_several_metrics_the_first_one_names_the_best(tmp_path):
    rules = {"default_hooks.checkpoint.rule": ["greater", "less"]}
    best = {"default_hooks.checkpoint.save_best": ["PQ", "toy/PQ"], **rules}
    train(toy_config(tmp_path, steps=6, **best))
    assert run_checkpoint(tmp_path).name.startswith("best_PQ")


def test_a_metric_that_validation_does_not_give_is_named(tmp_path):
    with pytest.raises(ConfigError, match="'PQ_st'; there are: toy/PQ"):
        train(toy_config(tmp_path, **{"default_hooks.checkpoint.save_best": "PQ_st", "steps": 3}))


@METRICS.register_module()
class TellingMetric(METRICS.get("ToyMetric")):
    result_names = ["PQ"]


def test_a_wrong_name_is_refused_before_the_first_iteration(tmp_path):
    telling = {"val_evaluator": {"type": "TellingMetric"}}
    best = "default_hooks.checkpoint.save_best"
    train(toy_config(tmp_path / "a", steps=3, **telling, **{best: "PQ"}))
    stop = {"type": "PatienceStopHook", "monitor": "PQ_th"}
    for number, wrong in enumerate(({best: "PQ_th"}, {"custom_hooks": [stop]})):
        folder = tmp_path / str(number)
        with pytest.raises(ConfigError, match="no metric 'PQ_th'; there are: toy/PQ"):
            train(toy_config(folder, **telling, **wrong))
        assert not list(folder.glob("*.pth"))


def test_panoptic_quality_tells_its_names(tmp_path):
    metric = PanopticQualityMetric(class_metrics=True)
    Evaluator(metric).dataset_meta = {"classes": ["a"], "dataset_ids": [3], "isthing": [1]}
    assert metric.result_names[:2] == ["PQ", "SQ"]
    assert metric.result_names[-2:] == ["RQ_st", "PQ/a"]


def test_another_metric_after_a_resume_starts_anew(tmp_path):
    best = "default_hooks.checkpoint.save_best"
    train(toy_config(tmp_path, steps=6, **{best: "PQ"}))
    cfg = toy_config(tmp_path, steps=9, **{best: "negative"})
    cfg.val_evaluator = {"type": "NegativeMetric"}
    cfg.resume = True
    cfg.default_hooks.checkpoint.rule = "greater"
    runner = train(cfg)
    assert runner.message_hub.get_info("best_score") < 0
    assert len(list(tmp_path.glob("best_negative*.pth"))) == 1


@METRICS.register_module()
class NegativeMetric(METRICS.get("ToyMetric")):
    def compute_metrics(self, results):
        return {"negative": -1.0 - abs(super().compute_metrics(results)["PQ"])}


EARLY = {"type": "EarlyStoppingHook", "monitor": "PQ", "patience": 1, "min_delta": 100.0}


def test_early_stopping_keeps_the_best_and_the_last_state(tmp_path):
    runner = train(toy_config(tmp_path, steps=20, custom_hooks=[EARLY]))
    assert runner.iter == 6
    assert len(list(tmp_path.glob("best_PQ_*.pth"))) == 1
    assert load_checkpoint(tmp_path)["meta"]["iter"] == 3  # a run's folder stands for its best
    assert load_checkpoint((tmp_path / "last_checkpoint").read_text())["meta"]["iter"] == 6


def test_early_stopping_by_epochs_saves_its_end(tmp_path):
    changes = {"default_hooks.checkpoint.interval": 5, "custom_hooks": [EARLY]}
    runner = train(toy_config(tmp_path, by_epoch=True, steps=9, **changes))
    assert runner.epoch == 2
    assert load_checkpoint(tmp_path)["meta"]["epoch"] == 2


def test_what_the_config_saves_as_best_stays(tmp_path):
    changes = {"default_hooks.checkpoint.save_best": "toy/PQ", "custom_hooks": [EARLY]}
    train(toy_config(tmp_path, steps=6, **changes))
    assert len(list(tmp_path.glob("best_toy_PQ_*.pth"))) == 1


def test_without_validation_both_say_that_they_do_nothing(tmp_path):
    never = {"val_cfg": None, "val_dataloader": None, "val_evaluator": None}
    train(toy_config(tmp_path, steps=1, custom_hooks=[EARLY], log_level="INFO", **never))
    text = "".join(path.read_text() for path in tmp_path.glob("*/*.log"))
    assert "early stopping does nothing" in text
    assert text.count("operators on cpu:") == 1
    assert "save_best=['PQ'] does nothing" in text
