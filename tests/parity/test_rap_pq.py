"""Panoptic quality of made-up predictions for RAP's mini set."""

from __future__ import annotations

import json

import pytest

from mmpanoptic.evaluation import PanopticFormatError, evaluate_files
from tests.golden import golden_files

UNSEEN = {"iou": 0.0, "tp": 0, "fp": 0, "fn": 0}
FILES = golden_files("rap", "pq_expected*.json")


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_quality_is_that_of_the_original_and_a_missing_prediction_an_error(path, tmp_path):
    folder = path.parent / "mini_coco" / "annotations"
    truth = json.loads((folder / "panoptic.json").read_text())
    prediction = path.parent / "pq_pred.json"
    named = {one["image_id"] for one in json.loads(prediction.read_text())["annotations"]}
    with pytest.raises(PanopticFormatError):
        evaluate_files(folder / "panoptic.json", prediction, workers=1)

    # The original skips images without a prediction.
    truth["annotations"] = [one for one in truth["annotations"] if one["image_id"] in named]
    truth["images"] = [one for one in truth["images"] if one["id"] in named]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    result = evaluate_files(tmp_path / "truth.json", prediction, folder / "panoptic", workers=1)
    expected = json.loads(path.read_text())
    assert len(named) == expected["images"]
    for group, wanted in expected["results"].items():
        found = result.quality.averages[group]
        assert found["n"] == wanted["n"]
        for key in ("pq", "sq", "rq"):
            assert found[key] == pytest.approx(wanted[key], abs=1e-12)
    for category, wanted in expected["per_category"].items():
        stats = result.quality.per_category_stats.get(int(category), UNSEEN)
        assert {k: stats[k] for k in ("tp", "fp", "fn")} == {
            k: wanted[k] for k in ("tp", "fp", "fn")
        }
        assert stats["iou"] == pytest.approx(wanted["iou"], abs=1e-12)
