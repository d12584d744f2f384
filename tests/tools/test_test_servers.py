"""tools/test.py on Cityscapes and COCO: all metrics from one pass, and files for test servers."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmpanoptic.apis import init_model
from mmpanoptic.datasets.label_sets import CITYSCAPES, COCO_PANOPTIC
from mmpanoptic.utils.label_png import read_label_png
from tests.golden import golden_files

CONFIGS = Path(__file__).parents[2] / "configs"
CITYSCAPES_GT = golden_files("evaluation", "cityscapes_mini*/gtFine/val")[0]
PIPELINE = [
    {"type": "LoadImage"},
    {"type": "ResizeShortestEdge", "short_edge": 96},
    {"type": "PackPanopticInputs"},
]


def write_config(folder, dataset, more):
    """Write a config of the tiny model on a dataset, and a checkpoint with random weights."""
    bases = [
        f"_base_/datasets/{dataset}_panoptic.py",
        "_base_/schedules/adam_poly.py",
        "_base_/default_runtime.py",
        "panoptic_deeplab/panoptic-deeplab_r18-tiny.py",
    ]
    content = Config(
        {
            "_base_": [str(CONFIGS / base) for base in bases],
            "max_iters": 1,
            "num_workers": 0,
            "test_pipeline": PIPELINE,
            **more,
        }
    )
    config = folder / "tiny.py"
    config.write_text(content.pretty_text)
    torch.manual_seed(0)
    model = init_model(str(config), device="cpu")
    model.init_weights()
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d) and module.bias is not None:
            # The predictors: spread their outputs, so that things are found.
            torch.nn.init.normal_(module.weight, std=3.0)
            torch.nn.init.normal_(module.bias, std=0.2)
    torch.save({"meta": {}, "state_dict": model.state_dict()}, folder / "weights.pth")
    return config, folder / "weights.pth"


@pytest.fixture
def cityscapes(run_tool):
    """A small Cityscapes, as downloaded, then converted; a config and a checkpoint."""
    root = run_tool.folder / "data" / "city"
    shutil.copytree(CITYSCAPES_GT, root / "gtFine" / "val")
    for labels in sorted(CITYSCAPES_GT.rglob("*_labelIds.png")):
        name = labels.name.replace("gtFine_labelIds", "leftImg8bit")
        image = root / "leftImg8bit" / "val" / labels.parent.name / name
        image.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(image), cv2.applyColorMap(read_label_png(labels) * 7, cv2.COLORMAP_JET))
    run_tool("dataset_converters/cityscapes.py", root, "--nproc", 1)
    more = {"data_root": str(root)}
    return write_config(run_tool.folder, "cityscapes", more)


def test_cityscapes_gets_pq_iou_and_ap_from_one_pass(cityscapes, run_tool):
    done = run_tool("test.py", *cityscapes, "--out-dir", "out", "--work-dir", "w")
    output = done.stdout + done.stderr
    names = ["coco_panoptic/PQ", "cityscapes_pixel/mIoU", "cityscapes_instance/AP"]
    values = {name: float(re.findall(rf"{name}: (\S+)", output)[-1]) for name in names}
    gt = Path("data/city/gtFine/val")
    checks = {
        "eval_panoptic.py": (
            *("--gt_json_file", "data/city/gtFine/cityscapes_panoptic_val.json"),
            *("--pred_json_file", "out/predictions.panoptic.json", "--json", "again.json"),
        ),
        "eval_cityscapes_pixel.py": (gt, "out/predictions.semantic", "--json", "pixel.json"),
        "eval_cityscapes_instance.py": (gt, "out/predictions.instance", "--json", "instance.json"),
    }
    for tool, arguments in checks.items():
        run_tool(f"analysis_tools/{tool}", *arguments)
    for file, key in (("again.json", "PQ"), ("pixel.json", "mIoU"), ("instance.json", "AP")):
        content = json.loads((run_tool.folder / file).read_text())
        again = 100 * find(content, "pq") if key == "PQ" else find(content, key)
        name = next(name for name in names if name.endswith(f"/{key}"))
        assert again == pytest.approx(values[name], abs=1e-3)


LAYOUTS = {
    # Location-based EfficientPS: images beside gtFine, panoptic files at the root
    "cities": ("val/{city}/{id}_leftImg8bit.png", []),
    "flat": ("val/{id}_leftImg8bit.png", ["image_name={id}_leftImg8bit.png"]),
    # the EfficientPS authors' copy
    "efficientps": ("val/{id}.png", ["image_name={id}.png"]),
    # the same on its own, with the label maps elsewhere
    "copy": ("val/{id}.png", ["image_name={id}.png", "val_gt=../labels/val"]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_layouts_of_cityscapes_give_the_same_numbers(cityscapes, run_tool, layout):
    pattern, more = LAYOUTS[layout]
    root = run_tool.folder / "data" / "city"
    expected = figures(run_tool("test.py", *cityscapes, "--work-dir", "w"))
    for image in sorted((root / "leftImg8bit").rglob("*.png")):
        name = image.name.removesuffix("_leftImg8bit.png")
        target = root / pattern.format(id=name, city=image.parent.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        image.rename(target)
    shutil.rmtree(root / "leftImg8bit")
    for path in (root / "gtFine").glob("cityscapes_panoptic_val*"):
        path.rename(root / path.name)
    if layout == "copy":
        (root / "gtFine").rename(root.parent / "labels")
    options = ["val_img=val/", "val_ann_file=cityscapes_panoptic_val.json"]
    options += ["val_seg=cityscapes_panoptic_val/", *more]
    done = run_tool("test.py", *cityscapes, "--work-dir", "v", "--cfg-options", *options)
    assert figures(done) == expected
    assert len(expected) > 10


def figures(done):
    """The numbers of the last line of a test that has any."""
    lines = (done.stdout + done.stderr).splitlines()
    rows = [re.findall(r"(\w+/\S+): ([\d.]+)", line) for line in lines]
    return {name: float(value) for name, value in [row for row in rows if row][-1]}


def test_the_test_split_of_cityscapes_is_submitted_as_documented(cityscapes, run_tool):
    """Its label maps are dummies: everything is ignored there."""
    root = run_tool.folder / "data" / "city"
    for image in sorted((root / "leftImg8bit" / "val").rglob("*.png"))[:2]:
        stem = image.name.removesuffix("_leftImg8bit.png")
        for kind, dtype in (("labelIds", np.uint8), ("instanceIds", np.uint16)):
            dummy = root / "gtFine" / "test" / image.parent.name / f"{stem}_gtFine_{kind}.png"
            dummy.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(dummy), np.ones(cv2.imread(str(image)).shape[:2], dtype))
        target = root / "leftImg8bit" / "test" / image.parent.name / image.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, target)
    run_tool("dataset_converters/cityscapes.py", root, "--split", "test", "--nproc", 1)
    options = ["val_ann_file=gtFine/cityscapes_panoptic_test.json", "val_img=leftImg8bit/test/"]
    arguments = ["--out", "submission", "--format-only", "--cfg-options", *options]
    run_tool("test.py", *cityscapes, "--work-dir", "w", *arguments)
    out = run_tool.folder / "submission"
    assert len(list((out / "predictions.semantic").glob("*_pred_labelIds.png"))) == 2
    assert len(list((out / "predictions.instance").glob("*_pred.txt"))) == 2
    assert len(json.loads((out / "predictions.panoptic.json").read_text())["annotations"]) == 2


def find(content, key):
    """Find a number by its name in nested dictionaries."""
    if key in content and not isinstance(content[key], dict):
        return content[key]
    inner = [find(value, key) for value in content.values() if isinstance(value, dict)]
    return next((value for value in inner if value is not None), None)


def test_a_cityscapes_submission_needs_no_annotation(cityscapes, run_tool):
    for path in (run_tool.folder / "data" / "city" / "gtFine").rglob("*.png"):
        path.unlink()
    done = run_tool("test.py", *cityscapes, "--out-dir", "out", "--format-only", "--work-dir", "w")
    assert "PQ" not in done.stdout + done.stderr
    out = run_tool.folder / "out"
    images = len(list(CITYSCAPES_GT.rglob("*_labelIds.png")))
    maps = sorted((out / "predictions.semantic").glob("*_pred_labelIds.png"))
    assert len(maps) == images
    allowed = {0, *(label.dataset_id for label in CITYSCAPES)}
    assert all(set(np.unique(read_label_png(path)).tolist()) <= allowed for path in maps)
    lists = sorted((out / "predictions.instance").glob("*_pred.txt"))
    assert len(lists) == images
    for line in lists[0].read_text().splitlines():
        mask, label, score = line.rsplit(maxsplit=2)
        assert (lists[0].parent / mask).is_file()
        assert int(label) in range(24, 34)
        assert np.isfinite(float(score))  # a raw heatmap takes part in it, as published
    written = json.loads((out / "predictions.panoptic.json").read_text())
    assert len(written["annotations"]) == images


def test_a_coco_submission_needs_the_list_of_images_alone(run_tool):
    """As image_info_test-dev2017.json: no annotations, and categories of the detection task."""
    root, rng = run_tool.folder / "coco", np.random.default_rng(0)
    (root / "test2017").mkdir(parents=True)
    images = []
    for number, size in ((7, (64, 96)), (3, (80, 64))):
        name = f"{number:012d}.jpg"
        cv2.imwrite(str(root / "test2017" / name), rng.integers(0, 256, (*size, 3), np.uint8))
        images.append({"id": number, "file_name": name, "height": size[0], "width": size[1]})
    categories = [{"id": label.dataset_id, "name": label.name} for label in COCO_PANOPTIC][:80]
    (root / "info.json").write_text(json.dumps({"images": images, "categories": categories}))
    instances = {"type": "CocoInstanceMetric", "source": "pred_panoptic_seg"}
    config, weights = write_config(
        run_tool.folder,
        "coco",
        {
            "data_root": str(root),
            "val_ann_file": "info.json",
            "val_img": "test2017",
            "test_evaluator": [{"type": "PanopticQualityMetric"}, instances],
        },
    )
    run_tool("test.py", config, weights, "--out-dir", "out", "--format-only", "--work-dir", "w")
    out = run_tool.folder / "out"
    written = json.loads((out / "predictions.panoptic.json").read_text())
    assert [a["image_id"] for a in written["annotations"]] == [7, 3]
    ids = {label.dataset_id for label in COCO_PANOPTIC}
    for annotation, image in zip(written["annotations"], images, strict=True):
        assert annotation["file_name"] == f"{image['id']:012d}.png"
        assert {s["category_id"] for s in annotation["segments_info"]} <= ids
        png = cv2.imread(str(out / "predictions.panoptic" / annotation["file_name"]))
        assert png.shape[:2] == (image["height"], image["width"])
    segments = json.loads((out / "predictions.segm.json").read_text())
    assert {entry["image_id"] for entry in segments} <= {3, 7}
