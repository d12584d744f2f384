"""tools/test.py: what it writes beside its tables."""

import csv

from mmpanoptic.utils import read_json
from tests.apis.tiny_model import CONFIG


def test_a_row_per_image_is_that_of_eval_panoptic(run_tool, shapes_root, checkpoint):
    options = ["--cfg-options", f"data_root={shapes_root}", "num_workers=0"]
    arguments = ["--out-dir", "out", "--per-image", "ours.json"]
    run_tool("test.py", CONFIG, checkpoint, *arguments, *options)
    truth = shapes_root / "annotations/panoptic_val.json"
    run_tool(
        *("analysis_tools/eval_panoptic.py", "--gt_json_file", truth),
        *("--pred_json_file", "out/predictions.panoptic.json", "--per-image", "theirs.json"),
    )
    ours, theirs = (read_json(run_tool.folder / f"{name}.json") for name in ("ours", "theirs"))
    assert ours == theirs
    assert len(ours) == len(read_json(truth)["images"])
    run_tool("test.py", CONFIG, checkpoint, "--per-image", "a.csv", *options)
    with open(run_tool.folder / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file_name"] for row in rows] == [row["file_name"] for row in ours]


def test_wrong_uses_of_per_image_are_explained(run_tool):
    done = run_tool("test.py", CONFIG, "x.pth", "--per-image", "a.txt", status=2)
    assert "must end in .csv or .json" in done.stderr
    arguments = ["--format-only", "--out-dir", "o", "--per-image", "a.csv"]
    assert "computes nothing" in run_tool("test.py", CONFIG, "x.pth", *arguments, status=2).stderr
    ap = "test_evaluator={'type': 'CocoInstanceMetric', 'ann_file': 'x'}"
    done = run_tool(
        "test.py", CONFIG, "x.pth", "--per-image", "a.csv", "--cfg-options", ap, status=1
    )
    assert "needs PanopticQualityMetric" in done.stderr
