"""Confusion matrices of single images, small enough to keep and to send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class SparseCounts:
    """The entries of a confusion matrix that are not zero.

    An image shows few of 150 classes, and records of thousands of images wait for the gathering.

    Attributes:
        position (np.ndarray): int64 ``(K,)``, flat index.
        count (np.ndarray): int64 ``(K,)``.
    """

    position: np.ndarray
    count: np.ndarray

    @classmethod
    def from_dense(cls, matrix: np.ndarray) -> SparseCounts:
        """Keep what is not zero."""
        position = np.flatnonzero(matrix)
        return cls(position, matrix.ravel()[position])


def add_counts(parts: Sequence[SparseCounts], shape: tuple[int, int]) -> np.ndarray:
    """Add confusion matrices.

    Args:
        parts (Sequence[SparseCounts]): One per image.
        shape (tuple[int, int]): Of the matrix.

    Returns:
        np.ndarray: int64 matrix.
    """
    total = np.zeros(shape, np.int64)
    flat = total.reshape(-1)
    for part in parts:
        flat[part.position] += part.count  # positions are unique inside a part
    return total
