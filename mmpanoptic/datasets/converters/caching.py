"""Making of run-length caches for panoptic PNGs."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np

from mmpanoptic.datasets.panoptic_cache import (
    CacheEntry,
    PanopticCache,
    cache_path,
    make_entry,
    write_cache,
)
from mmpanoptic.utils.archives import file_stamp
from mmpanoptic.utils.format_errors import PanopticFormatError
from mmpanoptic.utils.locks import exclusive_folder

from .incremental import Job, Summary, convert_files
from .maps import relabel
from .panoptic_source import PanopticSource, read_ids

_SHARD = 64  # images per unfinished part; the result does not depend on it


def cache_pngs(source: PanopticSource, nproc: int = 1) -> tuple[Summary, list[str]]:
    """Write ``<PNG folder>.runs``, reusing what a cache that is there has fresh.

    PNGs that do not fit the JSON are left out; loading them shows what is wrong with them. A second
    process waits until the first has ended.

    Args:
        source: The set.
        nproc: Number of processes.

    Returns:
        tuple[Summary, list[str]]: What was done, and the names of the PNGs left out.
    """
    target = cache_path(source.pngs)
    with exclusive_folder(target.parent, f".{target.name}.lock", wait=True):
        return _cache_pngs(source, target, nproc)


def _cache_pngs(source: PanopticSource, target: Path, nproc: int) -> tuple[Summary, list[str]]:
    old = _open(target, source.pngs)
    listed = {r["seg_file"]: [s["id"] for s in r["segments_info"]] for r in source.records}
    stale = [n for n in listed if old is None or not old.is_fresh(source.pngs / n, listed[n])]
    name = f"cache {source.split}"
    if old is not None and set(old.names()) <= set(listed):
        left_out = sorted(set(listed) - set(old.names()))
        if len(stale) == len(left_out) and not _fits(source, left_out):
            return Summary(name, len(listed), 0, target), left_out
    shards = target.with_name(f".{target.name}.d")
    jobs = []
    for number in range(0, len(source.records), _SHARD):
        records = source.records[number : number + _SHARD]
        pngs = tuple(source.pngs / record["seg_file"] for record in records)
        shard = shards / f"{number:08d}.part-of-cache"
        jobs.append(Job(str(number), (*pngs, source.json), (shard,), records))
    old_path = target if old is not None else None
    convert_files(
        partial(_write_shard, source.pngs, old_path), jobs, name, shards, nproc, adopt=True
    )
    entries: list[CacheEntry] = []
    for job in jobs:
        part = PanopticCache(job.outputs[0], source.pngs)
        entries += [part.entry(key) for key in part.names()]
    write_cache(target, entries)
    shutil.rmtree(shards)
    kept = {entry.name for entry in entries}
    left_out = sorted(set(listed) - kept)
    return Summary(name, len(listed), len(stale), target), left_out


def _open(path: Path, folder: Path) -> PanopticCache | None:
    """Open a cache that is there; a damaged one is made anew."""
    try:
        return PanopticCache(path, folder)
    except (FileNotFoundError, ValueError):
        return None


def _fits(source: PanopticSource, names: list[str]) -> bool:
    """Tell whether one of the PNGs can be cached by now."""
    records = [record for record in source.records if record["seg_file"] in set(names)]
    return any(_entry(source.pngs, record) is not None for record in records)


def _write_shard(folder: Path, old_path: Path | None, job: Job) -> None:
    old = PanopticCache(old_path, folder) if old_path else None
    entries = []
    for record in job.data:
        name, ids = record["seg_file"], [s["id"] for s in record["segments_info"]]
        if old is not None and old.is_fresh(folder / name, ids):
            entries.append(old.entry(name))
            continue
        entry = _entry(folder, record)
        if entry is not None:
            entries.append(entry)
    write_cache(job.outputs[0], entries)


def _entry(folder: Path, record: dict) -> CacheEntry | None:
    path = folder / record["seg_file"]
    stamp = file_stamp(path)
    try:
        ids = read_ids(path, record)
    except PanopticFormatError:
        return None
    listed = [segment["id"] for segment in record["segments_info"]]
    order = np.argsort(listed)
    keys = np.array(listed, np.int64)[order]
    return make_entry(record["seg_file"], stamp, relabel(ids, keys, order + 1, 0), listed)
