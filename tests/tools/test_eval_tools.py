import json

import numpy as np
import pytest

from mmpanoptic.evaluation.cityscapes_files import write_semantic
from mmpanoptic.utils.label_png import write_label_png
from tests.golden import golden_dir

GOLDEN = golden_dir("evaluation")
CITYSCAPES = GOLDEN / "cityscapes_mini"
TOOLS = ["eval_cityscapes_pixel", "eval_cityscapes_instance", "eval_miou", "eval_coco_ap"]


@pytest.fixture
def folder(run_tool):
    """The folder in which commands run."""
    return run_tool.folder


@pytest.fixture
def run(run_tool):
    """Run a command by its name."""
    return lambda name, *arguments, status=0: run_tool(
        f"analysis_tools/{name}.py", *arguments, status=status
    )


def load(path):
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", TOOLS)
def test_help_shows_examples(run, name):
    assert "examples:\n  " in run(name, "--help").stdout


def test_cityscapes_pixel_level(run, folder):
    expected = load(CITYSCAPES / "predictions" / "expected.json")["pixel"]
    arguments = [CITYSCAPES / "gtFine" / "val", CITYSCAPES / "predictions" / "semantic"]
    done = run("eval_cityscapes_pixel", *arguments, "--json", "out/pixel.json")
    assert "| mean          | 54.35 | 69.48 |" in done.stdout
    assert "warning" not in done.stdout
    written = load(folder / "out" / "pixel.json")
    assert written["averages"]["mIoU"] == pytest.approx(100 * expected["averageScoreClasses"])
    assert written["class_iou"]["unlabeled"] is None
    assert written["matrix"] == expected["confMatrix"]


def test_cityscapes_pixel_level_suspects_train_ids(run, folder):
    for path in (CITYSCAPES / "gtFine" / "val").rglob("*_labelTrainIds.png"):
        image_id = path.name.removesuffix("_gtFine_labelTrainIds.png")
        write_semantic(folder / "pred", image_id, np.full((96, 192), 13, np.uint8))
    done = run("eval_cityscapes_pixel", CITYSCAPES / "gtFine" / "val", "pred")
    assert "warning: no prediction exceeds 13; if they are train ids" in done.stdout


def test_cityscapes_instance_level(run, folder):
    arguments = [CITYSCAPES / "gtFine" / "val", CITYSCAPES / "predictions" / "instance"]
    done = run("eval_cityscapes_instance", *arguments, "--nproc", 2, "--json", "instance.json")
    assert "| mean       | 13.20 | 38.09 |" in done.stdout
    written = load(folder / "instance.json")
    expected = load(CITYSCAPES / "predictions" / "expected.json")["instance"]
    assert written["averages"]["AP"] == pytest.approx(100 * expected["averages"]["allAp"])
    assert written["thresholds"][:2] == ["0.50", "0.55"]


def test_miou_of_label_maps(run, folder):
    expected = load(GOLDEN / "miou" / "expected.json")
    with np.load(GOLDEN / "miou" / "labels.npz") as maps:
        for index, (truth, prediction) in enumerate(zip(maps["gt"], maps["pred"], strict=True)):
            write_label_png(folder / "gt" / f"{index}.png", truth.astype(np.uint8))
            write_label_png(folder / "pred" / f"{index}.png", prediction.astype(np.uint8))
            # the same maps with 0 for void and classes from 1
            shifted = np.where(truth == 255, 0, truth + 1)
            write_label_png(folder / "gt1" / f"{index}.png", shifted.astype(np.uint8))
    for truth, extra in (("gt", ()), ("gt1", ("--reduce-zero-label", "truth"))):
        run(
            "eval_miou",
            *(truth, "pred", "--num-classes", expected["num_classes"], *extra),
            *("--definition", "detectron2", "mmseg", "--json", "miou.json"),
        )
        written = load(folder / "miou.json")
        for name in ("detectron2", "mmseg"):
            found = written["averages"][name]["mIoU"]
            assert found == pytest.approx(100 * expected["formulas"][name]["mIoU"])


def test_miou_with_names_and_suffixes(run, folder):
    (folder / "classes.txt").write_text("\n".join(f"class {i}" for i in range(19)) + "\n")
    suffix = "_gtFine_labelTrainIds.png"
    maps = CITYSCAPES / "gtFine" / "val"
    done = run(
        "eval_miou",
        *(maps, maps, "--classes", "classes.txt"),
        *("--gt-suffix", suffix, "--pred-suffix", suffix),
    )
    assert "| class 18 | 100.00 | 100.00 |" in done.stdout
    assert "7 images" in done.stdout


def test_miou_tells_what_is_void_and_what_never_counts(run, folder):
    truth = np.zeros((20, 20), np.uint8)
    truth[:10] = 255  # should have been 1
    write_label_png(folder / "gt" / "a.png", truth)
    write_label_png(folder / "pr" / "a.png", np.uint8(truth > 0))
    text = run("eval_miou", "gt", "pr", "--num-classes", 2, "--nproc", 1).stdout
    expected = "void: 200 pixels of the ground truth (50.00 %) have values that are no class: "
    assert f"{expected}255 (200)" in text
    assert "warning: without a pixel in the ground truth: 1" in text


AP_TRUTH = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "segmentation": [[10, 5, 30, 5, 30, 15, 10, 15]],
            "bbox": [10, 5, 20, 10],
            "area": 200,
            "iscrowd": 0,
        }
    ],
    "categories": [{"id": 1, "name": "car"}],
}
AP_FOUND = {
    "image_id": 1,
    "category_id": 1,
    "score": 0.9,
    "segmentation": {"size": [48, 64], "counts": "U?:V10000000000000000000000000000000000000kb1"},
}


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        ("gt", {"segmentation": []}, "annotations[0] (id 1).segmentation is an empty list"),
        ("gt", {"segmentation": None}, "segmentation is None"),
        ("gt", {"iscrowd": None}, "iscrowd must be 0 or 1, got None"),
        ("gt", {"area": "200"}, "area must be a finite number, got '200'"),
        ("gt", {"bbox": [1, 2]}, "bbox must be [x, y, width, height]"),
        ("found", {"score": "0.9"}, "detection 0.score must be a finite number, got '0.9'"),
        ("found", {"score": None}, "score must be a finite number, got None"),
        (
            "found",
            {"segmentation": {"size": [48, 64], "counts": [100, 50, 2922]}},
            "got uncompressed counts (a list)",
        ),
        (
            "found",
            {"segmentation": {"size": [48, 64], "counts": "U?"}},
            "detection 0.segmentation has counts that add up to",
        ),
        ("found", {"image_id": "1"}, "the types differ"),
    ],
)
def test_coco_ap_names_what_is_wrong(run, folder, place, change, message):
    truth = json.loads(json.dumps(AP_TRUTH))
    found = dict(AP_FOUND)
    (truth["annotations"][0] if place == "gt" else found).update(change)
    (folder / "gt.json").write_text(json.dumps(truth))
    (folder / "found.json").write_text(json.dumps([found]))
    error = run("eval_coco_ap", "gt.json", "found.json", status=1).stderr
    assert message in error
    assert f"({place}.json)" in error
    assert "Traceback" not in error


def test_coco_ap_understands_other_forms_of_masks(run, folder):
    truth = json.loads(json.dumps(AP_TRUTH))
    truth["annotations"][0]["segmentation"] = [[10, 5], [30, 5], [30, 15], [10, 15]]
    (folder / "gt.json").write_text(json.dumps(truth))
    (folder / "found.json").write_text(json.dumps([AP_FOUND]))
    run("eval_coco_ap", "gt.json", "found.json", "--json", "ap.json")
    assert load(folder / "ap.json")["segm"]["statistics"]["AP"] == pytest.approx(100)


def test_coco_ap_without_annotations_is_no_result(run, folder):
    (folder / "gt.json").write_text(json.dumps({**AP_TRUTH, "annotations": []}))
    (folder / "found.json").write_text(json.dumps([AP_FOUND]))
    error = run("eval_coco_ap", "gt.json", "found.json", status=1).stderr
    assert "[empty_annotation] the ground truth lists no annotations (gt.json)" in error


@pytest.mark.parametrize("name", ["gt.json", "found.json"])
def test_figures_never_replace_what_was_read(run, folder, name):
    (folder / "gt.json").write_text(json.dumps(AP_TRUTH))
    (folder / "found.json").write_text(json.dumps([AP_FOUND]))
    before = (folder / name).read_bytes()
    error = run("eval_coco_ap", "gt.json", "found.json", "--json", name, status=1).stderr
    assert f"{name} is an input and would be overwritten" in error
    assert (folder / name).read_bytes() == before


def test_coco_ap(run, folder):
    expected = load(GOLDEN / "coco_ap" / "expected.json")
    arguments = [GOLDEN / "coco_ap" / "synthetic_gt.json", GOLDEN / "coco_ap" / "synthetic_dt.json"]
    run("eval_coco_ap", *arguments, "--iou-type", "bbox", "segm", "--json", "ap.json")
    written = load(folder / "ap.json")
    for kind in ("bbox", "segm"):
        stats = expected[f"synthetic_{kind}"]["stats"]
        assert written[kind]["statistics"]["AP"] == pytest.approx(100 * stats["AP"])
        assert written[kind]["statistics"]["APl"] is None


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("eval_cityscapes_pixel", ["none", "none"], "error: none is no folder"),
        ("eval_cityscapes_instance", ["empty", "none"], "empty holds no file whose name ends in"),
        ("eval_miou", ["empty", "empty", "--classes", "no.txt"], "No such file"),
        ("eval_coco_ap", ["a.json", "b.json"], "No such file"),
        ("eval_coco_ap", ["bad.json", "bad.json"], "bad.json is not a valid JSON file"),
        ("eval_coco_ap", ["list.json", "list.json"], "must be an object, got list (list.json)"),
    ],
)
def test_errors_are_one_clear_line(run, folder, name, arguments, message):
    (folder / "empty").mkdir()
    (folder / "bad.json").write_text("{")
    (folder / "list.json").write_text("[]")
    done = run(name, *arguments, status=1)
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_number_of_processes_is_checked(run):
    done = run("eval_cityscapes_pixel", "a", "b", "--nproc", "0", status=2)
    assert "must be a whole number of at least 1" in done.stderr
