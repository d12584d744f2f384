import json

TOOL = "dataset_converters/shapes.py"


def test_makes_the_dataset_and_says_where(run_tool):
    done = run_tool(TOOL, "my data", "--train", 3, "--val", 2, "--size", 32, 48, "--nproc", 2)
    assert "train: 3 images (3 drawn now)" in done.stdout
    panoptic = json.loads(
        (run_tool.folder / "my data" / "annotations" / "panoptic_val.json").read_text()
    )
    assert [(i["width"], i["height"]) for i in panoptic["images"]] == [(48, 32)] * 2
    done = run_tool(TOOL, "my data", "--train", 3, "--val", 2, "--size", "48x32")
    assert "train: 3 images (0 drawn now)" in done.stdout


def test_errors_are_one_clear_line(run_tool):
    done = run_tool(TOOL, "data", "--size", 8, 8, status=1)
    assert done.stderr.startswith("error: width must lie in")
    assert "height and width" in run_tool(TOOL, "data", "--size", "big", status=2).stderr
