"""Which dimensions test-time augmentation mirrors."""

from __future__ import annotations

from typing import Any

FLIPS: dict[str | None, tuple[int, ...]] = {
    None: (),
    "horizontal": (-1,),
    "vertical": (-2,),
    "diagonal": (-2, -1),
}
"""Mirrored dimensions of ``(..., H, W)`` by the ``flip_direction`` of a sample."""


def flipped_dims(meta: Any) -> tuple[int, ...]:
    """Read from a sample's metainfo which dimensions were mirrored.

    Raises:
        ValueError: If the direction is unknown.
    """
    direction = meta.get("flip_direction") if meta.get("flip") else None
    if direction not in FLIPS:
        raise ValueError(
            f"unknown flip_direction {direction!r}; known: {', '.join(map(str, FLIPS))}"
        )
    return FLIPS[direction]
