"""A panoptic dataset whose images and PNGs lie in tar shards, here or on a server."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log

from mmpanoptic.registry import DATASETS
from mmpanoptic.utils.format_errors import format_error

from .panoptic_dataset import PanopticDataset
from .shard_store import ShardStore, check_local, fetch_annotations, is_address, read_shards


@DATASETS.register_module()
class ShardedPanopticDataset(PanopticDataset):
    """Images and PNGs in the shards that ``tools/dataset_converters/shard.py`` writes.

    Its samples are those of :class:`PanopticDataset`; what differs is where they are read from and
    the order of a shuffled pass (:meth:`draw_order`), which goes from shard to shard. A sample has
    a number as ever, so that seeds, the division among processes and exact resume are the same.

    Differences from the original (the ``webdataset`` library, whose layout the shards have and
    whose reader reads them): that reader is a stream, in which a resumed run cannot go to its
    place; here a member is read by its position in the archive.

    Args:
        ann_file (str): The JSON beside the shards, below ``data_root``.
        data_root (str): Folder of the shards, or its address on a server, such as
            ``https://host/coco/train`` or ``s3://bucket/coco/train``, which needs the extra
            ``shards`` (and the ``fsspec`` package of that kind of storage).
        window (int): Shards between which a shuffled pass mixes images at a time; each worker has
            at most so many open, and so many have to lie in the cache.
        cache_dir (str | None): Folder for shards of a server; None takes one below
            ``MMPANOPTIC_HOME``. Processes of a machine share it.
        cache_size (int): Gigabytes (10^9 bytes) that it may take; those used last stay.
        **kwargs: Of :class:`PanopticDataset`.

    Raises:
        PanopticFormatError: If the JSON lists no shards, or one is missing or cut off.
        ValueError: If the cache cannot hold two windows.
    """

    ANN_FILE_HINT = "tools/dataset_converters/shard.py makes it, with the shards beside it"

    def __init__(
        self,
        ann_file: str = "panoptic.json",
        *,
        data_root: str = "",
        window: int = 4,
        cache_dir: str | None = None,
        cache_size: int = 100,
        **kwargs: Any,
    ) -> None:
        if window < 1:
            raise ValueError(f"window must be at least 1, got {window}")
        self.window = window
        self.store: ShardStore | None = None
        if is_address(data_root):
            self.store = ShardStore(data_root, cache_dir, cache_size * 10**9)
            fetch_annotations(data_root, cache_dir, ann_file)
            data_root = str(self.store.folder)
        elif cache_dir is not None:
            raise ValueError(f"cache_dir has no use: {data_root or 'data_root'} is on no server")
        super().__init__(ann_file, data_root=data_root, **kwargs)

    def load_data_list(self) -> Sequence[dict[str, Any]]:
        """Read and check the JSON, and compare its list of shards with the files.

        Returns:
            Sequence[dict]: See :meth:`PanopticDataset.load_data_list`.
        """
        self.shards = read_shards(self.ann_file)
        if self.store is None:
            check_local(self.data_prefix["img"], self.shards)
        else:
            self._check_cache(self.store)
        records = super().load_data_list()
        listed = sum(shard.samples for shard in self.shards)
        if listed != len(records):
            detail = f"shards have {listed} images, the JSON {len(records)} annotations"
            raise format_error("damaged_shard", detail, self.ann_file)
        return records

    def _check_cache(self, store: ShardStore) -> None:
        """Refuse a cache in which processes would take each other's shards away."""
        needed = 2 * self.window * max(shard.bytes for shard in self.shards)
        if needed > store.limit:
            raise ValueError(
                f"cache_size of {store.limit / 1e9:.0f} GB is too small: twice a window of "
                f"{self.window} shards takes {needed / 1e9:.1f} GB"
            )
        total = sum(shard.bytes for shard in self.shards)
        if total > store.limit:
            text = (
                f"{self.ann_file}: the shards take {total / 1e9:.0f} GB, the cache holds "
                f"{store.limit / 1e9:.0f} GB: each pass fetches what does not stay"
            )
            print_log(text, "current", logging.WARNING)

    def full_init(self) -> None:
        """Read the JSON, once; see :meth:`load_data_list`."""
        super().full_init()
        if not hasattr(self, "_shard_numbers"):
            self._shard_numbers = self._find_shards()

    def _find_shards(self) -> np.ndarray:
        """Return the shard of each sample ``(N,)``, also of those that filters have left."""
        places = np.arange(len(self))
        if len(self) < self.num_annotated:  # else a million records would be decoded for nothing
            found = [self.get_data_info(i)["sample_idx"] for i in range(len(self))]
            places = np.array(found) - self.first_position
        ends = np.cumsum([shard.samples for shard in self.shards])
        return np.searchsorted(ends, places, side="right")

    def draw_order(self, generator: torch.Generator) -> list[int]:
        """Draw the order of a pass: shards are mixed, then the images of each window of them.

        Args:
            generator (torch.Generator): Decides everything.

        Returns:
            list[int]: Each position once.
        """
        numbers = torch.from_numpy(self._shard_numbers)
        present = torch.unique(numbers)
        drawn = present[torch.randperm(len(present), generator=generator)]
        rank = torch.empty(len(self.shards), dtype=torch.int64)
        rank[drawn] = torch.arange(len(drawn)) // self.window
        mixed = torch.randperm(len(numbers), generator=generator)
        return mixed[torch.argsort(rank[numbers[mixed]], stable=True)].tolist()

    def pipeline_input(self, idx: int) -> dict[str, Any]:
        """Return the annotation of an image, whose shard is here then.

        Args:
            idx (int): Position in this dataset.

        Returns:
            dict: See :meth:`PanopticDataset.pipeline_input`.
        """
        if self.store is not None:
            self.store.fetch(self.shards[int(self._shard_numbers[idx])])
        return super().pipeline_input(idx)
