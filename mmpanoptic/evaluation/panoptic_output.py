"""Predictions as files in COCO-panoptic format."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.structures import LabelTable, find_runs, segment_statistics
from mmpanoptic.utils import atomic_write, write_json
from mmpanoptic.utils.panoptic_png import encode_panoptic_png

from .predictions import Prediction


class PanopticWriter:
    """Write panoptic PNGs in background threads and, at the end, their JSON.

    Every file is written atomically. Segment ids are 1..N in the order of the prediction's
    segments, so equal predictions give equal files. At most twice as many maps as threads wait in
    memory.

    Args:
        prefix: ``a/b`` gives the folder ``a/b.panoptic`` and the file ``a/b.panoptic.json``,
            which panoptic evaluators find together.
        workers (int): Number of threads.
    """

    def __init__(self, prefix: str | os.PathLike[str], workers: int = 2) -> None:
        self.folder = Path(f"{os.fspath(prefix)}.panoptic")
        self.json_file = Path(f"{os.fspath(prefix)}.panoptic.json")
        self._pool: ThreadPoolExecutor | None = None
        self._workers = workers
        self._pending: deque[Future[None]] = deque()

    def add(
        self, prediction: Prediction, image_id: Any, file_name: str, table: LabelTable
    ) -> dict[str, Any]:
        """Write the PNG of one image.

        Args:
            prediction: The image's segments.
            image_id: The dataset's id of the image.
            file_name: Name of the PNG inside the folder.
            table: Gives category ids by label.

        Returns:
            dict: The image's entry for the JSON's ``annotations``.
        """
        ids = prediction.segments.expand()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._workers)
        while len(self._pending) >= 2 * self._workers:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(_write_png, self.folder / file_name, ids))
        info = _segments_info(prediction, ids, table)
        return {"image_id": image_id, "file_name": file_name, "segments_info": info}

    def finish(self) -> None:
        """Wait until all PNGs are on the disk; failures are raised here."""
        while self._pending:
            self._pending.popleft().result()
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def write_json(self, annotations: Sequence[Mapping[str, Any]], table: LabelTable) -> None:
        """Write the JSON.

        Args:
            annotations: Entries that :meth:`add` returned, of all processes, in order.
            table: The dataset's classes.

        Raises:
            ValueError: If two images have one file name, so that one PNG replaced the other.
        """
        names = Counter(annotation["file_name"] for annotation in annotations)
        double = sorted(name for name, count in names.items() if count > 1)[:5]
        if double:
            raise ValueError(
                f"several images are named {', '.join(double)}; their PNGs in {self.folder} have "
                "overwritten each other, so predictions cannot be written in one folder"
            )
        content = {"annotations": list(annotations), "categories": table.to_categories()}
        write_json(self.json_file, content)


def _write_png(path: Path, ids: np.ndarray) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(encode_panoptic_png(ids))


def _segments_info(
    prediction: Prediction, ids: np.ndarray, table: LabelTable
) -> list[dict[str, Any]]:
    runs = find_runs(ids)
    area, box = segment_statistics(runs.value.astype(np.int64) - 1, runs, len(prediction.scores))
    info = []
    for k, score in enumerate(prediction.scores):
        label = table[int(prediction.segments.category[k + 1])]
        segment = {
            "id": k + 1,
            "category_id": label.dataset_id,
            "isthing": int(label.isthing),
            "area": int(area[k]),
            "bbox": box[k].tolist(),
        }
        if score is not None:
            segment["score"] = score
        info.append(segment)
    return info
