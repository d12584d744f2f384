"""Segment a list of very many images with many processes, of which any may be killed.

The list is cut into shards, stretches of lines. A shard is written to temporary files, renamed, and
counts when its mark is there: each image is done exactly once, and a process that starts again
redoes at most the shard that it was in. No process needs another one: shard ``k`` is the work of
worker ``k mod WORLD``, so torchrun, a Slurm array, or commands started by hand do.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch

from mmpanoptic.structures import LabelTable
from mmpanoptic.utils import atomic_write, read_json, write_json
from mmpanoptic.utils.format_errors import PanopticFormatError
from mmpanoptic.utils.panoptic_png import encode_panoptic_png

from .inferencer import ImageSource, PanopticInferencer
from .panoptic_result import PanopticResult

FORMATS = ("tar", "png")
"""Where label maps go: one tar per shard, or a file per image in a folder per shard."""
FORMAT = "mmpanoptic bulk results 1"


class Segmenter(Protocol):
    """What :class:`~mmpanoptic.apis.PanopticInferencer` does of this."""

    table: LabelTable

    def iterate_sources(
        self,
        sources: Iterator[ImageSource],
        batch_size: int,
        leave_out: Callable[[ImageSource, PanopticFormatError], None],
    ) -> Iterator[PanopticResult]:
        """Segment images."""


@dataclass(frozen=True)
class Worker:
    """One of the processes that share the work.

    Attributes:
        rank (int): Number of this one, from 0.
        world (int): How many there are.
    """

    rank: int = 0
    world: int = 1

    @classmethod
    def of_environment(cls, variables: Mapping[str, str] | None = None) -> Worker:
        """Read what torchrun or Slurm says.

        A Slurm array multiplies the tasks of a job: worker = place in the array x tasks + task.

        Args:
            variables (Mapping | None): In place of the environment.
        """
        found = os.environ if variables is None else variables
        rank, world = int(found.get("RANK", 0)), int(found.get("WORLD_SIZE", 1))
        if "RANK" not in found and "SLURM_PROCID" in found:
            rank, world = int(found["SLURM_PROCID"]), int(found.get("SLURM_NTASKS", 1))
        if "SLURM_ARRAY_TASK_ID" not in found:
            return cls(rank, world)
        first = int(found.get("SLURM_ARRAY_TASK_MIN", 0))
        step = int(found.get("SLURM_ARRAY_TASK_STEP", 1))
        place = (int(found["SLURM_ARRAY_TASK_ID"]) - first) // step
        return cls(place * world + rank, int(found["SLURM_ARRAY_TASK_COUNT"]) * world)


@dataclass(frozen=True)
class BulkRun:
    """The whole work: what every worker of it has to agree on.

    Attributes:
        list_file (Path): Text file with the path of one image per line.
        folder (Path): Where results go.
        model (dict): Fingerprints of what decides the results, by name.
        shard_size (int): Images of a shard.
        form (str): One of :data:`FORMATS`.
        num_images (int): Lines of the list.
    """

    list_file: Path
    folder: Path
    model: dict[str, str]
    shard_size: int
    form: str
    num_images: int

    @property
    def num_shards(self) -> int:
        """Number of shards; the last one may be smaller."""
        return -(-self.num_images // self.shard_size)

    def mark(self, shard: int) -> Path:
        """Return the file that says that a shard is done."""
        return self.folder / "done" / f"{shard:06d}.json"

    def count_done(self) -> int:
        """Count the shards that are done, of all workers."""
        marks = self.folder / "done"
        if not marks.is_dir():
            return 0
        return sum(entry.name[0] != "." for entry in os.scandir(marks))


def local_device() -> str | None:
    """Name the GPU of this process where torchrun or Slurm starts several on one machine."""
    number = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID"))
    if number is None or not torch.cuda.is_available():
        return None
    return f"cuda:{int(number) % torch.cuda.device_count()}"


def model_fingerprint(inferencer: PanopticInferencer) -> dict[str, str]:
    """Hash what decides an inferencer's results: its config, its weights, its threshold."""
    config = json.dumps(inferencer.model.cfg.to_dict(), sort_keys=True, default=str)
    weights = hashlib.sha256()
    for name, value in inferencer.model.state_dict().items():
        weights.update(name.encode())
        weights.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return {
        "config": hashlib.sha256(config.encode()).hexdigest(),
        "weights": weights.hexdigest(),
        "score_thr": repr(inferencer.score_thr),
    }


def start_run(
    list_file: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    table: LabelTable,
    model: Mapping[str, str],
    shard_size: int = 1000,
    form: str = "tar",
) -> BulkRun:
    """Begin a run, or go on with the one that the folder holds.

    Args:
        list_file: Text file with the path of one image per line.
        folder: Where results go.
        table (LabelTable): The classes.
        model (Mapping[str, str]): Fingerprints of what decides the results, by name.
        shard_size (int): Images of a shard.
        form (str): One of :data:`FORMATS`.

    Returns:
        BulkRun: The run.

    Raises:
        ValueError: If the list is empty, or the folder holds another run; naming what differs.
    """
    if form not in FORMATS:
        raise ValueError(f"the format must be one of {', '.join(FORMATS)}, got {form!r}")
    count, digest = _scan(Path(list_file))
    if not count:
        raise ValueError(f"{list_file} names no image; it needs the path of one image per line")
    run = BulkRun(Path(list_file), Path(folder), dict(model), shard_size, form, count)
    content = {
        "format": FORMAT,
        "list": digest,
        "images": count,
        "shard_size": shard_size,
        "form": form,
        "model": run.model,
        "categories": table.to_categories(),
    }
    path = run.folder / "run.json"
    if path.is_file():
        found = read_json(path)
        differing = [key for key in content if found.get(key) != content[key]]
        if differing:
            raise ValueError(
                f"{path} is of another run: {', '.join(differing)} differ; give another folder, "
                "or the arguments of that run to go on with it"
            )
    else:
        write_json(path, content, indent=1)
    return run


def _scan(path: Path) -> tuple[int, str]:
    """Count the lines of a file and hash them, without holding them."""
    digest, count = hashlib.sha256(), 0
    with path.open("rb") as file:
        for line in file:
            digest.update(line)
            count += 1
    return count, digest.hexdigest()


@dataclass(frozen=True)
class ShardReport:
    """What became of one shard.

    Attributes:
        shard (int): Its number.
        images (int): Images with a result.
        left_out (int): Images that could not be read.
        seconds (float): What it took.
    """

    shard: int
    images: int
    left_out: int
    seconds: float


def segment_shards(
    segmenter: Segmenter, run: BulkRun, worker: Worker, batch_size: int = 1
) -> Iterator[ShardReport]:
    """Do the shards of a worker that are not done yet.

    Args:
        segmenter (Segmenter): A :class:`~mmpanoptic.apis.PanopticInferencer`.
        run (BulkRun): From :func:`start_run`.
        worker (Worker): This process.
        batch_size (int): Images at once.

    Yields:
        ShardReport: Of each shard, when its files are written.
    """
    with run.list_file.open(encoding="utf-8", errors="surrogateescape") as file:
        for shard in range(run.num_shards):
            if shard % worker.world != worker.rank or run.mark(shard).is_file():
                for _ in islice(file, run.shard_size):
                    pass
                continue
            start = time.perf_counter()
            _remove_leftovers(run, shard)
            paths = [line.rstrip("\r\n") for line in islice(file, run.shard_size)]
            rows = _write_maps(segmenter, run, shard, paths, batch_size)
            report = _finish(run, shard, rows)
            yield replace(report, seconds=time.perf_counter() - start)


def _remove_leftovers(run: BulkRun, shard: int) -> None:
    """Remove the temporary files of a process that was killed in this shard."""
    for folder in ("panoptic", "segments", "done"):
        for path in (run.folder / folder).glob(f".{shard:06d}.*"):
            path.unlink()
    for path in (run.folder / "panoptic" / f"{shard:06d}").glob(".*"):
        path.unlink()


def _write_maps(
    segmenter: Segmenter, run: BulkRun, shard: int, paths: list[str], batch_size: int
) -> list[dict[str, Any]]:
    """Write the label maps of a shard; return one row per image in the order of the list."""
    first = shard * run.shard_size
    rows = [{"position": first + i, "path": _text(path)} for i, path in enumerate(paths)]

    def leave_out(source: ImageSource, error: Exception) -> None:
        rows[int(source.name) - first]["error"] = str(error)

    def sources() -> Iterator[ImageSource]:
        for row, path in zip(rows, paths, strict=True):
            source = ImageSource(f"{row['position']:09d}", path)
            if os.path.isfile(path):
                yield source
            else:
                leave_out(source, FileNotFoundError(f"there is no file {_text(path)!r}"))

    results = segmenter.iterate_sources(sources(), batch_size, leave_out)
    encoded = (_encode(result, rows[int(result.name) - first]) for result in results)
    if run.form == "png":
        for name, data in encoded:
            with atomic_write(run.folder / "panoptic" / f"{shard:06d}" / name) as temporary:
                temporary.write_bytes(data)
        return rows
    with (
        atomic_write(run.folder / "panoptic" / f"{shard:06d}.tar") as temporary,
        tarfile.open(temporary, "w") as archive,
    ):
        for name, data in encoded:
            member = tarfile.TarInfo(name)  # no owner, no time: equal results are equal files
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return rows


def _encode(result: PanopticResult, row: dict[str, Any]) -> tuple[str, bytes]:
    """Encode a label map and complete the row of its image."""
    name = f"{result.name}.png"
    height, width = result.panoptic_seg.shape
    row.update(height=height, width=width, **result.to_coco(row["position"], name))
    return name, encode_panoptic_png(result.panoptic_seg)


def _text(path: str) -> str:
    """Make a name that JSON and consoles take; bytes that are no UTF-8 are shown as such."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _finish(run: BulkRun, shard: int, rows: list[dict[str, Any]]) -> ShardReport:
    """Write the rows of a shard, then its mark."""
    with (
        atomic_write(run.folder / "segments" / f"{shard:06d}.jsonl") as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        for row in rows:
            file.write(json.dumps(row) + "\n")
    left_out = sum("error" in row for row in rows)
    report = ShardReport(shard, len(rows) - left_out, left_out, 0.0)
    write_json(run.mark(shard), {"images": report.images, "left_out": left_out})
    return report


def write_index(run: BulkRun) -> dict[str, Any] | None:
    """Write ``index.json``, once all shards are done.

    Several workers may end at the same time; they write the same file.

    Args:
        run (BulkRun): The run.

    Returns:
        dict | None: Counts and the shards; None while some are not done.
    """
    if run.count_done() < run.num_shards:
        return None
    shards = []
    for shard in range(run.num_shards):
        counts = read_json(run.mark(shard))
        shards.append({"shard": f"{shard:06d}", "first": shard * run.shard_size, **counts})
    content = {
        "format": FORMAT,
        "form": run.form,
        **{key: sum(shard[key] for shard in shards) for key in ("images", "left_out")},
        "shards": shards,
    }
    write_json(run.folder / "index.json", content, indent=1)
    return content


def left_out_rows(run: BulkRun, limit: int) -> Iterator[dict[str, Any]]:
    """Read the rows of the first images that could not be read.

    Args:
        run (BulkRun): The run.
        limit (int): How many at most.
    """
    for shard in range(run.num_shards):
        mark = run.mark(shard)
        if limit < 1 or not mark.is_file() or not read_json(mark)["left_out"]:
            continue
        with (run.folder / "segments" / f"{shard:06d}.jsonl").open(encoding="utf-8") as file:
            rows = list(islice((row for row in map(json.loads, file) if "error" in row), limit))
        yield from rows
        limit -= len(rows)
