"""The benchmark parts of the operators agree with their baselines."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from mmpanoptic.ops.backends import full_mmcv_installed

FOLDER = Path(__file__).parents[2] / "tools" / "analysis_tools" / "parts"


def load(name):
    spec = importlib.util.spec_from_file_location(f"part_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["nms", "roi_align"])
def test_all_cases_of_a_part_agree(name):
    part = load(name)
    for options in part.CASES.values():
        inputs = part.make_inputs("small", **options)
        expected, got = part.baseline(inputs), part.ours(inputs)
        part.check(expected, got)


@pytest.mark.parametrize("name", ["nms", "roi_align"])
def test_a_part_says_what_its_baseline_is(name):
    assert ("compiled" in load(name).BASELINE) == full_mmcv_installed()


def test_a_part_notices_a_difference():
    part = load("roi_align")
    inputs = part.make_inputs("small")
    expected, got = part.baseline(inputs), part.ours(inputs)
    got["output"][0, 0, 0, 0] += 0.01
    with pytest.raises(AssertionError):
        part.check(expected, got)
