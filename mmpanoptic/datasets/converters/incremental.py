"""Conversions that can be stopped: a second run redoes only what is missing or outdated."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mmpanoptic.utils import read_json, write_json
from mmpanoptic.utils.archives import file_stamp
from mmpanoptic.utils.jobs import is_whole, remove_parts, run, write_file

Record = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """The conversion of one image.

    Attributes:
        key (str): Names the image inside the set, unique.
        sources (tuple[Path, ...]): Files that the result depends on; all must exist.
        outputs (tuple[Path, ...]): Files that the job writes, each with ``write_file``.
        data (Any): Whatever else the converting function needs, picklable.
    """

    key: str
    sources: tuple[Path, ...]
    outputs: tuple[Path, ...] = ()
    data: Any = None


@dataclass(frozen=True)
class Summary:
    """What a conversion did.

    Attributes:
        name (str): What was made.
        total (int): Images of the set.
        done (int): Images converted now; the others lay there already.
        target (Path): The JSON or folder.
        notes (tuple[str, ...]): Oddities of the images converted now, each once.
    """

    name: str
    total: int
    done: int
    target: Path
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        done = f"{self.name}: {self.total} images ({self.done} converted now) in {self.target}"
        return "\n".join([done, *(f"  note: {note}" for note in self.notes)])


class JsonFormat(Protocol):
    """How the records of single images make up one JSON file, and back."""

    def join(self, records: Sequence[Record]) -> dict[str, Any]:
        """Put the records of all images together."""

    def split(self, content: Mapping[str, Any]) -> dict[str, Record]:
        """Take a JSON apart into records by key; the inverse of :meth:`join`."""


class PanopticFormat:
    """COCO panoptic: ``record = dict(image=..., annotation=...)``, key = the PNG's file name.

    Args:
        categories (Sequence[Mapping]): Of the JSON.
    """

    def __init__(self, categories: Sequence[Mapping[str, Any]]) -> None:
        self.categories = list(categories)

    def join(self, records: Sequence[Record]) -> dict[str, Any]:
        """Put the records of all images together."""
        return {
            "images": [record["image"] for record in records],
            "annotations": [record["annotation"] for record in records],
            "categories": self.categories,
        }

    def split(self, content: Mapping[str, Any]) -> dict[str, Record]:
        """Take a JSON apart into records by key."""
        images = {image["id"]: image for image in content["images"]}
        return {
            annotation["file_name"]: {
                "image": images[annotation["image_id"]],
                "annotation": annotation,
            }
            for annotation in content["annotations"]
        }


class InstanceFormat:
    """COCO instances: ``record = dict(image=..., annotations=[...])``, key = image's file name.

    Annotation ids are given by :meth:`join`, from 1 on: pycocotools takes id 0 for "unmatched".

    Args:
        categories (Sequence[Mapping]): Of the JSON.
        first_image (int | None): Number the images from here on; None takes the records' ids.
    """

    def __init__(
        self, categories: Sequence[Mapping[str, Any]], first_image: int | None = None
    ) -> None:
        self.categories = list(categories)
        self.first_image = first_image

    def join(self, records: Sequence[Record]) -> dict[str, Any]:
        """Put the records of all images together and number the annotations."""
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index, record in enumerate(records):
            image = {**record["image"]}
            if self.first_image is not None:
                image["id"] = self.first_image + index
            images.append(image)
            for annotation in record["annotations"]:
                numbers = {"id": len(annotations) + 1, "image_id": image["id"]}
                annotations.append({**annotation, **numbers})
        return {"images": images, "annotations": annotations, "categories": self.categories}

    def split(self, content: Mapping[str, Any]) -> dict[str, Record]:
        """Take a JSON apart into records by key."""
        records: dict[Any, Record] = {
            image["id"]: {"image": image, "annotations": []} for image in content["images"]
        }
        for annotation in content["annotations"]:
            bare = {k: v for k, v in annotation.items() if k not in ("id", "image_id")}
            records[annotation["image_id"]]["annotations"].append(bare)
        return {record["image"]["file_name"]: record for record in records.values()}


def convert_files(
    function: Callable[[Job], Any], jobs: Sequence[Job], name: str, target: Path, nproc: int
) -> Summary:
    """Run the jobs whose outputs are missing, empty or older than their sources.

    Args:
        function: Writes the outputs of a job.
        jobs: Those of the whole set.
        name: Label of the progress bar and the summary.
        target: Named in the summary.
        nproc: Number of processes.

    Returns:
        Summary: What was done.
    """
    _prepare_folders(jobs)
    open_jobs = [job for job in jobs if not _has_outputs(job)]
    for _ in run(function, open_jobs, nproc, name):
        pass
    return Summary(name, len(jobs), len(open_jobs), target)


def convert_to_json(
    function: Callable[[Job], Record],
    jobs: Sequence[Job],
    path: Path,
    form: JsonFormat,
    info: Mapping[str, Any],
    nproc: int = 1,
    name: str = "",
) -> Summary:
    """Run the jobs that are not done and write one JSON from the records of all.

    Records of finished images wait in a journal beside the JSON until it is written; later runs
    take them from the JSON.

    Args:
        function: Writes the outputs of a job and returns its record; a list ``notes`` in it goes
            into the summary, each text once.
        jobs: Those of the whole set, in the order of the JSON, keys as ``form`` defines them.
        path: The JSON.
        form: Its format.
        info: Plain values which say how the JSON was made; records of a JSON or journal with
            other values are not taken over.
        nproc: Number of processes.
        name: Label of the progress bar and the summary.

    Returns:
        Summary: What was done.

    Raises:
        ValueError: If two jobs share a key.
    """
    keys = [job.key for job in jobs]
    if len(set(keys)) < len(keys):
        double = sorted({key for key in keys if keys.count(key) > 1})
        raise ValueError(f"several images would get the name {', '.join(double[:5])} in {path}")
    info = json.loads(json.dumps(info))
    path.parent.mkdir(parents=True, exist_ok=True)
    _prepare_folders(jobs)
    old = _load_json(path, info)
    journal = _Journal(path, info)
    records = _finished(jobs, path, form.split(old) if old else {}, journal.read())
    open_jobs = [job for job in jobs if job.key not in records]
    notes: dict[str, None] = {}
    if open_jobs:
        with journal:
            for job, record in zip(
                open_jobs, run(function, open_jobs, nproc, name or path.stem), strict=True
            ):
                notes.update(dict.fromkeys(record.pop("notes", ())))
                journal.add(job, record)
                records[job.key] = record
    content = {"info": info, **form.join([records[key] for key in keys])}
    if open_jobs or content != old:
        write_json(path, content)
    journal.remove()
    return Summary(name or path.stem, len(jobs), len(open_jobs), path, tuple(notes))


def _prepare_folders(jobs: Iterable[Job]) -> None:
    for folder in sorted({output.parent for job in jobs for output in job.outputs}):
        folder.mkdir(parents=True, exist_ok=True)
        remove_parts(folder)


def _newest(paths: Iterable[Path]) -> int:
    return max((file_stamp(path)[1] for path in paths), default=0)


def _has_outputs(job: Job) -> bool:
    if not all(map(is_whole, job.outputs)):
        return False
    newest = _newest(job.sources)
    return all(os.stat(output).st_mtime_ns >= newest for output in job.outputs)


def _load_json(path: Path, info: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read what an earlier run wrote; None if there is nothing or it was made otherwise."""
    if not path.exists():
        return None
    content = read_json(path)
    return content if isinstance(content, dict) and content.get("info") == info else None


def _finished(
    jobs: Sequence[Job],
    path: Path,
    old: Mapping[str, Record],
    journaled: Mapping[str, tuple[list[list[int]], Record]],
) -> dict[str, Record]:
    written = os.stat(path).st_mtime_ns if old else 0
    records = {}
    for job in jobs:
        if not _has_outputs(job):
            continue
        if job.key in journaled and journaled[job.key][0] == _stamp(job):
            records[job.key] = journaled[job.key][1]
        elif job.key in old and written >= _newest(job.sources):
            records[job.key] = old[job.key]
    return records


def _stamp(job: Job) -> list[list[int]]:
    return [list(file_stamp(source)) for source in job.sources]


class _Journal:
    """Records of finished images, one JSON line each, beside the JSON they will make up."""

    def __init__(self, target: Path, info: Mapping[str, Any]) -> None:
        self._path = target.with_name(f".{target.name}.journal")
        self._head = json.dumps({"info": info})
        self._lines: list[str] = []

    def read(self) -> dict[str, tuple[list[list[int]], Record]]:
        """Return stamp and record by key; what a stopped run cut off is left out."""
        if not self._path.exists():
            return {}
        lines = self._path.read_text(encoding="utf-8").split("\n")[:-1]
        if not lines or lines[0] != self._head:
            return {}
        found = {}
        for line in lines[1:]:
            try:
                key, stamp, record = json.loads(line)
            except ValueError:
                break
            found[key] = (stamp, record)
            self._lines.append(line)
        return found

    def __enter__(self) -> _Journal:
        text = "\n".join([self._head, *self._lines])
        write_file(self._path, f"{text}\n".encode())
        self._file = self._path.open("a", encoding="utf-8")
        return self

    def add(self, job: Job, record: Record) -> None:
        """Append the record of a finished image."""
        self._file.write(json.dumps([job.key, _stamp(job), record]) + "\n")
        self._file.flush()

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def remove(self) -> None:
        """Delete the journal; the JSON has it all."""
        self._path.unlink(missing_ok=True)
