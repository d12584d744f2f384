"""Tuning: trainings as trials, and fusion heads on saved outputs."""

import json

import pytest

CONFIG = "panoptic-deeplab_r18-tiny_1xb8-500_shapes"


@pytest.fixture
def space(tmp_path):
    def write(text, **more):
        path = tmp_path / "space.py"
        extra = "\n".join(f"{name} = {value!r}" for name, value in more.items())
        path.write_text(f"space = {text}\n{extra}\n")
        return path

    return write


def test_a_fusion_head_is_tuned_as_tests_would(run_tool, space, shapes_root, checkpoint, tmp_path):
    """Every trial has the metrics of a whole test with its settings."""
    file = space("{'model.fusion_head.stuff_area': dict(choices=[0, 64, 2048])}")
    options = ["--cfg-options", f"data_root={shapes_root}"]
    command = ["tune.py", CONFIG, checkpoint, "--space", file, "--trials", "3"]
    out = run_tool(*command, "--work-dir", tmp_path / "run", "--sampler", "RandomSampler", *options)
    assert "3 trials, 0 failed" in out.stdout
    assert "--cfg-options model.fusion_head.stuff_area=" in out.stdout
    found = json.loads((tmp_path / "run" / "tuning" / "tuning.json").read_text())["trials"]
    assert len({trial["params"]["model.fusion_head.stuff_area"] for trial in found}) == 3
    worst = found[-1]
    area = worst["params"]["model.fusion_head.stuff_area"]
    test = [*options, f"model.fusion_head.stuff_area={area}"]
    run_tool("test.py", CONFIG, checkpoint, "--work-dir", tmp_path / "test", *test)
    metrics = json.loads(next((tmp_path / "test").glob("*/*.json")).read_text())
    assert worst["metrics"]["coco_panoptic/PQ"] == metrics["coco_panoptic/PQ"]
    again = run_tool(*command, "--work-dir", tmp_path / "run", *options)  # nothing is done again
    assert "3 trials, 0 failed" in again.stdout


def test_trainings_are_tuned_and_gone_on_with(run_tool, space, shapes_root, tmp_path):
    file = space("{'optim_wrapper.optimizer.lr': dict(low=1e-4, high=1e-2, log=True)}")
    options = [f"data_root={shapes_root}", "max_iters=1", "batch_size=2", "num_workers=0"]
    command = ["tune.py", CONFIG, "--space", file, "--trials", "1", "--work-dir", tmp_path / "run"]
    run_tool(*command, "--cfg-options", *options)
    (trial,) = json.loads((tmp_path / "run" / "tuning" / "tuning.json").read_text())["trials"]
    (config,) = (tmp_path / "run" / "tuning" / "trials").glob("*/*.py")
    assert repr(trial["params"]["optim_wrapper.optimizer.lr"]) in config.read_text()
    assert trial["value"] == trial["metrics"]["coco_panoptic/PQ"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{'optim_wrapper.optimiser.lr': dict(low=1, high=2)}", "the config has no optim_wrapper."),
        ("{'max_iters': dict(low=2)}", r"space\['max_iters'\]: needs low and high"),
        ("{'max_iters': dict(low=2, high=1)}", r"space\['max_iters'\]"),
        ("{'learning_rate': dict(low=2, high=3)}", "has no variable of this name"),
        ("{}", "needs space ="),
    ],
)
def test_a_wrong_space_is_explained(space, text, words):
    from mmpanoptic.apis import get_config
    from mmpanoptic.apis.tuning import read_space

    with pytest.raises(ValueError, match=words):
        read_space(space(text), get_config(CONFIG))


def test_settings_that_need_trainings_are_refused_with_a_checkpoint(
    run_tool, space, checkpoint, tmp_path
):
    file = space("{'max_iters': dict(low=2, high=3)}")
    command = ["tune.py", CONFIG, checkpoint, "--space", file, "--work-dir", tmp_path]
    assert "need trainings" in run_tool(*command, status=2).stderr
    file = space("{'max_iters': dict(low=2, high=3)}", trial=3)
    command = ["tune.py", CONFIG, "--space", file, "--work-dir", tmp_path]
    assert "knows space and sampler, got trial" in run_tool(*command, status=2).stderr


def test_a_model_without_fusion_head_is_refused(run_tool, space, shapes_root, checkpoint, tmp_path):
    file = space("{'model.fusion_head.stuff_area': dict(low=0, high=64)}")
    command = ["tune.py", CONFIG, checkpoint, "--space", file, "--work-dir", tmp_path]
    options = ["--cfg-options", f"data_root={shapes_root}", "model.fusion_head=None"]
    done = run_tool(*command, *options, status=1)
    assert "this model has no fusion_head to tune" in done.stderr.strip().splitlines()[-1]
