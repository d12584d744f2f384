import json
import logging
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement

from mmpanoptic.checkpoints.loading import load_checkpoint
from mmpanoptic.engine import NonFiniteLossError, PanopticVisualizationHook
from mmpanoptic.engine.non_finite import image_ids
from mmpanoptic.engine.runner import PanopticRunner
from mmpanoptic.registry import HOOKS

from .toy import toy_config, train


@pytest.mark.parametrize("workers", [0, 2])
def test_non_finite_loss_stops_the_run_and_names_the_images(tmp_path, workers):
    cfg = toy_config(tmp_path, workers=workers)
    cfg.train_dataloader.dataset.bad_index = 6
    with pytest.raises(NonFiniteLossError, match="loss_l2 nan") as caught:
        train(cfg)
    message = str(caught.value)
    iteration = int(re.search(r"iteration (\d+)", message)[1])
    assert re.search(r"image6\b", message)
    assert len(re.findall(r"\bimage\d+", message)) == 2
    assert "an image itself is not finite" in message
    for path in tmp_path.glob("*.pth"):
        content = load_checkpoint(path)
        assert content["meta"]["iter"] < iteration
        assert all(torch.isfinite(value).all() for value in content["state_dict"].values())


def poison_gradient(monkeypatch, name, iteration, value=float("nan")):
    """Let one gradient of one iteration be what no optimizer can use."""
    from mmpanoptic.engine.loops import IterTrainLoop

    run = IterTrainLoop.run_iter

    def run_iter(self, batch):
        if self._iter + 1 == iteration:
            weight = dict(self.runner.model.named_parameters())[name]
            handles = []

            def poison(gradient):
                handles.pop().remove()
                return gradient * value

            handles.append(weight.register_hook(poison))
        return run(self, batch)

    monkeypatch.setattr(IterTrainLoop, "run_iter", run_iter)


@pytest.mark.parametrize("more", [{}, {"clip_grad": {"max_norm": 1.0}}, {"accumulative_counts": 4}])
@pytest.mark.parametrize(("iteration", "value"), [(6, float("nan")), (8, float("-inf"))])
def test_non_finite_gradient_never_reaches_the_weights(
    tmp_path, monkeypatch, iteration, value, more
):
    cfg = toy_config(tmp_path, optim_wrapper=more)
    cfg.default_hooks.checkpoint.interval = 1
    poison_gradient(monkeypatch, "net.5.weight", iteration, value)
    told = (
        rf"iteration {iteration} stopped: the gradient of net\.5\.weight is not.*image\d+, image\d+"
    )
    with pytest.raises(NonFiniteLossError, match=told):
        train(cfg)
    last = load_checkpoint(tmp_path)
    assert last["meta"]["iter"] == iteration - 1
    for name in ("state_dict", "ema_state_dict"):
        assert all(torch.isfinite(value).all() for value in last[name].values())
    monkeypatch.undo()  # the next run has another batch, or other luck
    cfg = toy_config(tmp_path, optim_wrapper=more)
    cfg.resume = True
    train(cfg)
    assert load_checkpoint(tmp_path)["meta"]["iter"] == 10


def test_the_layer_in_which_a_loss_goes_wrong_is_named(tmp_path, monkeypatch):
    from .toy import ToyModel

    build = ToyModel.__init__

    def with_bad_weight(self, *args, **kwargs):
        build(self, *args, **kwargs)
        self.net[5].weight.data[0, 0] = float("inf")

    monkeypatch.setattr(ToyModel, "__init__", with_bad_weight)
    with pytest.raises(NonFiniteLossError, match=r"the output of net\.5 is the first such value"):
        train(toy_config(tmp_path))


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    """Statistics of a layer that no loss depends on."""
    runner = train(toy_config(tmp_path, steps=2))
    before = files(tmp_path)
    runner.model.net[1].running_var[1] = float("nan")
    with pytest.raises(
        NonFiniteLossError, match=r"net\.1\.running_var .*no checkpoint was written"
    ):
        runner.save_checkpoint(str(tmp_path), "iter_9.pth")
    assert files(tmp_path) == before
    runner.model.net[1].running_var[1] = 1.0
    runner.model.register_buffer("mask", torch.tensor([0.0, -float("inf")]))
    runner.save_checkpoint(str(tmp_path), "iter_9.pth")  # as attention masks hold


def test_a_float16_scaler_may_overflow_but_not_for_ever():
    from mmpanoptic.engine.non_finite import NonFiniteLossHook

    class Scaler:
        def __init__(self, scale):
            self.scale = scale

        def is_enabled(self):
            return True

        def get_scale(self):
            return self.scale

    model = torch.nn.Linear(2, 1)
    model.weight.grad = torch.full_like(model.weight, float("inf"))
    runner = SimpleNamespace(model=model, iter=3)
    wrapper = SimpleNamespace(optimizer=torch.optim.SGD(model.parameters(), lr=1.0))
    steps = []
    wrapper.loss_scaler = Scaler(65536.0)
    NonFiniteLossHook()._checked_step(runner, wrapper, lambda: steps.append(1))
    assert steps == [1]  # the scaler itself leaves the optimizer's step out
    wrapper.loss_scaler = Scaler(0.5)
    with pytest.raises(NonFiniteLossError, match="gradient of weight is not finite"):
        NonFiniteLossHook()._checked_step(runner, wrapper, lambda: steps.append(1))
    assert steps == [1]


def test_image_ids_of_batches_without_samples_are_empty():
    assert image_ids(None) == []
    assert image_ids({"inputs": []}) == []
    samples = [BaseDataElement(metainfo={"img_path": "a.jpg"}), BaseDataElement()]
    assert image_ids({"data_samples": samples}) == ["a.jpg", "?"]


def files(folder):
    return sorted(path.name for path in folder.glob("*.pth"))


def test_two_checkpoints_are_kept_by_default(tmp_path):
    cfg = toy_config(tmp_path)
    cfg.default_hooks.checkpoint = {
        "type": "AtomicCheckpointHook",
        "interval": 2,
        "by_epoch": False,
    }
    train(cfg)
    assert files(tmp_path) == ["iter_10.pth", "iter_8.pth"]
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / "iter_10.pth")


def test_old_checkpoint_goes_only_after_the_new_one_is_written(tmp_path, monkeypatch):
    from mmpanoptic.engine import runner as runner_module

    seen = []
    write = runner_module.save_checkpoint

    def spy(content, path):
        seen.append(files(tmp_path))
        write(content, path)

    monkeypatch.setattr(runner_module, "save_checkpoint", spy)
    cfg = toy_config(tmp_path, steps=4)
    cfg.default_hooks.checkpoint = {
        "type": "AtomicCheckpointHook",
        "interval": 1,
        "by_epoch": False,
        "max_keep_ckpts": 1,
    }
    train(cfg)
    assert seen == [[], ["iter_1.pth"], ["iter_2.pth"], ["iter_3.pth"]]
    assert files(tmp_path) == ["iter_4.pth"]


def test_mmengines_checkpoint_hook_in_a_config_is_replaced_and_keeps_all(tmp_path):
    cfg = toy_config(tmp_path)
    cfg.default_hooks.checkpoint = {"type": "CheckpointHook", "interval": 2, "by_epoch": False}
    cfg.train_cfg = {"type": "IterBasedTrainLoop", "max_iters": 10, "val_interval": 3}
    runner = train(cfg)
    assert type(runner.train_loop).__name__ == "IterTrainLoop"
    assert files(tmp_path) == sorted(f"iter_{i}.pth" for i in (2, 4, 6, 8, 10))
    assert {type(hook).__name__ for hook in runner.hooks} >= {"AtomicCheckpointHook"}


def test_best_and_published_checkpoints(tmp_path):
    cfg = toy_config(tmp_path)
    cfg.default_hooks.checkpoint.save_best = "toy/PQ"
    cfg.default_hooks.checkpoint.published_keys = ["meta", "state_dict"]
    cfg.default_hooks.checkpoint.out_dir = str(tmp_path / "elsewhere")
    runner = train(cfg)
    folder = tmp_path / "elsewhere" / tmp_path.name
    best = [name for name in files(folder) if re.fullmatch(r"best_toy_PQ_iter_\d+\.pth", name)]
    assert len(best) == 1
    history, _ = runner.message_hub.get_scalar("val/toy/PQ").data
    assert runner.message_hub.get_info("best_score") == max(history)
    published = [name for name in files(folder) if re.fullmatch(r"iter_10-[0-9a-f]{8}\.pth", name)]
    assert len(published) == 1
    assert set(load_checkpoint(folder / published[0])) == {"meta", "state_dict"}
    import hashlib

    digest = hashlib.sha256((folder / published[0]).read_bytes()).hexdigest()
    assert digest.startswith(published[0][len("iter_10-") : -len(".pth")])


@pytest.mark.parametrize("out_dir", ["s3://bucket/run", "petrel://x"])
def test_checkpoints_to_object_stores_are_refused(tmp_path, out_dir):
    cfg = toy_config(tmp_path)
    runner = train(cfg)
    with pytest.raises(ValueError, match="local folders only"):
        runner.save_checkpoint(out_dir, "x.pth")


class Recorder:
    def __init__(self):
        self.calls = []

    def add_datasample(self, name, image, data_sample, **options):
        self.calls.append((name, image.shape, options))


@pytest.fixture
def drawing(tmp_path):
    import cv2

    samples = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "same.png"
        cv2.imwrite(str(path), np.zeros((4, 6, 3), np.uint8))
        metainfo = {"img_path": str(path), "img_id": f"{folder}/1"}
        samples.append(BaseDataElement(metainfo=metainfo))
    return SimpleNamespace(visualizer=Recorder(), iter=7), samples


def test_test_pictures_have_unique_names(drawing, tmp_path):
    runner, samples = drawing
    hook = PanopticVisualizationHook(draw=True, out_dir=str(tmp_path / "out"))
    hook.after_test_iter(runner, 0, None, samples)
    names = [options["out_file"] for _, _, options in runner.visualizer.calls]
    assert names == [str(tmp_path / "out" / name) for name in ("same.jpg", "same_b_1.jpg")]
    assert runner.visualizer.calls[0][1] == (4, 6, 3)


def test_validation_draws_every_interval_th_batch_only_if_asked(drawing):
    runner, samples = drawing
    for draw, expected in ((False, 0), (True, 2)):
        hook = PanopticVisualizationHook(draw=draw, interval=3)
        for index in range(6):
            hook.after_val_iter(runner, index, None, samples)
        assert len(runner.visualizer.calls) == expected
    assert runner.visualizer.calls[0][0] == "val_same"


def test_hooks_are_registered():
    for name in (
        "AtomicCheckpointHook",
        "NonFiniteLossHook",
        "StopSignalHook",
        "PanopticVisualizationHook",
        "DataErrorSummaryHook",
    ):
        assert HOOKS.get(name) is not None


def test_pictures_of_the_test_can_be_shown_and_leave_weak_things_out(drawing):
    runner, samples = drawing
    hook = PanopticVisualizationHook(draw=True, show=True, wait_time=0.5, score_thr=0.3)
    hook.after_test_iter(runner, 0, None, samples[:1])
    ((_, _, options),) = runner.visualizer.calls
    assert options == {"show": True, "wait_time": 0.5, "out_file": None, "pred_score_thr": 0.3}


@pytest.mark.parametrize(("rule", "steps"), [("less", 9), ("greater", 5)])
def test_patience_may_wait_for_a_smaller_value(tmp_path, rule, steps):
    """The value falls with every validation but the last two."""
    hook = HOOKS.build({"type": "PatienceStopHook", "monitor": "x", "patience": 2, "rule": rule})
    loop = SimpleNamespace(stop_training=False)
    runner = SimpleNamespace(train_loop=loop, logger=logging.getLogger("patience"))
    hook.before_run(runner)
    validations = 0
    for value in (5.0, 4.0, 3.0, 2.0, 1.0, 1.0, 1.0):
        hook.after_val_epoch(runner, {"x": value})
        validations += 1
        if loop.stop_training:
            break
    assert validations == {"less": 7, "greater": 3}[rule]


def test_validations_can_come_closer_together(tmp_path):
    cfg = toy_config(tmp_path)
    cfg.train_cfg = {
        "type": "IterTrainLoop",
        "max_iters": 10,
        "val_interval": 4,
        "dynamic_intervals": [(7, 1)],
    }
    runner = train(cfg)
    _, steps = runner.message_hub.get_scalar("val/toy/PQ").data
    assert len(steps) == 1 + 5  # after 4, then from the next to 7 on, as in mmengine: 6 to 10


@pytest.mark.parametrize("main_process", [True, False])
def test_metrics_of_a_test_are_written_by_one_process(tmp_path, monkeypatch, main_process):
    """Two processes that write one file leave a text that is none."""
    monkeypatch.setattr(
        "mmpanoptic.engine.logger_hook.is_main_process", lambda: main_process, raising=True
    )
    runner = SimpleNamespace(
        log_processor=SimpleNamespace(
            get_log_after_epoch=lambda *_, **__: ({"PQ": 50.0, "classes": np.arange(2)}, "PQ: 50")
        ),
        test_dataloader=[1],
        logger=logging.getLogger("mmpanoptic.test"),
        log_dir=tmp_path,
        timestamp="now",
    )
    HOOKS.build({"type": "MainProcessLoggerHook"}).after_test_epoch(runner)
    written = [json.loads(path.read_text()) for path in tmp_path.iterdir()]
    assert written == ([{"PQ": 50.0, "classes": [0, 1]}] if main_process else [])


def test_runs_of_one_second_share_nothing(tmp_path):
    """Names of loggers and hubs end in the second of the start."""
    runners = [PanopticRunner.from_cfg(toy_config(tmp_path / str(n))) for n in range(3)]
    for name in ("timestamp", "experiment_name", "log_dir"):
        assert len({getattr(one, name) for one in runners}) == 3
    for name in ("logger", "message_hub", "visualizer"):
        assert len({id(getattr(one, name)) for one in runners}) == 3
