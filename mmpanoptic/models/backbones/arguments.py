"""Checks of arguments that backbones share."""

from __future__ import annotations

from collections.abc import Sequence


def check_out_indices(owner: str, out_indices: Sequence[int], num_levels: int = 4) -> None:
    """Refuse output indices that do not ascend within the levels of a backbone.

    Args:
        owner (str): Name of the backbone, for the message.
        out_indices (Sequence[int]): The argument.
        num_levels (int): Levels the backbone has.

    Raises:
        ValueError: If there is none, or one is out of range or out of order.
    """
    indices = list(out_indices)
    if not indices or indices != sorted(set(indices) & set(range(num_levels))):
        raise ValueError(
            f"{owner}: out_indices must ascend within 0..{num_levels - 1}, got {indices}"
        )
