"""Where parity tests find their fixtures, and how they compare with them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import tolerances
from tests.tolerances import Detections

WRITE = "MMPANOPTIC_WRITE_GOLDEN"
DEFAULT_ROOT = Path(__file__).parent / "data" / "golden"


def golden_dir(system: str) -> Path:
    """Folder of one system.

    ``MMPANOPTIC_GOLDEN`` names a folder with one folder per system, or that of a single system;
    without it the fixtures of the repository are taken.
    """
    override = os.environ.get("MMPANOPTIC_GOLDEN")
    if not override:
        return DEFAULT_ROOT / system
    root = Path(override)
    return root if root.name == system else root / system


def golden_files(system: str, pattern: str, but: str | None = None) -> list[Path]:
    """Sorted files (or folders) of a system.

    Of the repository's own fixtures an empty find is an error, not a skipped test. A folder of
    somebody else may hold only some kinds of files: tests without files are shown as skipped.

    Args:
        system: Name of the folder.
        pattern: Glob within it.
        but: Glob of names that are of another kind.

    Raises:
        FileNotFoundError: If nothing matches among the repository's fixtures; a parity test
            without fixtures proves nothing.
    """
    found = sorted(golden_dir(system).glob(pattern))
    found = [path for path in found if but is None or not path.match(but)]
    if not found and not os.environ.get("MMPANOPTIC_GOLDEN"):
        raise FileNotFoundError(f"no golden file matches {golden_dir(system) / pattern}")
    return found


def golden_cases(system: str, pattern: str, but: str | None = None) -> list:
    """The same as parameters of a test, each with the name of its file."""
    return [pytest.param(path, id=path.stem) for path in golden_files(system, pattern, but)]


def layout_file(system: str, name: str) -> Path:
    """A file that describes a published layout: other fixtures of it need not bring it along."""
    path = golden_dir(system) / name
    return path if path.exists() else DEFAULT_ROOT / system / name


class Golden(dict):
    """Arrays of a golden file by key, and what compares results with them.

    Args:
        path: The ``.npz`` file.
        prefix: Only keys that begin with it, without it: one of several cases of a file.
    """

    def __init__(self, path: Path, prefix: str = "") -> None:
        with np.load(path) as data:
            super().__init__(
                (key.removeprefix(prefix), data[key])
                for key in data.files
                if key.startswith(prefix)
            )
        self.path = path
        self.prefix = prefix

    def name(self, key: str) -> str:
        """File and key, for messages."""
        return f"{self.path.name}: {self.prefix}{key}"

    def taken(self, key: str, actual: Any, at: Any = ...) -> bool:
        """Write a result into the file where files are made; who compares otherwise asks first."""
        if os.environ.get(WRITE) != "1":
            return False
        actual = np.asarray(actual.detach() if isinstance(actual, torch.Tensor) else actual)
        made = self[key].copy()
        made = actual.astype(made.dtype) if at is ... else made
        made[at] = actual
        self[key] = made
        with np.load(self.path) as data:
            arrays = {name: data[name] for name in data.files}
        np.savez_compressed(self.path, **{**arrays, self.prefix + key: made})
        return True

    def close(self, quantity: str, key: str, actual: Any, at: Any = ...) -> None:
        """Require that numbers are the golden ones up to rounding, see ``tests.tolerances``.

        Args:
            quantity: Name in the table of measured spreads.
            key: Of the golden numbers.
            actual: Tensor, array or number of the same shape.
            at: Part of the golden numbers that is compared.
        """
        if not self.taken(key, actual, at):
            tolerances.check(quantity, actual, self[key][at], self.name(key))

    def classes(self, quantity: str, key: str, logits: Any) -> None:
        """Require the golden class wherever the logits ``(C, ...)`` do not tie up to rounding."""
        if not self.taken(key, logits.argmax(0)):
            tolerances.check_classes(quantity, logits, self[key], self.name(key))

    def detections(self, quantity: str, keys: Sequence[str], actual: Detections) -> np.ndarray:
        """Require the golden set of boxes, scores and labels, see ``tests.tolerances``.

        Returns:
            np.ndarray: For each golden detection the number of its partner, -1 if it has none.
        """
        taken = [self.taken(key, values) for key, values in zip(keys, actual, strict=False)]
        if all(taken):
            return np.arange(len(actual.scores))
        golden = Detections(*(self[key] for key in keys))
        return tolerances.check_set(quantity, actual, golden, self.name(keys[0]))

    def equal(self, key: str, actual: Any, at: Any = ...) -> None:
        """Require that numbers are exactly the golden ones."""
        if not self.taken(key, actual, at):
            np.testing.assert_array_equal(actual, self[key][at], err_msg=self.name(key))

    def alike(self, key: str, actual: Any, share: float) -> None:
        """Require that at least a share of a map is equal."""
        if self.taken(key, actual):
            return
        actual = np.asarray(actual)
        assert actual.shape == self[key].shape, self.name(key)
        found = float((actual == self[key]).mean())
        assert found >= share, f"{self.name(key)}: {found:.4%} equal, at least {share:.2%} must be"

    def cases(self, key: str) -> list[str]:
        """Names of the cases of a file, each of which stores ``<name>_<key>``."""
        return [name.removesuffix(f"_{key}") for name in self if name.endswith(f"_{key}")]

    def case(self, name: str) -> Golden:
        """One of them."""
        return Golden(self.path, f"{self.prefix}{name}_")
