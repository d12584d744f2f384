"""What the data of a run are told: its seed, and their place among other datasets."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, MutableMapping
from typing import Any

from torch.utils.data import DataLoader

from mmpanoptic.registry import DATASETS


def give_seed(dataset: Any, seed: int) -> None:
    """Set ``seed`` in the config of every dataset that takes one and has none.

    Args:
        dataset: Config of a dataset, or of a wrapper with ``dataset`` or ``datasets``; changed in
            place. Built datasets are left alone.
        seed (int): The run's seed.
    """
    if isinstance(dataset, list | tuple):
        for part in dataset:
            give_seed(part, seed)
    if not isinstance(dataset, MutableMapping):
        return
    kind = dataset.get("type")
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    if inspect.isclass(kind) and _takes_seed(kind):
        dataset.setdefault("seed", seed)
    for key in ("dataset", "datasets"):
        give_seed(dataset.get(key), seed)


def change_seed(loader: DataLoader, old: int, new: int) -> None:
    """Replace the run's seed in a built data loader, as a resume from another seed needs.

    Args:
        loader (DataLoader): The loader; parts with another seed than ``old`` keep theirs.
        old (int): Seed with which the loader was built.
        new (int): Seed of the run that goes on.
    """
    batch_sampler = loader.batch_sampler
    samplers = (loader.sampler, batch_sampler, getattr(batch_sampler, "sampler", None))
    for part in (*samplers, *_datasets(loader.dataset)):
        if getattr(part, "seed", None) == old:
            part.seed = new


def give_positions(dataset: Any) -> None:
    """Number the images of concatenated datasets through, for metrics.

    Each panoptic dataset counts its images by itself, so those of several would be taken for the
    same ones. The meta information of the concatenation gets ``cumulative_sizes``, as mmdet's has,
    and ``first_positions``. Data of training stay.

    Args:
        dataset: A built dataset, or a wrapper around some.
    """
    _number(dataset, 0)


def _number(dataset: Any, first: int) -> int:
    """Number from ``first`` on; return the number behind the last one."""
    parts = getattr(dataset, "datasets", None)
    if isinstance(parts, list | tuple):
        starts = []
        for part in parts:
            starts.append(first)
            first = _number(part, first)
        meta = getattr(dataset, "_metainfo", None)
        evaluated = starts and first > starts[0]
        if evaluated and isinstance(meta, dict) and hasattr(dataset, "cumulative_sizes"):
            meta["cumulative_sizes"] = list(dataset.cumulative_sizes)
            meta["first_positions"] = starts
        return first
    inner = getattr(dataset, "dataset", None)
    if inner is not None:
        return _number(inner, first)
    if getattr(dataset, "test_mode", False) and hasattr(dataset, "first_position"):
        dataset.full_init()
        dataset.first_position = first
        return first + dataset.num_annotated
    return first


def _datasets(dataset: Any) -> Iterator[Any]:
    """Walk through a dataset and those it wraps."""
    yield dataset
    inner = getattr(dataset, "dataset", None)
    for part in [inner] if inner is not None else getattr(dataset, "datasets", None) or []:
        yield from _datasets(part)


def _takes_seed(kind: type) -> bool:
    return any(
        "seed" in inspect.signature(vars(base)["__init__"]).parameters
        for base in kind.__mro__
        if "__init__" in vars(base) and base is not object
    )
