import copy
import sys

import numpy as np
import pytest

from mmpanoptic.evaluation.coco_ap import coco_table, evaluate_coco_ap, load_backend

TRUTH = {
    "images": [{"id": i, "file_name": f"{i}.jpg", "height": 40, "width": 40} for i in (3, 1)],
    "categories": [{"id": 7, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [
        {
            "id": n,
            "image_id": image_id,
            "category_id": category_id,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
            "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
        }
        for n, (image_id, category_id, box) in enumerate(
            [(3, 7, [0, 0, 10, 10]), (1, 7, [5, 5, 20, 20]), (1, 2, [30, 30, 5, 5])]
        )
        for x, y, w, h in [box]
    ],
}
PERFECT = [
    {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
    for a in TRUTH["annotations"]
]


@pytest.fixture
def truth():
    content = copy.deepcopy(TRUTH)
    for number, annotation in enumerate(content["annotations"], 1):
        annotation["id"] = number
    return content


def test_perfect_boxes_score_one(truth):
    scores = evaluate_coco_ap(truth, PERFECT, "bbox")
    assert scores.statistics["AP"] == pytest.approx(1.0)
    assert np.isnan(scores.statistics["APl"])
    assert set(scores.per_category) == {2, 7}


def test_annotation_id_0_counts_like_any_other():
    with pytest.warns(UserWarning, match="annotation id 0"):
        scores = evaluate_coco_ap(TRUTH, PERFECT, "bbox")
    assert scores.statistics["AP"] == pytest.approx(1.0)


def test_no_detections_score_zero(truth):
    assert evaluate_coco_ap(truth, [], "bbox").statistics["AP"] == 0.0


def test_images_can_be_chosen(truth):
    found = [entry for entry in PERFECT if entry["image_id"] == 3]
    assert evaluate_coco_ap(truth, found, "bbox").statistics["AP"] < 0.5
    scores = evaluate_coco_ap(truth, found, "bbox", image_ids=[3])
    assert scores.statistics["AP"] == pytest.approx(1.0)


def test_input_is_not_changed_and_nothing_is_printed(truth, capsys):
    before, detections = copy.deepcopy(truth), copy.deepcopy(PERFECT)
    evaluate_coco_ap(truth, detections, "bbox")
    assert (truth, detections) == (before, PERFECT)
    assert capsys.readouterr().out == ""


def test_the_mask_decides_what_is_small_not_the_box(truth):
    from pycocotools import mask

    bits = np.zeros((40, 40), np.uint8, order="F")
    bits[:10, :10] = 1
    lengths = mask.encode(bits)
    lengths["counts"] = lengths["counts"].decode()
    found = {"image_id": 3, "category_id": 7, "score": 0.9, "segmentation": lengths}
    huge = {**found, "bbox": [0, 0, 4000, 4000]}
    with_box = evaluate_coco_ap(truth, [huge], "segm", image_ids=[3]).statistics
    without = evaluate_coco_ap(truth, [found], "segm", image_ids=[3]).statistics
    assert with_box["APs"] == without["APs"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"image_id": "3"},
            "detection 0.image_id '3' is not among the ground truth's images, but 3 is",
        ),
        ({"category_id": 0}, "category_id 0 is not among the ground truth's categories: 7, 2"),
        ({"score": None}, None),
    ],
)
def test_detections_must_fit(truth, change, message):
    detection = {**PERFECT[0], **change}
    if message is None:
        del detection["score"]
        message = "detection 0 lacks score"
    with pytest.raises(ValueError, match=message):
        evaluate_coco_ap(truth, [detection], "bbox")


def test_polygons_are_no_detected_masks(truth):
    detection = {**PERFECT[0], "segmentation": [[0, 0, 1, 1, 2, 2]]}
    with pytest.raises(ValueError, match="detection 0: segmentation must be a run-length mask"):
        evaluate_coco_ap(truth, [detection], "segm")


def test_panoptic_ground_truth_is_recognized(truth):
    truth["annotations"] = [{"image_id": 1, "segments_info": []}]
    with pytest.raises(ValueError, match=r"panoptic JSON; AP needs an instances_\*\.json"):
        evaluate_coco_ap(truth, [], "bbox")


def test_missing_parts_are_named(truth):
    with pytest.raises(ValueError, match=r"no list 'images'(?s:.*)no list 'categories'"):
        evaluate_coco_ap({"annotations": []}, [], "bbox")
    del truth["annotations"][1]["area"]
    with pytest.raises(ValueError, match=r"annotations\[1\] \(id 2\) lacks area"):
        evaluate_coco_ap(truth, [], "bbox")


def test_unknown_kinds_and_backends_are_refused(truth):
    with pytest.raises(ValueError, match="unknown kind of AP 'keypoints'; known: bbox, segm"):
        evaluate_coco_ap(truth, [], "keypoints")
    with pytest.raises(ValueError, match="unknown backend 'fast'; known: pycocotools"):
        load_backend("fast")


def test_an_absent_backend_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(ImportError, match="pip install faster-coco-eval, or take"):
        load_backend("faster-coco-eval")


def test_table_names_categories(truth):
    scores = evaluate_coco_ap(truth, PERFECT, "bbox")
    table = coco_table(scores, {7: "cat"}, "bbox")
    assert "COCO box AP" in table
    assert "| cat      | 100.00 |" in table
    assert "| 2        | 100.00 |" in table
