"""Batches of images of one orientation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import BatchSampler, Sampler

from mmpanoptic.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class AspectRatioBatchSampler(BatchSampler):
    """Put images that are wider than high and all others into different batches.

    Differences from the original (``mmdet.AspectRatioBatchSampler``): :meth:`set_position` exists,
    so that a resumed run goes on with the batch at which it stopped without loading those before;
    the sizes of an image are looked up once.

    Args:
        sampler (Sampler): Draws positions of the dataset; it must have the dataset as ``dataset``.
        batch_size (int): Images per batch.
        drop_last (bool): Leave out what does not fill a batch at the end of a finite sampler;
            otherwise the rest forms batches of both orientations.

    Raises:
        ValueError: If the batch size is not positive, or the sampler does not know its dataset.
    """

    def __init__(self, sampler: Sampler, batch_size: int, drop_last: bool = False) -> None:
        super().__init__(sampler, batch_size, drop_last)
        if not hasattr(sampler, "dataset"):
            raise ValueError(
                f"AspectRatioBatchSampler asks sampler.dataset for the sizes of images, but "
                f"{type(sampler).__name__} has none; take InfiniteSeededSampler or SeededSampler"
            )
        self.dataset: Any = sampler.dataset
        self.position = 0
        self._wide: dict[int, bool] = {}

    def set_position(self, num_samples: int) -> None:
        """Let the following iterations start behind samples already used; 0 takes it back.

        Args:
            num_samples (int): Samples that this process has used, a multiple of ``batch_size``.
        """
        self.position = num_samples // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        groups: dict[bool, list[int]] = {False: [], True: []}
        done = 0
        for index in self.sampler:
            group = groups[self._is_wide(index)]
            group.append(index)
            if len(group) == self.batch_size:
                done += 1
                if done > self.position:
                    yield list(group)
                group.clear()
        rest = groups[False] + groups[True]
        while rest and (len(rest) >= self.batch_size or not self.drop_last):
            done += 1
            if done > self.position:
                yield rest[: self.batch_size]
            rest = rest[self.batch_size :]

    def _is_wide(self, index: int) -> bool:
        position = int(index)
        if position not in self._wide:
            info = self.dataset.get_data_info(position)
            self._wide[position] = info["width"] >= info["height"]
        return self._wide[position]
