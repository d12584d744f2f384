"""Outputs and gradients of the operators equal those of the full mmcv 2.1.0."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmpanoptic.ops import pytorch_only
from tests.ops.cases import RUNNERS, load_case, provided_operators
from tests.tolerances import check

FIXTURES = sorted((Path(__file__).parents[1] / "data" / "golden" / "ops").glob("*.npz"))


def test_every_operator_has_fixtures():
    assert {load_case(path)[0] for path in FIXTURES} == set(RUNNERS)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_operator_equals_mmcv(path):
    operator, params, inputs, expected = load_case(path)
    with provided_operators(), pytorch_only():
        got = RUNNERS[operator](params, inputs)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        check(f"ops.{operator}", got[name], value, f"{path.name}: {name}")
