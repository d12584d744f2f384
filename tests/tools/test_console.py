"""Training, testing and the demo tell what they do in few lines; the rest stands in the log."""

import json

import pytest

from mmpanoptic import cli
from mmpanoptic.checkpoints.run_folder import run_checkpoint
from tests.apis.tiny_model import CONFIG

from .load_tool import load_tool

SMALL = ["num_workers=0", "max_iters=4", "val_interval=2", "checkpoint_interval=4", "batch_size=2"]


@pytest.fixture(scope="module")
def console(shapes_root, tmp_path_factory):
    """Standard output and error of a training and of its test, with its folder."""
    folder = tmp_path_factory.mktemp("quiet")
    texts = {}
    with pytest.MonkeyPatch.context() as patch:
        said = []
        patch.setattr(cli, "_say", said.append)
        patch.setattr(cli, "show", said.append)
        options = ["--cfg-options", f"data_root={shapes_root}", *SMALL]
        assert load_tool("train.py").main([CONFIG, "--work-dir", str(folder), *options]) == 0
        texts["train"] = said.copy()
    return texts, folder


def test_a_training_tells_its_progress(console):
    options, *lines = console[0]["train"]
    assert options.startswith("with data_root=")
    assert options.endswith(" ".join(SMALL))
    assert lines[0].startswith("training to iteration 4; the log is ")
    for number, line in enumerate(lines[1:3], 1):
        assert line.startswith(f"Iter(train) [{number}/4]  lr: ")
    for part in ("  loss: ", "  eta: ", " GB"):
        assert part in lines[1]
    assert lines[3].startswith("Iter(val) [2/4]  coco_panoptic/PQ: ")
    assert lines[-2].startswith("done in 0:")
    assert lines[-2].endswith(str(run_checkpoint(console[1])))
    assert len(lines) == 9


def test_the_log_has_what_the_console_leaves_out(console):
    (log,) = console[1].glob("*/*.log")
    text = log.read_text()
    for part in ("System environment", "Hooks will be executed", "model = dict", "loss_offset"):
        assert part in text


def test_curves_are_drawn_and_the_best_weights_kept(console):
    lines, folder = console[0]["train"], console[1]
    assert lines[-1] == f"curves: {folder / 'curves.png'}, {folder / 'curves.html'}"
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "curves.html").read_text()
    assert page.count("<svg") == 1
    for name in ("loss", "coco_panoptic/PQ", "lr"):
        assert f"<tr><th>{name}</th>" in page
    assert not list(folder.glob(".curves*"))
    assert run_checkpoint(folder).name.startswith("best_PQ_iter_")


def test_verbose_shows_the_log_and_quiet_does_not(run_tool, shapes_root, checkpoint):
    options = ["--cfg-options", f"data_root={shapes_root}", "num_workers=0"]
    quiet = run_tool("test.py", CONFIG, checkpoint, *options)
    loud = run_tool("test.py", CONFIG, checkpoint, "--verbose", "--work-dir", "other", *options)
    assert quiet.stdout.count("\n") < 35
    assert "Panoptic quality by class" in quiet.stdout
    assert "System environment" not in quiet.stdout
    assert "System environment" in loud.stdout


def test_the_demo_says_less_than_60_lines(tmp_path, monkeypatch, capsys):
    demo = load_tool("dev/demo.py")
    small = {
        "dataset_converters/shapes.py": ["--train", "4", "--val", "3", "--size", "64", "96"],
        "train.py": SMALL,
        "test.py": ["num_workers=0"],
    }
    told = []

    def keep():
        captured = capsys.readouterr()
        told.extend((captured.err + captured.out).splitlines())

    def call(name, *arguments, folder, silent=False):
        told.append(f"== {name} {' '.join(arguments)}")
        given = [argument.replace("configs/panoptic_deeplab/", "") for argument in arguments]
        monkeypatch.chdir(folder)
        keep()
        assert load_tool(name).main([*given, *small.get(name, [])]) == 0
        capsys.readouterr() if silent else keep()
        return 1.0

    monkeypatch.setattr(demo, "ROOT", tmp_path)
    monkeypatch.setattr(cli, "call_tool", call)
    assert demo.main([]) == 0
    keep()
    assert any(line.startswith("PQ ") for line in told)
    # Only a small run has other settings and batches than its schedule's.
    told = [line for line in told if not line.startswith(("with ", "warning: the schedule"))]
    # Ten lines of a long training, of which this one had four.
    assert len(told) + 6 < 60, "\n".join(told)
    assert json.loads((tmp_path / "work_dirs/demo/metrics.json").read_text())["PQ"]
