"""--auto-scale-lr: rate, iterations and milestones for the batch at hand."""

import pytest
from mmengine.config import Config

from mmpanoptic.apis import get_config
from mmpanoptic.engine.auto_scale import count_processes, scale_to_batch
from mmpanoptic.engine.config import resolve_config

from .toy import toy_config, train

RAP = "panoptic-fpn_r50_8xb2-150k_coco"


def load(name, **options):
    cfg = get_config(name)
    cfg.merge_from_dict({"auto_scale_lr.enable": True, **options})
    return cfg


def schedule(cfg):
    cfg = resolve_config(cfg)
    return (
        cfg.optim_wrapper.optimizer.lr,
        cfg.train_cfg.max_iters,
        cfg.train_cfg.val_interval,
        cfg.param_scheduler[1]["milestones"],
        cfg.param_scheduler[0]["end"],
    )


def test_one_gpu_gets_the_schedule_that_the_original_documents():
    """RAP's README: 0.0025, 1 200 000 iterations, steps 640 000 and 960 000 (less one)."""
    cfg = load(RAP)
    note = scale_to_batch(cfg, num_processes=1)
    assert schedule(cfg) == (0.0025, 1200000, 1200000, [639999, 959999], 500)
    assert not cfg.auto_scale_lr.enable  # mmengine must not scale once more
    assert note == (
        "auto_scale_lr: 2 images an iteration (1 x 2) instead of 16: base_lr 0.02 -> 0.0025, "
        "max_iters 150000 -> 1200000, milestones [79999, 119999] -> [639999, 959999], "
        "val_interval 150000 -> 1200000; the warm-up stays"
    )


def test_the_documented_options_give_the_same_schedule():
    by_hand = get_config(RAP)
    by_hand.merge_from_dict({"base_lr": 0.0025, "max_iters": 1200000})
    scaled = load(RAP)
    scale_to_batch(scaled, 1)
    assert schedule(by_hand) == schedule(scaled)


def test_more_images_make_a_shorter_training():
    cfg = load(RAP, batch_size=4)
    scale_to_batch(cfg, 16)
    assert schedule(cfg)[:4] == (0.08, 37500, 37500, [19999, 29999])


def test_accumulated_batches_raise_the_rate_but_not_the_number_of_iterations():
    cfg = load(RAP, **{"optim_wrapper.accumulative_counts": 8})
    scale_to_batch(cfg, 1)
    assert schedule(cfg)[:2] == (0.02, 1200000)


def test_nothing_is_said_or_done_for_the_batch_of_the_schedule():
    cfg = load(RAP)
    before = cfg.to_dict()
    assert scale_to_batch(cfg, 8) is None
    assert cfg.to_dict() == before


def test_an_unscaled_schedule_of_another_batch_is_told():
    note = scale_to_batch(get_config(RAP), 1)
    assert "made for 16 images" in note
    assert "2 images an iteration (1 x 2) the run sees 0.125 times the images" in note
    assert "--auto-scale-lr" in note


def test_a_config_that_does_not_say_its_batch_is_refused():
    cfg = Config({"auto_scale_lr": {"enable": True}, "train_dataloader": {"batch_size": 2}})
    with pytest.raises(ValueError, match="base_batch_size"):
        scale_to_batch(cfg, 1)


def test_a_config_without_variables_leaves_the_rate_to_mmengine():
    cfg = Config(
        {
            "auto_scale_lr": {"enable": True, "base_batch_size": 16},
            "train_dataloader": {"batch_size": 2},
        }
    )
    assert "no base_lr and max_iters" in scale_to_batch(cfg, 1)
    assert cfg.auto_scale_lr.enable


def test_processes_are_counted_before_their_group_exists(monkeypatch):
    assert count_processes("none") == 1
    monkeypatch.setenv("WORLD_SIZE", "6")
    assert count_processes("pytorch") == 6
    monkeypatch.setenv("SLURM_NTASKS", "12")
    assert count_processes("slurm") == 12


@pytest.mark.parametrize("enable", [True, False])
def test_the_run_logs_the_line_and_trains_so(tmp_path, enable):
    cfg = toy_config(
        tmp_path,
        base_lr=0.08,
        max_iters=3,
        optimizer={"type": "SGD", "lr": "$base_lr"},
        **{"train_cfg.max_iters": "$max_iters", "param_scheduler": None},
    )
    cfg.auto_scale_lr = {"enable": enable, "base_batch_size": 8}
    cfg.log_level = "INFO"
    runner = train(cfg)
    assert runner.iter == (12 if enable else 3)
    assert runner.optim_wrapper.get_lr()["lr"] == [0.02 if enable else 0.08]
    (log,) = tmp_path.glob("*/*.log")
    (line,) = (line for line in log.read_text().splitlines() if "an iteration" in line)
    assert ("max_iters 3 -> 12" if enable else "made for 8 images") in line
    assert ("WARNING" in line) != enable
