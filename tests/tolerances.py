"""How far a computed number may lie from a golden one: the measured spread of rounding, times four.

Another processor, thread count or library adds up in another order. How far that moves each kind
of number is measured by ``tests/parity/measure_rounding.py`` and kept in ``rounding.json`` beside
it; ``tests/parity/README.md`` tells how. No test has a tolerance of its own for rounding.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

TABLE = Path(__file__).parent / "parity" / "rounding.json"
FACTOR = 4.0
# Where all settings agree, an original that computes by another formula may still differ by some
# units in the last place: no spread counts as less than four, no mean one as less than one.
UNIT = 2.0**-23
LEAST = {"largest": 4 * UNIT, "rms": UNIT}
MANY = 256  # fewer numbers have no mean worth a limit of its own
# So many of a set of detections, and at least one of several, may lack a partner: one overlap at
# the threshold of NMS decides about one box.
UNMATCHED = 0.01
COARSE = 0.01  # what is measured pairs detections that are no nearer

# Gets (quantity, actual, expected, where); what measures the spread hangs itself in here.
listener: Callable[[str, np.ndarray, np.ndarray, str], None] | None = None


class RoundingError(AssertionError):
    """A number is further off than rounding explains."""

    def __init__(self, message: str, excess: float) -> None:
        super().__init__(message)
        self.excess = excess  # error by what is allowed


@cache
def table() -> dict[str, dict[str, Any]]:
    """What was measured of each quantity."""
    return json.loads(TABLE.read_text())


def allowed(quantity: str, norm: str = "largest") -> float:
    """Greatest relative error of a quantity, in one of the norms, that counts as rounding."""
    if quantity not in table():
        raise KeyError(
            f"{quantity} is not in {TABLE}: run `make measure-rounding`, which also adds the new "
            "quantity"
        )
    return FACTOR * max(table()[quantity][norm], LEAST[norm])


def as_array(values: Any) -> np.ndarray:
    """Make float64 of a tensor, an array or a number."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, np.float64)


def relative_errors(actual: Any, expected: Any) -> dict[str, float]:
    """Errors of a tensor in units of its scale.

    Values that are not finite must be equal.

    Returns:
        dict: ``largest``, the largest difference by the largest expected value, and for tensors
        of many numbers ``rms``, the same of root mean squares, which tells a small mistake in
        all of them from rounding.
    """
    actual, expected = as_array(actual), as_array(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    difference, scale = actual[finite] - expected[finite], expected[finite]
    errors = {"largest": _ratio(np.abs(difference).max(initial=0), np.abs(scale).max(initial=0))}
    if difference.size >= MANY:
        errors["rms"] = _ratio(np.linalg.norm(difference), np.linalg.norm(scale))
    return errors


def _ratio(difference: float, scale: float) -> float:
    return float(difference / scale) if scale else (np.inf if difference else 0.0)


def check(quantity: str, actual: Any, expected: Any, where: str = "") -> None:
    """Fail where a tensor is further off than rounding explains.

    Args:
        quantity: Name in the table of measured spreads, ``system.kind``.
        actual: What was computed.
        expected: The golden numbers, of the same shape.
        where: File and key, for the message.

    Raises:
        RoundingError: If it is.
        KeyError: If the spread of this quantity was not measured.
    """
    if listener is not None:
        listener(quantity, as_array(actual), as_array(expected), where)
        return
    for norm, error in relative_errors(actual, expected).items():
        limit = allowed(quantity, norm)
        if not error <= limit:
            raise RoundingError(
                f"{where or quantity}: off by {error:.3g} ({norm}, in units of the tensor's "
                f"scale); rounding of {quantity} explains {limit:.3g}",
                error / limit,
            )


def check_classes(quantity: str, logits: Any, expected: Any, where: str = "") -> None:
    """Compare the classes with the largest logit, the first axis; ties up to rounding may differ.

    Args:
        quantity: That of the logits.
        logits: ``(C, ...)``.
        expected: Golden classes ``(...)``.
        where: File and key, for the message.
    """
    logits, expected = as_array(logits), np.asarray(expected).astype(int)
    assert logits.shape[1:] == expected.shape
    if listener is not None:
        return
    reached = np.take_along_axis(logits, expected[None], 0)[0]
    gap = float((logits.max(0) - reached).max() / np.abs(logits).max())
    limit = 2 * allowed(quantity)  # both logits may have moved
    if not gap <= limit:
        raise RoundingError(
            f"{where or quantity}: the golden class is {gap:.2g} of the largest logit below the "
            f"best; rounding of {quantity} explains {limit:.2g}",
            gap / limit,
        )


class Detections(NamedTuple):
    """Boxes with scores, and labels where there are classes."""

    boxes: Any  # (K, 4)
    scores: Any  # (K,)
    labels: Any = None  # (K,)


def check_set(
    quantity: str, actual: Detections, expected: Detections, where: str = ""
) -> np.ndarray:
    """Compare detections as sets: their order is open where scores tie.

    Args:
        quantity: Name in the table; ``_boxes`` and ``_scores`` are appended.
        actual: What was computed.
        expected: The golden detections.
        where: File and keys, for the message.

    Returns:
        np.ndarray: For each golden detection the number of its partner, -1 if it has none.

    Raises:
        RoundingError: If too many of either side have no partner.
    """
    names = (f"{quantity}_boxes", f"{quantity}_scores")
    gaps = [_gaps(a, e) for a, e in zip(actual[:2], expected[:2], strict=True)]
    limits = [allowed(name) for name in names] if listener is None else [COARSE, COARSE]
    excess = np.maximum(*(gap / limit for gap, limit in zip(gaps, limits, strict=True)))
    if expected.labels is not None:
        excess[np.asarray(expected.labels)[:, None] != np.asarray(actual.labels)[None]] = np.inf
    partner = _match(excess)
    if listener is not None:
        for name, ours, theirs in zip(names, actual[:2], expected[:2], strict=True):
            values = np.append(as_array(ours), np.full((1, *np.shape(ours)[1:]), np.nan), 0)
            listener(name, values[partner], as_array(theirs), where)
        return partner
    counts = len(expected.scores), len(actual.scores)
    missing = max(counts) - int((partner >= 0).sum())
    spare = min(math.ceil(UNMATCHED * counts[0]), counts[0] - 1)
    if missing > spare:
        nearest = np.sort(excess.min(1))[-1 - spare] if excess.size else np.inf
        raise RoundingError(
            f"{where or quantity}: of {counts[1]} detections, {missing} have no partner among the "
            f"{counts[0]} golden ones, {spare} may",
            float(nearest),
        )
    return partner


def _gaps(actual: Any, expected: Any) -> np.ndarray:
    """Differences of all pairs of rows in units of the largest expected value."""
    actual, expected = as_array(actual), as_array(expected)
    actual, expected = (x.reshape(len(x), -1) for x in (actual, expected))
    gaps = np.zeros((len(expected), len(actual)))
    for ours, theirs in zip(actual.T, expected.T, strict=True):
        np.maximum(gaps, np.abs(theirs[:, None] - ours[None]), out=gaps)
    return gaps / max(np.abs(expected).max(initial=0), 1e-30)


def _match(excess: np.ndarray) -> np.ndarray:
    """Pair rows with columns of at most 1 so that as many as possible have a partner, else -1."""
    from scipy.optimize import linear_sum_assignment

    partner = np.full(len(excess), -1)
    rows, columns = linear_sum_assignment(np.minimum(excess, 2.0))
    good = excess[rows, columns] <= 1
    partner[rows[good]] = columns[good]
    return partner
