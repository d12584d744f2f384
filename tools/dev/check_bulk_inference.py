#!/usr/bin/env python
"""Segment very many small images with two processes that are killed again and again.

The images are generated and the head is trivial (bright pixels are things), so that the list, the
shards and their files are what is tried. Checks that each image is there exactly once and that the
memory of the processes does not grow.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from mmpanoptic import cli
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils.format_errors import PanopticFormatError, format_error
from mmpanoptic.utils.panoptic_png import decode_panoptic_png

if TYPE_CHECKING:
    from mmpanoptic.apis.bulk_inference import BulkRun, Worker
    from mmpanoptic.apis.inferencer import ImageSource
    from mmpanoptic.apis.panoptic_result import PanopticResult

EXAMPLES = """
  %(prog)s --images 100000 --kills 5
"""
TABLE = LabelTable.from_categories(
    [{"id": 7, "name": "bright", "isthing": 1}, {"id": 9, "name": "dark", "isthing": 0}]
)
SIZE = 16
"""Height and width of an image, pixels."""
FILES_A_FOLDER = 1000


class BrightnessSegmenter:
    """Call bright pixels one thing and the others stuff.

    Attributes:
        table (LabelTable): The two classes.
    """

    table = TABLE

    def iterate_sources(
        self,
        sources: Iterable[ImageSource],
        batch_size: int,
        leave_out: Callable[[ImageSource, PanopticFormatError], None],
    ) -> Iterator[PanopticResult]:
        """Segment images one by one."""
        import cv2

        for source in sources:
            image = cv2.imread(str(source.path), cv2.IMREAD_GRAYSCALE)
            if image is None:
                leave_out(source, format_error("corrupt_image", "no image", source.path))
                continue
            yield self.segment(source, image)

    def segment(self, source: ImageSource, image: np.ndarray) -> PanopticResult:
        """Segment one image."""
        from mmpanoptic.apis.panoptic_result import PanopticResult

        ids = np.where(image > 127, 1, 2).astype(np.int32)
        segments = [
            {
                "id": number,
                "category_id": label.dataset_id,
                "label": label.index,
                "name": label.name,
                "isthing": label.isthing,
                "score": 1.0,
                "area": int((ids == number).sum()),
                "bbox": [0, 0, *ids.shape[::-1]],
            }
            for number, label in enumerate(TABLE, 1)
        ]
        return PanopticResult(source.name, ids, segments, self.table, source.path)


def brightness(position: int) -> np.ndarray:
    """Draw the image of a position: its number in bits, so that no two are alike."""
    bits = [(position >> bit) & 1 for bit in range(SIZE)]
    return np.repeat(np.array([bits], np.uint8) * 255, SIZE, 0)


def make_images(folder: Path, count: int) -> Path:
    """Write images and their list.

    Every 997th is no image, every 991st is not there.

    Args:
        folder (Path): Gets them.
        count (int): How many.

    Returns:
        Path: The list.
    """
    import cv2

    lines = []
    for position in range(count):
        path = folder / f"{position // FILES_A_FOLDER:04d}" / f"{position}.png"
        if position % FILES_A_FOLDER == 0:
            path.parent.mkdir(parents=True)
        lines.append(str(path))
        if is_wrong(position) == "absent":
            continue
        data = cv2.imencode(".png", brightness(position))[1].tobytes()
        path.write_bytes(b"?" if is_wrong(position) else data)
    listed = folder / "list.txt"
    listed.write_text("\n".join(lines) + "\n")
    return listed


def is_wrong(position: int) -> str | None:
    """Say what is wrong with the image of a position."""
    if position % 997 == 996:
        return "damaged"
    return "absent" if position % 991 == 990 else None


def private_memory() -> int:
    """Measure the memory of this process that is its own, in bytes; mapped files are left out."""
    resident, shared = map(int, Path("/proc/self/statm").read_text().split()[1:3])
    return (resident - shared) * os.sysconf("SC_PAGESIZE")


def work(run: BulkRun, worker: Worker, growth: Any) -> None:
    """Do the shards of a worker; note by how much its memory grows after the first one."""
    from mmpanoptic.apis.bulk_inference import segment_shards

    first = None
    for _ in segment_shards(BrightnessSegmenter(), run, worker):
        now = private_memory()
        first = now if first is None else first
        growth[worker.rank] = max(growth[worker.rank], now - first)


def run_killed(run: BulkRun, kills: int, seed: int) -> tuple[int, float]:
    """Let two processes work; end one of them by -9, at random moments, and start it again.

    Args:
        run (BulkRun): The work.
        kills (int): How often.
        seed (int): Of the moments: when a random number of shards is done, and a little later.

    Returns:
        tuple[int, float]: How often a process was really killed at work, and the largest growth of
        a process's memory between its first and its last shard in bytes.
    """
    from mmpanoptic.apis.bulk_inference import Worker

    context = multiprocessing.get_context("fork")
    growth = context.Array("q", 2, lock=False)
    rng = np.random.default_rng(seed)
    moments = sorted(rng.permutation(run.num_shards - 1)[:kills].tolist())
    processes = {}
    killed = 0

    def start(rank: int) -> None:
        processes[rank] = context.Process(target=work, args=(run, Worker(rank, 2), growth))
        processes[rank].start()

    start(0)
    start(1)
    for moment in moments:
        while run.count_done() <= moment and any(p.is_alive() for p in processes.values()):
            time.sleep(0.001)
        time.sleep(rng.random() * 0.02)
        rank = int(rng.integers(2))
        process = processes[rank]
        if process.is_alive():
            os.kill(process.pid or 0, signal.SIGKILL)
            killed += 1
        process.join()
        start(rank)
    for process in processes.values():
        process.join()
        if process.exitcode:
            raise cli.Failure(f"a process ended with status {process.exitcode}")
    return killed, max(growth)


def check_results(run: BulkRun, count: int) -> dict[str, int]:
    """Read all shards.

    Args:
        run (BulkRun): The work.
        count (int): Images.

    Returns:
        dict[str, int]: How many images are done, damaged and absent.

    Raises:
        Failure: If an image is missing, there twice, or has the map of another one.
    """
    seen = {"done": 0, "damaged": 0, "absent": 0}
    position = 0
    for shard in range(run.num_shards):
        lines = (run.folder / "segments" / f"{shard:06d}.jsonl").read_text().splitlines()
        with tarfile.open(run.folder / "panoptic" / f"{shard:06d}.tar") as archive:
            maps = {m.name: archive.extractfile(m) for m in archive.getmembers()}
            for row in map(json.loads, lines):
                if row["position"] != position:
                    raise cli.Failure(f"image {row['position']} in the place of {position}")
                kind = is_wrong(position) or "done"
                if (kind == "done") == ("error" in row):
                    raise cli.Failure(f"image {position} is {kind}: {row}")
                if kind == "done":
                    compare(maps.pop(row["file_name"]), position)
                seen[kind] += 1
                position += 1
            if maps:
                raise cli.Failure(f"shard {shard} has maps without a row: {sorted(maps)[:5]}")
    if position != count:
        raise cli.Failure(f"{position} of {count} images are there")
    return seen


def compare(file: IO[bytes] | None, position: int) -> None:
    """Compare a label map with the image of its position."""
    if file is None:
        raise cli.Failure(f"the map of image {position} is no file")
    expected = np.where(brightness(position) > 127, 1, 2)
    if not np.array_equal(decode_panoptic_png(file.read(), "map"), expected):
        raise cli.Failure(f"image {position} has the map of another one")


def build_parser() -> cli.Parser:
    """Say what the script takes."""
    parser = cli.Parser(__doc__, EXAMPLES, timed=True)
    parser.add("--images", type=cli.at_least(4), default=100_000, help="default: %(default)s")
    parser.add("--shard-size", type=cli.at_least(1), default=1000, help="default: %(default)s")
    parser.add("--kills", type=cli.at_least(0), default=5, help="default: %(default)s")
    parser.add("--seed", type=int, default=0, help="of the moments of the kills")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Generate, segment under kills, check."""
    from mmpanoptic.apis.bulk_inference import start_run, write_index

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listed = make_images(folder / "images", args.images)
        yield f"{args.images} images of {SIZE} x {SIZE} pixels made"
        model = {"head": "brightness"}
        work_of_all = start_run(listed, folder / "out", TABLE, model, args.shard_size)
        if args.kills >= work_of_all.num_shards:
            raise cli.UsageError(f"--kills must be less than the {work_of_all.num_shards} shards")
        killed, growth = run_killed(work_of_all, args.kills, args.seed)
        yield f"killed {killed} times; memory grew by {growth / 2**20:.1f} MiB at most"
        seen = check_results(work_of_all, args.images)
        index = write_index(work_of_all)
        if index is None or index["images"] != seen["done"]:
            raise cli.Failure(f"the index is wrong: {index}")
        found = ", ".join(f"{count} {kind}" for kind, count in seen.items())
        yield f"{found}; none lost, none twice"


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
