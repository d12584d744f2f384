from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import pytest

from mmpanoptic.evaluation import PanopticFormatError, PanopticFormatWarning, evaluate_files
from mmpanoptic.utils.panoptic_png import encode_panoptic_png
from tests.evaluation.panoptic_data import write_file_set

SIZES = [(20, 31), (24, 24), (33, 12), (16, 40)]


@pytest.fixture
def files(tmp_path):
    return write_file_set(tmp_path / "set", SIZES)


def edit(files, name: str, change) -> None:
    path = files.folder / f"{name}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def problems(files, **options: Any) -> PanopticFormatError:
    with pytest.raises(PanopticFormatError) as info:
        evaluate_files(*files.paths, **options)
    return info.value


def test_shuffled_predictions_and_any_number_of_workers_change_no_bit(files):
    first = evaluate_files(*files.paths, workers=1)
    edit(files, "pred", lambda content: content["annotations"].reverse())
    for workers in (2, 7):
        again = evaluate_files(*files.paths, workers=workers)
        assert again.quality == first.quality
        assert again.per_image == first.per_image


def test_all_problems_are_reported_with_image_and_file(files):
    (files.folder / "gt" / "000000.png").unlink()
    (files.folder / "pred" / "000000.png").write_bytes(b"no picture")
    small = encode_panoptic_png(np.zeros((3, 3), np.int32))
    (files.folder / "pred" / "000001.png").write_bytes(small)

    def change(content):
        content["annotations"][2]["segments_info"][0]["category_id"] = 4711
        content["annotations"][3]["image_id"] = "103"

    edit(files, "pred", change)
    error = problems(files)
    found = {(p.kind, p.image_id, os.path.basename(p.file)) for p in error.problems}
    assert found == {
        ("missing_file", 100, "000000.png"),
        ("corrupt_png", 100, "000000.png"),
        ("size_mismatch", 101, "000001.png"),
        ("unknown_category", 102, "000002.png"),
        ("missing_prediction", 103, "pred.json"),
    }
    assert "'103', which is str" in str(error)
    assert "4711" in str(error)


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("gt", "{", "corrupt_json"),
        ("pred", "[]", "bad_field"),
        ("pred", "{}", "missing_field"),
        ("gt", '{"annotations": []}', "missing_field"),
        ("gt", '{"annotations": {}, "categories": []}', "bad_field"),
        ("pred", '{"annotations": [3]}', "bad_field"),
        ("pred", '{"annotations": [{}]}', "missing_field"),
        ("pred", '{"annotations": [{"image_id": [1]}]}', "bad_field"),
    ],
)
def test_broken_json_names_the_file(files, name, text, kind):
    path = files.folder / f"{name}.json"
    path.write_text(text)
    error = problems(files)
    assert kind in error.kinds
    assert path.name in str(error)


def test_missing_json_names_the_file(files):
    files.paths[1].unlink()
    error = problems(files)
    assert error.kind == "missing_file"
    assert "pred.json" in str(error)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda a: a.update(segments_info=7), "bad_field"),
        (lambda a: a["segments_info"].append("text"), "bad_field"),
        (lambda a: a.update(file_name=3), "bad_field"),
        (lambda a: a["segments_info"][0].pop("id"), "missing_field"),
        (lambda a: a["segments_info"][0].update(id=[1]), "bad_id"),
        (lambda a: a["segments_info"][0].update(area="9"), "bad_field"),
        (lambda a: a["segments_info"][0].update(category_id=None), "bad_field"),
        (lambda a: a["segments_info"][0].update(iscrowd=2), "bad_field"),
        (lambda a: a["segments_info"][0].update(id=-4), "bad_id"),
    ],
)
def test_broken_ground_truth_entries_have_a_kind(files, change, kind):
    edit(files, "gt", lambda content: change(content["annotations"][1]))
    error = problems(files)
    assert error.kind == kind
    assert error.problems[0].image_id == 101


def test_parity_counts_ground_truth_under_an_impossible_id_as_missed(files):
    expected = evaluate_files(*files.paths).quality.per_category_stats
    edit(files, "gt", lambda c: c["annotations"][1]["segments_info"][0].update(id=-4))
    with pytest.warns(PanopticFormatWarning, match="bad_id"):
        result = evaluate_files(*files.paths, strict=False)
    total = {name: sum(part[name] for part in expected.values()) for name in ("tp", "fn")}
    ours = {
        name: sum(part[name] for part in result.quality.per_category_stats.values())
        for name in ("tp", "fn")
    }
    assert sum(ours.values()) == sum(total.values())


def test_missing_area_and_crowd_are_filled_on_request(files):
    expected = evaluate_files(*files.paths).quality

    def change(content):
        for annotation in content["annotations"]:
            for segment in annotation["segments_info"]:
                del segment["area"]
                if not segment["iscrowd"]:
                    del segment["iscrowd"]

    edit(files, "gt", change)
    assert problems(files).kinds == ["missing_field"]
    assert evaluate_files(*files.paths, fill_missing=True).quality == expected


def test_repeated_categories_are_an_error_or_the_last_counts(files):
    edit(files, "gt", lambda c: c["categories"].append({**c["categories"][0], "isthing": 1}))
    assert problems(files).kind == "duplicate_category"
    with pytest.warns(PanopticFormatWarning, match="duplicate_category"):
        result = evaluate_files(*files.paths, strict=False)
    assert result.categories.isthing[0]


def test_at_least_one_worker_is_needed(files):
    with pytest.raises(ValueError, match="workers"):
        evaluate_files(*files.paths, workers=0)


def test_import_needs_neither_pycocotools_nor_panopticapi_nor_pyplot():
    import subprocess
    import sys

    code = (
        "import sys, mmpanoptic.evaluation;"
        "bad = {'pycocotools', 'panopticapi', 'mmseg', 'matplotlib.pyplot', 'mmdet'};"
        "print(sorted(bad & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_empty_ground_truth_gives_no_number_and_a_warning(files):
    edit(files, "gt", lambda content: content.update(annotations=[]))
    with pytest.warns(PanopticFormatWarning, match="empty_annotation"):
        result = evaluate_files(*files.paths)
    found = {p.kind: os.path.basename(p.file or "") for p in result.warnings}
    assert found["empty_annotation"] == "gt.json"
    assert np.isnan(result.quality.averages["All"]["pq"])


@pytest.mark.parametrize("which", ["gt", "pred"])
@pytest.mark.parametrize("name", ["../gt/000000.png", "/etc/passwd", "..\\gt\\000000.png", ""])
def test_pngs_stay_in_their_folder(files, which, name):
    edit(files, which, lambda content: content["annotations"][0].update(file_name=name))
    error = problems(files)
    kinds = {(p.kind, os.path.basename(p.file), p.image_id) for p in error.problems}
    kind = "unsafe_path" if name else "bad_field"
    assert kinds == {(kind, f"{which}.json", 100)}


def test_category_ids_of_another_type_are_the_ground_truths_fault(files):
    def change(content):
        for category in content["categories"]:
            category["id"] = str(category["id"])

    edit(files, "gt", change)
    error = problems(files)
    assert {(p.kind, os.path.basename(p.file)) for p in error.problems} == {
        ("unknown_category", "gt.json")
    }
    assert "the types differ (number and text)" in str(error)
