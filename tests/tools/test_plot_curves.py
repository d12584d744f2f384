import json

import cv2
import pytest

from .load_tool import load_tool

tool = load_tool("analysis_tools/plot_curves.py")


@pytest.fixture
def run(tmp_path):
    """Folder of a run that was resumed at iteration 20."""
    entries = {
        "a": [{"loss": 3.0, "step": 10}, {"loss": 2.5, "step": 20}, {"PQ": 50.0, "step": 0}],
        "b": [{"loss": 2.0, "step": 20}, {"loss": 1.0, "step": 30, "note": "text"}],
    }
    for name, lines in entries.items():
        folder = tmp_path / "run" / name / "vis_data"
        folder.mkdir(parents=True)
        text = "\n".join(json.dumps(line) for line in lines)
        (folder / "scalars.json").write_text(text)
    return tmp_path / "run"


def test_the_later_value_of_an_iteration_counts(run):
    curves = tool.read_curves(run)
    assert curves == {"loss": ([10, 20, 30], [3.0, 2.0, 1.0]), "PQ": ([20], [50.0])}


def test_a_run_that_follows_another_starts_later(run):
    assert tool.read_curves(run, 600)["loss"][0] == [610, 620, 630]


def test_neighbours_are_averaged():
    assert tool.smoothed([0, 3, 6, 9], 3) == [1.5, 3, 6, 7.5]


def test_a_picture_with_a_panel_per_name_is_written(run, tmp_path):
    out = tmp_path / "curves.png"
    assert tool.main([str(run), "--keys", "loss", "PQ", "--out", str(out)]) == 0
    height, width, _ = cv2.imread(str(out)).shape
    assert width > 2.5 * height


def test_an_unknown_name_and_an_empty_folder_are_errors(run, tmp_path, capsys):
    out = str(tmp_path / "curves.png")
    assert tool.main([str(run), "--keys", "lss", "--out", out]) == 1
    assert "no run has lss; there are: PQ, loss" in capsys.readouterr().err
    assert tool.main([str(tmp_path), "--out", out]) == 1
    assert "no folder of a run" in capsys.readouterr().err


def test_without_names_what_there_is_is_drawn(run, tmp_path, capsys):
    assert tool.default_keys([{"loss": ([], []), "PQ": ([], []), "lr": ([], [])}]) == ["loss"]
    whole = {"a/PQ": ([], []), "a/SQ": ([], []), "b/PQ": ([], []), "loss": ([], [])}
    assert tool.default_keys([whole]) == ["loss", "a/PQ", "b/PQ"]
    assert tool.default_keys([{"coco/segm_mAP": ([], [])}]) == ["coco/segm_mAP"]
    assert tool.main([str(run), "--out", str(tmp_path / "curves.png")]) == 0
    assert "1 panels, 1 runs" in capsys.readouterr().out
    with pytest.raises(ValueError, match="neither loss nor metrics; there are: lr"):
        tool.default_keys([{"lr": ([], [])}])


def test_runs_of_one_name_are_all_drawn(run, tmp_path, capsys):
    other = tmp_path / "other" / "run"
    other.parent.mkdir()
    run.rename(other)
    other.parent.joinpath("second").mkdir()
    copy = other.parent / "second" / "run"
    copy.symlink_to(other)
    out = str(tmp_path / "curves.png")
    assert tool.main([str(other), str(copy), "--out", out]) == 0
    assert "2 runs" in capsys.readouterr().out
    assert tool.main([str(other), str(copy), "--labels", "a", "a", "--out", out]) == 2
    assert "--labels must differ" in capsys.readouterr().err
