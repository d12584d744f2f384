"""Conversion of published weights to checkpoints of ours, and back."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .foreign_weights import read_foreign_weights, take_normalisation
from .key_map import KeyMap
from .loading import PathLike, load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Attributes:
        out (Path): The file that was written.
        placed (int): Tensors in it.
        zeroed (int): Batch counters that the source lacks; they became 0.
        dropped (list[str]): Names of the source that have no place in the result.
    """

    out: Path
    placed: int
    zeroed: int
    dropped: list[str]

    def report(self) -> str:
        """Describe the conversion in a few lines."""
        lines = [f"{self.placed} tensors written to {self.out}"]
        if self.zeroed:
            lines.append(f"{self.zeroed} of them are batch counters that were absent and are 0 now")
        lines.append(f"{len(self.dropped)} tensors deliberately dropped")
        return "\n".join([*lines, *(f"  {name}" for name in self.dropped)])


def convert_published(
    source: PathLike,
    out: PathLike,
    key_map: KeyMap,
    normalisation: tuple[Sequence[float], Sequence[float]] | None = None,
    dataset_meta: Callable[[], dict[str, Any]] | None = None,
    drop: Sequence[str] = (),
    new_classes: bool = False,
    initial: bool = False,
    meta: dict[str, Any] | None = None,
) -> Conversion:
    """Convert published weights; every tensor is placed, or dropped and listed.

    Args:
        source: See :func:`read_foreign_weights`.
        out: The file to write.
        key_map (KeyMap): The system's map of names, for the model.
        normalisation (tuple | None): Mean and std of the model's input. If the file holds some,
            they must be equal.
        dataset_meta (Callable | None): Gives the label table that a complete model is saved with.
        drop (Sequence[str]): Regular expressions of names to drop.
        new_classes (bool): The model's classes are others: leave out what depends on them.
        initial (bool): The weights start a training, see :meth:`KeyMap.place`.
        meta (dict | None): What else the file says of itself.

    Returns:
        Conversion: What was done.

    Raises:
        CheckpointError: If the source cannot be read.
        CheckpointMismatchError: If tensors are missing, unexpected or of another shape, or the
            checkpoint was trained with another input normalisation.
    """
    state = read_foreign_weights(source)
    taken = take_normalisation(state, *normalisation) if normalisation else []
    placement = key_map.place(state, drop, new_classes, initial)
    is_complete = placement.tensors.keys() == key_map.shapes.keys()
    meta = {"converted": os.fspath(source), **(meta or {})}
    if dataset_meta and is_complete:
        meta["dataset_meta"] = dataset_meta()
    # A tensor that is a view would be saved with all of its storage.
    weights = {name: torch.as_tensor(v).clone() for name, v in placement.tensors.items()}
    save_checkpoint({"meta": meta, "state_dict": weights}, out)
    dropped = sorted([*taken, *placement.dropped])
    return Conversion(Path(out), len(weights), placement.zeroed, dropped)


def restore_published(source: PathLike, out: PathLike, key_map: KeyMap) -> Conversion:
    """Convert one of our checkpoints to the published naming.

    Args:
        source: A checkpoint of ours.
        out: The file to write, as detectron2 loads it (``.pth``, tensors under ``model``).
        key_map (KeyMap): The system's map of names, for the model.

    Returns:
        Conversion: What was done.

    Raises:
        CheckpointError: If the source cannot be read.
        CheckpointMismatchError: If it is not a checkpoint of the model.
    """
    content = load_checkpoint(source)
    theirs = key_map.to_published(content.get("state_dict", content))
    save_checkpoint({"model": theirs, "__author__": "mmpanoptic"}, out)
    return Conversion(Path(out), len(theirs), 0, [])
