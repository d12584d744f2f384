"""Conversions that can be stopped: a second run redoes only what is missing or outdated."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from mmpanoptic.utils import read_json, write_json
from mmpanoptic.utils.archives import file_stamp
from mmpanoptic.utils.files import refuse_overwriting
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError
from mmpanoptic.utils.jobs import is_whole, remove_parts, run
from mmpanoptic.utils.locks import exclusive_folder

from .balance import Balance, crowd_only_classes
from .conversion_record import ConversionRecord, Entry, Stamp, stamp_of

Record = dict[str, Any]

_LOCK = ".conversion.lock"


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
        balance (Balance | None): What became of the annotations of all images, also of those
            that lay there.
    """

    name: str
    total: int
    done: int
    target: Path
    balance: Balance | None = None

    def __str__(self) -> str:
        done = f"{self.name}: {self.total} images ({self.done} converted now) in {self.target}"
        return "\n".join([done, *(self.balance.lines() if self.balance else ())])


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
    function: Callable[[Job], Any],
    jobs: Sequence[Job],
    name: str,
    target: Path,
    nproc: int,
    options: Mapping[str, Any] | None = None,
    adopt: bool = False,
) -> Summary:
    """Run the jobs whose outputs are missing or were made from other sources or options.

    Args:
        function: Writes the outputs of a job.
        jobs: Those of the whole set.
        name: Label of the progress bar and the summary.
        target: Folder of the outputs; gets the record.
        nproc: Number of processes.
        options: Plain values that decide the result.
        adopt: Outputs that no record knows, such as published ones, count as done if they are
            newer than their sources; else they are refused.

    Returns:
        Summary: What was done.

    Raises:
        PanopticFormatError: With the problems of all images; what is finished stays finished.
        ValueError: If outputs are there that something else wrote, or an output is an input.
        FolderInUseError: If another conversion writes into the folder.
    """
    file = target / f".{re.sub('[^a-zA-Z0-9]+', '_', name)}.json"
    with exclusive_folder(target, _LOCK):
        record = ConversionRecord(file, {"name": name, **(options or {})})
        _refuse(jobs, [record.path])
        _prepare_folders(jobs)
        work = _Work(record, jobs, function)
        if adopt:
            work.adopt()
        elif not record.is_ours:
            _refuse_foreign(output for job in jobs for output in job.outputs)
        done = work.run(None, nproc, name)
        record.write(work.entries)
        record.remove_journal()
    return Summary(name, len(jobs), done, target)


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
    take them from the JSON, if ``<name>.conversion.json`` says that it was made from the same
    sources with the same options.

    Args:
        function: Writes the outputs of a job and returns its record. Besides what ``form`` says
            it may hold ``balance`` (see
            :func:`~mmpanoptic.datasets.converters.balance.image_balance`), and ``empty``: the
            image is left out of the JSON.
        jobs: Those of the whole set, in the order of the JSON, keys as ``form`` defines them.
        path: The JSON.
        form: Its format.
        info: Plain values that decide the result; they become ``info`` of the JSON.
        nproc: Number of processes.
        name: Label of the progress bar and the summary.

    Returns:
        Summary: What was done.

    Raises:
        PanopticFormatError: With the problems of all images; what is finished stays finished.
        ValueError: If two jobs share a key, if the JSON is there and something else wrote it, or
            if an output is an input.
        FolderInUseError: If another conversion writes into the folder.
    """
    _check_keys(jobs, path)
    with exclusive_folder(path.parent, _LOCK):
        record = ConversionRecord(path, info)
        _refuse(jobs, [path, record.path])
        if not record.is_ours:
            _refuse_foreign([path])
        _prepare_folders(jobs)
        old = _read_old(path) if record.entries and path.exists() else None
        work = _Work(record, jobs, function)
        done = work.run(form.split(old) if old else {}, nproc, name or path.stem)
        kept = [job.key for job in jobs if not work.entries[job.key].empty]
        content = {"info": record.options, **form.join([work.results[key] for key in kept])}
        record.write(work.entries)
        if content != old:
            write_json(path, content)
        record.remove_journal()
    balance = work.balance()
    if balance is not None:
        balance.crowd_only = crowd_only_classes(content)
    return Summary(name or path.stem, len(jobs), done, path, balance)


def _read_old(path: Path) -> dict[str, Any] | None:
    """Read the JSON of an earlier run; None if it is damaged, so that it is made anew."""
    try:
        return read_json(path)
    except ValueError:
        return None


def _check_keys(jobs: Sequence[Job], path: Path) -> None:
    counts = Counter(job.key for job in jobs)
    double = sorted(key for key, count in counts.items() if count > 1)
    if double:
        raise ValueError(f"several images would get the name {', '.join(double[:5])} in {path}")


def _refuse(jobs: Sequence[Job], others: Iterable[Path]) -> None:
    sources = (source for job in jobs for source in job.sources)
    outputs = (output for job in jobs for output in job.outputs)
    refuse_overwriting(sources, [*others, *outputs])


def _refuse_foreign(outputs: Iterable[Path]) -> None:
    for path in outputs:
        if path.exists():
            raise ValueError(
                f"{path} is there, but no record says that an earlier run of this command wrote "
                "it; delete it or write to another place"
            )


def _prepare_folders(jobs: Iterable[Job]) -> None:
    for folder in sorted({output.parent for job in jobs for output in job.outputs}):
        folder.mkdir(parents=True, exist_ok=True)
        remove_parts(folder)


class _Work:
    """The jobs of a set: which are done, and the running of the others."""

    def __init__(
        self, record: ConversionRecord, jobs: Sequence[Job], function: Callable[[Job], Any]
    ) -> None:
        self.record = record
        self.jobs = jobs
        self.function = function
        self.entries: dict[str, Entry] = {}
        self.results: dict[str, Any] = {}

    def adopt(self) -> None:
        """Take over outputs that no record knows if they are newer than their sources."""
        for job in self.jobs:
            if job.key not in self.record.entries and _is_newer(job):
                stamps = [stamp_of(source) for source in job.sources]
                entry = self.record.entry_of(job.sources, stamps, {}, False)
                self.record.entries[job.key] = entry

    def run(self, old: Mapping[str, Any] | None, nproc: int, name: str) -> int:
        """Run what is not done.

        Args:
            old: Results of earlier runs by key; None if there are no results but the files.
            nproc: Number of processes.
            name: Label of the progress bar.

        Returns:
            int: Number of jobs that were run.
        """
        journal, open_jobs = self.record.read_journal(), []
        for job in self.jobs:
            entry, result = journal.get(job.key, (None, None))
            if not self._is_done(job, entry):
                entry, result = self.record.entries.get(job.key), (old or {}).get(job.key)
                lost = old is not None and result is None and not (entry and entry.empty)
                if lost or not self._is_done(job, entry):
                    open_jobs.append(job)
                    continue
            self._keep(job, entry, result)
        if open_jobs:
            self._run(open_jobs, nproc, name)
        return len(open_jobs)

    def _is_done(self, job: Job, entry: Entry | None) -> bool:
        if entry is None or not self.record.is_fresh(entry, job.sources):
            return False
        return entry.empty or all(map(is_whole, job.outputs))

    def _keep(self, job: Job, entry: Entry | None, result: Any) -> None:
        if entry is not None:
            self.entries[job.key], self.results[job.key] = entry, result

    def _run(self, jobs: Sequence[Job], nproc: int, name: str) -> None:
        problems: list[FormatProblem] = []
        with self.record.journal():
            outcomes = run(partial(_run_job, self.function), jobs, nproc, name)
            for job, outcome in zip(jobs, outcomes, strict=True):
                problems += outcome.problems
                if outcome.problems:
                    continue
                result = outcome.result
                plain = result if isinstance(result, dict) else {}
                balance, empty = plain.pop("balance", {}), plain.pop("empty", False)
                entry = self.record.entry_of(job.sources, outcome.stamps, balance, empty)
                self.record.note(job.key, entry, result)
                self._keep(job, entry, result)
        if problems:
            raise PanopticFormatError(problems)

    def balance(self) -> Balance | None:
        """Sum the balance of all images up; None if the function keeps none."""
        total, counted = Balance(), False
        for key, entry in self.entries.items():
            total.add(entry.balance)
            counted = counted or bool(entry.balance) or entry.empty
            if entry.empty:
                total.empty.append(key.removesuffix(".png"))
        return total if counted else None


class _Outcome(NamedTuple):
    result: Any
    stamps: list[Stamp]
    problems: tuple[FormatProblem, ...] = ()


def _run_job(function: Callable[[Job], Any], job: Job) -> _Outcome:
    """Run a job; problems are returned, so that those of all images are told together."""
    try:
        result = function(job)
        return _Outcome(result, [stamp_of(source) for source in job.sources])
    except PanopticFormatError as error:
        return _Outcome(None, [], error.problems)


def _is_newer(job: Job) -> bool:
    """Tell whether all outputs are whole and newer than the sources."""
    if not all(map(is_whole, job.outputs)):
        return False
    newest = max((file_stamp(source)[1] for source in job.sources), default=0)
    return all(os.stat(output).st_mtime_ns >= newest for output in job.outputs)
