"""A panoptic set as tar shards in the layout of the ``webdataset`` library.

Of each image a shard holds, one after the other and named by the image's number, the image file,
the panoptic PNG (``.panoptic.png``) and both JSON entries (``.json``), byte by byte as they were.
The JSON beside the shards is that of the set, with names that lead into them, and with the list
of the shards.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.datasets.map_problems import find_size_problem
from mmpanoptic.utils import atomic_write
from mmpanoptic.utils.archives import is_file, read_bytes
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError, format_error
from mmpanoptic.utils.image_bytes import ImageDamageError, decode_image, read_size
from mmpanoptic.utils.image_files import describe_mismatch
from mmpanoptic.utils.png_bytes import read_header, read_png

from .incremental import Job, PanopticFormat, Record, convert_to_json
from .panoptic_source import PanopticSource, load_source

ANNOTATIONS = "panoptic.json"


class ShardFormat(PanopticFormat):
    """``record = dict(shard=..., images=[...], annotations=[...])``, key = the shard's name."""

    def join(self, records: Sequence[Record]) -> dict[str, Any]:
        """Put the records of all shards together."""
        pairs = [
            {"image": image, "annotation": annotation}
            for record in records
            for image, annotation in zip(record["images"], record["annotations"], strict=True)
        ]
        return {"shards": [record["shard"] for record in records], **super().join(pairs)}

    def split(self, content: Mapping[str, Any]) -> dict[str, Record]:
        """Take a JSON apart into records by key."""
        records, start = {}, 0
        for shard in content["shards"]:
            stop = start + shard["samples"]
            images, annotations = content["images"][start:stop], content["annotations"][start:stop]
            records[shard["name"]] = {"shard": shard, "images": images, "annotations": annotations}
            start = stop
        return records


def write_shards(
    path: Path,
    images: Path,
    out: Path,
    png_dir: Path | None = None,
    shard_size: int = 1000,
    shuffle: int | None = None,
    nproc: int = 1,
) -> Iterator[object]:
    """Write the shards of a set and the JSON beside them.

    Args:
        path (Path): The panoptic JSON.
        images (Path): Folder of the images, or a zip archive.
        out (Path): Receives ``shard-000000.tar``, ... and ``panoptic.json``.
        png_dir (Path | None): Folder of the PNGs; None looks for it beside the JSON.
        shard_size (int): Images of a shard; the last one may have fewer.
        shuffle (int | None): Seed by which images are mixed; None keeps the order of the JSON.
        nproc (int): Number of processes, each of which writes a shard at a time.

    Yields:
        object: Lines about what was done.

    Raises:
        PanopticFormatError: With the problems of the JSON or of all images.
    """
    source = load_source(path, png_dir)
    entries = _entries(source)
    order = np.arange(len(entries))
    if shuffle is not None:
        order = np.random.default_rng(shuffle).permutation(len(entries))
    jobs: list[Job] = []
    for first in range(0, len(entries), shard_size):
        numbers = range(first, min(first + shard_size, len(entries)))
        chosen = [(number, *entries[order[number]]) for number in numbers]
        jobs.append(_shard_job(len(jobs), chosen, images, source.pngs, out))
    _refuse_missing(jobs)
    info = {"shard_size": shard_size, "shuffle": shuffle, "source": path.name}
    form = ShardFormat(source.content["categories"])
    left_out = len(source.content["images"]) - len(entries)
    if left_out:
        yield f"{left_out} images of {path} have no annotation and are in no shard"
    summary = convert_to_json(_write, jobs, out / ANNOTATIONS, form, info, nproc)
    written = f"{summary.total} shards ({summary.done} written now)"
    yield f"{len(entries)} images in {written} beside {summary.target}"
    kept = {job.key for job in jobs}
    for path in sorted(out.glob("shard-*.tar")):
        if path.name not in kept:
            yield f"{path} is of an earlier run and no part of the set; delete it"


def _entries(source: PanopticSource) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return image and annotation of each record, as the JSON has them."""
    by_id = {image["id"]: image for image in source.content["images"]}
    return [(by_id[entry["image_id"]], entry) for entry in source.content["annotations"]]


def _shard_job(
    shard: int,
    chosen: Sequence[tuple[int, dict[str, Any], dict[str, Any]]],
    images: Path,
    pngs: Path,
    out: Path,
) -> Job:
    files = [
        file
        for _, image, annotation in chosen
        for file in (images / image["file_name"], pngs / annotation["file_name"])
    ]
    name = f"shard-{shard:06d}.tar"
    return Job(name, tuple(files), (out / name,), list(chosen))


def _refuse_missing(jobs: Sequence[Job]) -> None:
    problems = [
        FormatProblem("missing_file", "there is no such image", str(file))
        for job in jobs
        for file in job.sources[::2]  # load_source has looked for the PNGs
        if not is_file(file)
    ]
    if problems:
        raise PanopticFormatError(problems)


def _write(job: Job) -> Record:
    """Write a shard."""
    (path,) = job.outputs
    images, annotations = [], []
    problems: list[FormatProblem] = []
    with atomic_write(path) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
            for place, (number, image, annotation) in enumerate(job.data):
                picture, png = job.sources[2 * place : 2 * place + 2]
                try:
                    names = _add(archive, f"{number:09d}", picture, png, image, annotation)
                except PanopticFormatError as error:
                    problems += error.problems
                    continue
                images.append({**image, "file_name": f"{path.name}/{names[0]}"})
                annotations.append({**annotation, "file_name": f"{path.name}/{names[1]}"})
        if problems:
            raise PanopticFormatError(problems)
        content = temporary.read_bytes()
    shard = {
        "name": path.name,
        "samples": len(images),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return {"shard": shard, "images": images, "annotations": annotations}


def _add(
    archive: tarfile.TarFile,
    key: str,
    image_file: Path,
    png_file: Path,
    image: Mapping[str, Any],
    annotation: Mapping[str, Any],
) -> tuple[str, str]:
    """Add an image to a shard; return the names of image and PNG."""
    picture, png = read_bytes(image_file), read_png(png_file)
    _check_sizes(picture, png, image, image_file, png_file)
    names = (f"{key}{image_file.suffix.lower()}", f"{key}.panoptic.png")
    both = json.dumps({"image": image, "annotation": annotation}).encode()
    for name, content in zip((*names, f"{key}.json"), (picture, png, both), strict=True):
        member = tarfile.TarInfo(name)  # no owner, no time: equal sets are equal files
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return names


def _check_sizes(
    picture: bytes, png: bytes, image: Mapping[str, Any], image_file: Path, png_file: Path
) -> None:
    """Compare the sizes that the headers say with the JSON's."""
    header = read_header(png, png_file)
    problem = find_size_problem((header.height, header.width), image, png_file)
    if problem is not None:
        raise PanopticFormatError([problem])
    expected = (image["height"], image["width"])
    try:
        size = read_size(picture) or decode_image(picture).shape[:2]
    except ImageDamageError as error:
        raise format_error("corrupt_image", str(error), str(image_file), image["id"]) from error
    if sorted(size) != sorted(expected):  # the orientation may exchange the sides
        detail = describe_mismatch(str(image_file), size, expected, "the annotation")
        raise format_error("size_mismatch", detail, str(image_file), image["id"])
