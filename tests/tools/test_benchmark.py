import json

import pytest

from tests.apis.tiny_model import CONFIG

TOOL = "analysis_tools/benchmark.py"


@pytest.mark.parametrize("post", [True, False])
def test_reports_every_stage(run_tool, shapes_root, checkpoint, post):
    options = ["--num", 4, "--warmup", 1, "--threads", 1, "--device", "cpu", "--json", "b.json"]
    options += [] if post else ["--no-post"]
    images = ["--images", shapes_root / "val"]
    done = run_tool(TOOL, CONFIG, checkpoint, *images, *options)
    content = json.loads((run_tool.folder / "b.json").read_text())
    stages = ["decode", "preprocess", "network", "postprocess"][: 4 if post else 3]
    times = content["milliseconds"]
    assert list(times) == [*stages, "total"]
    for row in times.values():
        assert 0 < row["p50"] <= row["p95"]
    assert times["total"]["mean"] == pytest.approx(sum(times[s]["mean"] for s in stages))
    assert content["machine"]["threads"] == 1
    assert "nms" in content["machine"]["operators"]
    assert all(stage in done.stdout for stage in times)


def test_images_come_from_the_config_unless_given(run_tool, shapes_root):
    options = ["--num", 1, "--warmup", 0, "--device", "cpu", "--cfg-options"]
    done = run_tool(TOOL, CONFIG, *options, f"data_root={shapes_root}")
    assert "random weights" in done.stdout
    done = run_tool(TOOL, CONFIG, *options, "data_root=nowhere", status=1)
    assert "error: there is no image or folder 'nowhere/val'" in done.stderr


def test_autocast_runs(run_tool, shapes_root, checkpoint):
    options = ["--num", 1, "--warmup", 0, "--device", "cpu", "--amp", "bf16"]
    run_tool(TOOL, CONFIG, checkpoint, "--images", shapes_root / "val" / "000001.jpg", *options)


def test_compiled_parts_are_timed(run_tool, shapes_root, checkpoint, monkeypatch):
    compiled = []
    monkeypatch.setattr("torch.nn.Module.compile", lambda part: compiled.append(type(part)))
    options = ["--num", 1, "--warmup", 0, "--device", "cpu", "--compile", "--json", "b.json"]
    run_tool(TOOL, CONFIG, checkpoint, "--images", shapes_root / "val" / "000001.jpg", *options)
    assert [part.__name__ for part in compiled] == [
        "DeepLabResNet",
        "DeepLabHead",
        "CenterOffsetHead",
    ]
    assert json.loads((run_tool.folder / "b.json").read_text())["compile"] is True


def test_bad_numbers_are_refused(run_tool):
    assert (
        "--num: must be a whole number of at least 1"
        in run_tool(TOOL, CONFIG, "--num", 0, status=2).stderr
    )
