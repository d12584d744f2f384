"""relation_accuracy.py and browse_relations.py on a small set."""

import json
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmpanoptic.datasets.shapes.catalog import SHAPES_TABLE
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.evaluation.relation_truth import match_detections, read_truth
from mmpanoptic.registry import MODELS

from .load_tool import load_tool

CONFIGS = Path(__file__).parents[2] / "configs" / "rap"
ACCURACY = "analysis_tools/relation_accuracy.py"
BROWSE = "analysis_tools/browse_relations.py"
SMALL = {
    "model.backbone.base_channels": 8,
    "model.backbone.stem_channels": 8,
    "model.neck.in_channels": [8, 16, 32, 64],
    "model.test_cfg.rpn.max_per_img": 40,
    "model.test_cfg.rcnn.max_per_img": 15,
}


@pytest.fixture(scope="module")
def annotated(shapes_root, tmp_path_factory):
    """The instance JSON of the validation images with relations."""
    folder = shapes_root / "annotations"
    out = tmp_path_factory.mktemp("relations") / "instances.json"
    status = load_tool("dataset_converters/coco_relations.py").main(
        [
            *(str(folder / f"{kind}_val.json") for kind in ("instances", "panoptic")),
            *("--matching", "segment_id", "--front", "depth", "--overlap-thr", "0.0"),
            *("--nproc", "1", "--out", str(out)),
        ]
    )
    assert status == 0
    return out


def checkpoint(path, name):
    """Random weights of a narrow model."""
    cfg = Config.fromfile(CONFIGS / name)
    cfg.merge_from_dict(SMALL)
    resolve_config(cfg, SHAPES_TABLE.to_metainfo())
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmpanoptic"):
        model = MODELS.build(cfg.model)
    meta = {"dataset_meta": SHAPES_TABLE.to_metainfo()}
    torch.save({"state_dict": model.state_dict(), "meta": meta}, path)
    return path


def options(root, **extra):
    values = {**SMALL, "data_root": root, "model.fusion_head.score_thr": 0.0, **extra}
    return [
        f"{key}={json.dumps(value, separators=(',', ':')) if isinstance(value, list) else value}"
        for key, value in values.items()
    ]


@pytest.mark.parametrize("kind", ["relation", "ocfusion"])
def test_accuracy_counts_pairs_and_is_deterministic(
    run_tool, shapes_root, annotated, tmp_path, kind
):
    name = f"rap_r18-tiny_{kind}-finetune_1xb8-2k_shapes.py"
    weights = checkpoint(tmp_path / "weights.pth", name)
    results = []
    for run in range(2):
        done = run_tool(
            ACCURACY,
            *(CONFIGS / name, weights, annotated, "--iou-thr", 0.0),
            *("--json", f"{run}.json", "--cfg-options"),
            *options(shapes_root, **{"model.test_cfg.rcnn.score_thr": 0.0}),
        )
        results.append(json.loads((run_tool.folder / f"{run}.json").read_text()))
    assert results[0] == results[1]
    assert "annotated pairs" in done.stdout
    assert results[0]["annotated"] > 0
    assert results[0]["fusion"]["inference_count"] > 0


def test_accuracy_refuses_a_fusion_that_has_no_head(run_tool, shapes_root, annotated, tmp_path):
    name = "panoptic-fpn_r18-tiny_1xb8-1k_shapes.py"
    weights = checkpoint(tmp_path / "weights.pth", name)
    done = run_tool(
        ACCURACY,
        *(CONFIGS / name, weights, annotated, "--cfg-options"),
        *options(shapes_root),
        status=1,
    )
    assert "orders by score alone" in done.stderr


def test_accuracy_needs_relations(run_tool, shapes_root, tmp_path):
    name = "rap_r18-tiny_relation-finetune_1xb8-2k_shapes.py"
    weights = checkpoint(tmp_path / "weights.pth", name)
    plain = shapes_root / "annotations" / "instances_val.json"
    arguments = (CONFIGS / name, weights, plain, "--cfg-options", *options(shapes_root))
    assert "coco_relations.py" in run_tool(ACCURACY, *arguments, status=1).stderr


def test_detections_find_the_truth_of_their_class_once():
    truth = read_truth(
        [
            {"id": 5, "bbox": [0, 0, 10, 10], "category_id": 1, "overlap": [9, 77]},
            {"id": 9, "bbox": [5, 0, 10, 10], "category_id": 2, "overlap": []},
            {"id": 4, "bbox": [0, 0, 50, 50], "category_id": 2, "iscrowd": 1},
        ]
    )
    assert truth.pairs == [(1, 0)]
    found = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 9.0, 10.0], [5.0, 0.0, 15.0, 10.0]])
    assert match_detections(found, torch.tensor([1, 1, 2]), truth, 0.5) == [0, -1, 1]
    assert match_detections(found, torch.tensor([2, 3, 1]), truth, 0.5) == [-1, -1, -1]
    nothing = read_truth([])
    assert match_detections(found, torch.tensor([1, 1, 2]), nothing, 0.5) == [-1, -1, -1]


def test_browse_draws_images_with_relations(run_tool, shapes_root, annotated):
    run_tool(BROWSE, annotated, shapes_root / "val", "--out-dir", "pictures", "--scale", 2)
    assert "Who lies in front" in (run_tool.folder / "pictures" / "index.html").read_text()
    done = run_tool(
        BROWSE,
        *(annotated, shapes_root / "val", "--out-dir", "more", "--image-ids", "nothing"),
        status=1,
    )
    assert "no image nothing" in done.stderr


def test_browse_draws_what_a_model_predicts(run_tool, shapes_root, annotated, tmp_path):
    name = "rap_r18-tiny_relation-finetune_1xb8-2k_shapes.py"
    weights = checkpoint(tmp_path / "weights.pth", name)
    run_tool(
        BROWSE,
        *(annotated, shapes_root / "val", "--out-dir", "pictures", "--num", 1),
        *("--model", CONFIGS / name, weights, "--cfg-options"),
        *options(shapes_root, **{"model.test_cfg.rcnn.score_thr": 0.0}),
    )
    (picture,) = (run_tool.folder / "pictures" / "images").iterdir()
    plain = cv2.imread(str(shapes_root / "val" / "000001.jpg"))
    assert cv2.imread(str(picture)).shape[1] > 2 * plain.shape[1]


def test_browse_needs_relations(run_tool, shapes_root):
    plain = shapes_root / "annotations" / "instances_val.json"
    done = run_tool(BROWSE, plain, shapes_root / "val", "--out-dir", "pictures", status=1)
    assert "coco_relations.py" in done.stderr
