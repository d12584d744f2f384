"""--auto-batch: the largest batch by real training steps, on a pretended amount of memory."""

import pytest
import torch

from mmpanoptic.apis import get_config
from mmpanoptic.commands import train
from mmpanoptic.datasets.shapes import ShapesSettings, generate_shapes
from mmpanoptic.engine import auto_batch
from mmpanoptic.engine.auto_batch import TrainingTrial, choose_batch, largest_batch
from mmpanoptic.engine.runner import PanopticRunner
from mmpanoptic.registry import ConfigError
from tests.apis.tiny_model import CONFIG


@pytest.mark.parametrize("most", [1, 2, 7, 16, 100])
@pytest.mark.parametrize("limit", [0, 1, 2, 3, 5, 8, 31, 32, 99, 1000])
def test_the_largest_batch_is_found_in_few_tries(limit, most):
    tried = []

    def fits(batch):
        tried.append(batch)
        return batch <= limit

    assert largest_batch(fits, most) == min(limit, most)
    assert len(tried) == len(set(tried)) <= 2 * most.bit_length() + 1
    assert max(tried) <= most


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("some shapes")
    generate_shapes(root, {"train": 6, "val": 1}, ShapesSettings(64, 48))
    return root


@pytest.fixture
def cfg(data):
    return get_config(CONFIG, {"data_root": str(data)})


class PretendedMemory:
    """A device whose allocator fails above a number of images, or that says what was needed."""

    def __init__(self, holds, peak_of_an_image=0):
        self.holds, self.peak_of_an_image = holds, peak_of_an_image
        self.steps, self.cleared = [], 0

    def clear(self):
        self.cleared += 1

    def needed(self):
        return self.steps[-1] * self.peak_of_an_image

    def limit(self):
        return 1000

    def watch(self, model):
        """Count the images of each step; fail as CUDA does, in the middle of the step."""

        def look(_, images):
            self.steps.append(len(images[0]))
            if len(images[0]) > self.holds:
                raise torch.OutOfMemoryError("CUDA out of memory")

        model.backbone.register_forward_pre_hook(look)


def pretended(memory, seen):
    def trial(cfg, loader, device, _):
        seen.append(TrainingTrial(cfg, loader, "cpu", memory))
        memory.watch(seen[-1].model)
        return seen[-1]

    return trial


def test_real_steps_up_to_an_error_of_the_allocator(cfg):
    memory, seen = PretendedMemory(holds=3), []
    choice = choose_batch(cfg, PanopticRunner.build_dataloader, pretended(memory, seen))
    assert choice.batch == cfg.batch_size == 3
    assert cfg.auto_scale_lr.enable
    assert "3 images a process, the largest that fits (tried in " in choice.note
    assert memory.steps == [1, 1, 2, 2, 4, 3, 3]  # two steps each, one that failed
    assert memory.cleared == 2 * 4
    (trial,) = seen
    state = trial.optim_wrapper.optimizer.state
    assert all("exp_avg" in state[p] for p in trial.model.parameters() if p.requires_grad)
    assert all(p.grad is None for p in trial.model.parameters())


def test_a_tenth_of_the_memory_stays_free(cfg):
    memory = PretendedMemory(holds=99, peak_of_an_image=230)  # 4 images: 920 of 1000
    choice = choose_batch(cfg, PanopticRunner.build_dataloader, pretended(memory, []))
    assert choice.batch == 3


def test_a_batch_is_not_larger_than_the_data(cfg):
    memory = PretendedMemory(holds=99)
    choice = choose_batch(cfg, PanopticRunner.build_dataloader, pretended(memory, []))
    assert choice.batch == 6
    assert "all training images" in choice.note


class Holds:
    """Stands for trials of a process whose device holds so many images."""

    def __init__(self, number):
        self.number = number

    def __call__(self, *_):
        return self

    def fits(self, batch):
        return batch <= self.number


def test_all_processes_take_the_least(cfg, monkeypatch):
    monkeypatch.setattr(auto_batch, "all_gather_object", lambda found: [found, 2, 5])
    choice = choose_batch(cfg, PanopticRunner.build_dataloader, Holds(4))
    assert choice.batch == cfg.batch_size == 2
    assert "the least of 4, 2, 5" in choice.note


def test_not_even_one_image(cfg):
    with pytest.raises(ConfigError, match="GPU of process 0 does not hold a training step with"):
        choose_batch(cfg, PanopticRunner.build_dataloader, Holds(0))


def test_the_run_says_so_and_scales_its_schedule(cfg, tmp_path, monkeypatch):
    choose = auto_batch.choose_batch
    monkeypatch.setattr(
        "mmpanoptic.engine.runner.choose_batch", lambda cfg, build: choose(cfg, build, Holds(4))
    )
    cfg.auto_batch, cfg.work_dir, cfg.num_workers = True, str(tmp_path), 0
    runner = PanopticRunner.from_cfg(cfg)
    found, scaled = runner._batch_notes
    assert found.startswith("auto_batch: 4 images a process")
    assert scaled.startswith("auto_scale_lr: 4 images an iteration (1 x 4) instead of 8: base_lr")
    assert runner.cfg.optim_wrapper.optimizer.lr == 3e-3 / 2
    assert runner.cfg.train_dataloader.batch_size == 4
    assert "auto_batch" not in runner._source
    assert runner._source.batch_size == 4  # what the folder keeps, and another start takes


def test_on_a_cpu_it_is_refused_in_a_line(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["--cfg-options", f"data_root={data}"]
    if not torch.cuda.is_available():
        assert train.main([CONFIG, "--auto-batch", *options]) == 1
        assert "there is none here; on a CPU say --cfg-options batch_size=N" in _last(capsys)
    assert train.main([CONFIG, "--auto-batch", "--resume", *options]) == 2
    assert "a run that goes on keeps its batch" in _last(capsys)
    assert list(tmp_path.iterdir()) == []


def _last(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.gpu
def test_on_a_gpu(cfg):
    choice = choose_batch(cfg, PanopticRunner.build_dataloader)
    assert choice.batch == 6
