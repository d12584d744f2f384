"""Samples that could not be loaded: why, and how many across worker processes."""

from __future__ import annotations

from typing import Any

import torch

from mmpanoptic.utils.archives import is_folder
from mmpanoptic.utils.format_errors import PROBLEM_KINDS, PanopticFormatError, format_error

_KINDS = (None, *PROBLEM_KINDS)


def explain_missing_folder(error: PanopticFormatError, folder: str, hint: str) -> None:
    """Raise an error that says where files come from, if their whole folder is missing.

    Args:
        error (PanopticFormatError): Met when a sample was loaded.
        folder (str): Folder, or zip archive, of derived files.
        hint (str): Where they come from.

    Raises:
        PanopticFormatError: Only if the error is about a missing file of that folder.
    """
    first = error.problems[0]
    if not folder or not first.file or not first.file.startswith(folder) or is_folder(folder):
        return
    detail = f"{first.detail}; there is no folder {folder}: {hint}"
    raise format_error(first.kind, detail, first.file, first.image_id) from error


class DataErrorCounter:
    """Failed draws per sample, in memory that worker processes share with their parent.

    Every sample has a counter of its own, so processes do not get into each other's way.

    Args:
        num_samples (int): Number of samples of the whole annotation file.
    """

    def __init__(self, num_samples: int) -> None:
        self._draws = torch.zeros(num_samples, dtype=torch.int32).share_memory_()
        self._kinds = torch.zeros(num_samples, dtype=torch.int32).share_memory_()

    def record(self, sample_idx: int, kind: str) -> bool:
        """Count a failed draw.

        Args:
            sample_idx (int): Position of the sample in the annotation file.
            kind (str): A key of ``PROBLEM_KINDS``.

        Returns:
            bool: True the first time the sample fails.
        """
        self._kinds[sample_idx] = _KINDS.index(kind)
        self._draws[sample_idx] += 1
        return int(self._draws[sample_idx]) == 1

    @property
    def draws(self) -> torch.Tensor:
        """Failed draws per sample, int32 ``(num_samples,)``, a copy."""
        return self._draws.clone()

    @property
    def kinds(self) -> torch.Tensor:
        """Code of the last problem per sample, int32 ``(num_samples,)``, 0 = none; a copy."""
        return self._kinds.clone()

    @staticmethod
    def names(kinds: torch.Tensor) -> list[str | None]:
        """Translate codes into keys of ``PROBLEM_KINDS``; None where nothing failed.

        Args:
            kinds (torch.Tensor): Codes ``(N,)``.
        """
        return [_KINDS[code] for code in kinds.tolist()]

    def __deepcopy__(self, memo: dict[int, Any]) -> DataErrorCounter:
        """Start a subset of the dataset with counters of its own."""
        return DataErrorCounter(len(self._draws))
