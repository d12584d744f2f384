"""Keep what parity tests compare, so that the spread of rounding can be measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests import tolerances


class Compared(NamedTuple):
    """One comparison of a test."""

    test: str
    place: str  # file and key, and which comparison of the test it is
    quantity: str
    actual: np.ndarray
    expected: np.ndarray


@contextmanager
def of(test: str, folder: Path | None) -> Iterator[None]:
    """Write what a test compares into a folder, instead of comparing it; None: leave it alone."""
    if folder is None:
        yield
        return
    kept: list[Compared] = []

    def keep(quantity: str, actual: np.ndarray, expected: np.ndarray, where: str) -> None:
        place = f"{where} #{len(kept)}"
        kept.append(Compared(test, place, quantity, actual.copy(), expected))

    tolerances.listener = keep
    try:
        yield
    finally:
        tolerances.listener = None
    if kept:
        save(folder, kept)


def save(folder: Path, kept: list[Compared]) -> None:
    """Write the comparisons of one test."""
    arrays: dict[str, Any] = {"names": json.dumps([one[:3] for one in kept])}
    for number, one in enumerate(kept):
        arrays[f"actual{number}"], arrays[f"expected{number}"] = one.actual, one.expected
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / hashlib.sha256(kept[0].test.encode()).hexdigest()[:20], **arrays)


def load(folder: Path) -> Iterator[Compared]:
    """Read what :func:`of` wrote."""
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as data:
            for number, names in enumerate(json.loads(str(data["names"]))):
                yield Compared(*names, data[f"actual{number}"], data[f"expected{number}"])
