"""Panoptic quality against numbers that cocodataset/panopticapi wrote (bits, not tolerances)."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest

from mmpanoptic.evaluation import PanopticFormatError, PanopticFormatWarning, evaluate_files
from tests.golden import golden_files

SETS = [path.with_name("expected.json") for path in golden_files("evaluation", "coco_*/pred.json")]
GROUPS = ("All", "Things", "Stuff")


def _index(name: str) -> list[Any]:
    entries = []
    for path in golden_files("evaluation", f"{name}*/index.json"):
        for case, entry in json.loads(path.read_text()).items():
            entries.append(pytest.param(path.parent / case, entry, id=f"{path.parent.name}-{case}"))
    return entries


def _evaluate(folder: Path, **options: Any):
    return evaluate_files(folder / "gt.json", folder / "pred.json", **options)


def _same_float(ours: float, reference: float | str) -> bool:
    value = float.fromhex(reference) if isinstance(reference, str) else reference
    return ours == value


def _check_averages(ours: dict, reference: dict) -> None:
    for group in GROUPS:
        if reference[group] == "ZeroDivisionError":
            assert ours[group]["n"] == 0
            assert all(math.isnan(ours[group][key]) for key in ("pq", "sq", "rq"))
            continue
        assert ours[group]["n"] == reference[group]["n"]
        for key in ("pq", "sq", "rq"):
            assert _same_float(ours[group][key], reference[group][key]), (group, key)


def _check_stats(ours: dict, reference: dict) -> None:
    assert {str(key) for key in ours} == set(reference)
    for key, stats in ours.items():
        expected = reference[str(key)]
        assert {k: stats[k] for k in ("tp", "fp", "fn")} == {
            k: expected[k] for k in ("tp", "fp", "fn")
        }
        assert stats["iou"].hex() == float.fromhex(expected["iou_hex"]).hex()


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("expected_file", SETS, ids=lambda path: path.parent.name)
def test_file_sets_have_the_reference_bits(expected_file, workers):
    expected = json.loads(expected_file.read_text())
    result = _evaluate(expected_file.parent, workers=workers)
    _check_averages(result.quality.averages, expected["averages"])
    _check_averages(result.quality.averages, expected["sum_over_chunks"]["1"])
    _check_stats(result.quality.per_category_stats, expected["per_category_stats"])
    per_class = {str(key): value for key, value in result.quality.per_class.items()}
    assert per_class == expected["averages"]["per_class"]
    assert list(per_class) == list(expected["averages"]["per_class"])
    assert len(result.per_image) == len(expected["per_image"])
    for ours, reference in zip(result.per_image, expected["per_image"], strict=True):
        assert ours["image_id"] == reference["image_id"]
        _check_stats(ours["stats"], reference["stats"])


@pytest.mark.parametrize(("folder", "entry"), _index("coco_quirks"))
def test_odd_input_gives_the_reference_number_or_the_documented_error(folder, entry):
    rule = entry["our_rule"]
    if "always an error" in rule:
        for strict in (True, False):
            with pytest.raises(PanopticFormatError):
                _evaluate(folder, strict=strict)
        return
    reference = entry["reference"]["result"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = _evaluate(folder, strict=False)
        assert bool(caught) == bool(result.warnings)
        assert all(warning.category is PanopticFormatWarning for warning in caught)
    _check_averages(result.quality.averages, reference["averages"])
    _check_stats(result.quality.per_category_stats, reference["per_category_stats"])
    if "strict mode: error" in rule:
        assert result.warnings, "parity mode must not hide what strict mode rejects"
        with pytest.raises(PanopticFormatError, match=r"\.(png|json)"):
            _evaluate(folder, strict=True)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PanopticFormatWarning)
            strict = _evaluate(folder, strict=True)
        assert strict.quality.per_category_stats == result.quality.per_category_stats
        assert bool(strict.warnings) == ("warn" in rule or "nan" in rule)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(("folder", "entry"), _index("coco_invalid"))
def test_invalid_input_is_reported_by_kind_and_file(folder, entry, strict):
    with pytest.raises(PanopticFormatError) as info:
        _evaluate(folder, strict=strict)
    assert info.value.kinds
    assert set(info.value.kinds) <= set(entry["error_kinds"])
    assert all(str(folder) in str(problem.file) for problem in info.value.problems)
    assert str(folder) in str(info.value)
