"""Annotations of large files as bytes: read at once, kept in a cache, shared by workers.

A file of 118,000 images is read, checked and packed by compiled code where nothing is wrong with
it. Where anything is, or is merely unusual, :func:`pack_records` gives None, and
:class:`~mmpanoptic.datasets.panoptic_json.PanopticJson` reads the file again and says what it is.

The cache lies below ``MMPANOPTIC_HOME`` under the hash of the file's content, so that it is never
that of another file; the newest eight stay.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, overload

import msgspec
import numpy as np

from mmpanoptic.structures import MAX_ID, LabelTable
from mmpanoptic.utils import atomic_write
from mmpanoptic.utils.coco_file import MAX_SIDE, MOST_PIXELS, load_json_object
from mmpanoptic.utils.files import home_folder, is_file_name, is_inside

CACHED_FROM = 8 << 20
"""Bytes of the smallest file whose records are cached; smaller ones are read in a second."""

_KEPT = 8  # files in the cache
_SUFFIX = ".records"
_MAGIC = b"MMPRECS1"
_HEAD = struct.Struct("<8sQQQ")  # magic, records, bytes of the records, bytes of the categories
_PLAIN_NAME = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)*", re.ASCII)
_Area = Annotated[int, msgspec.Meta(ge=0)] | Annotated[float, msgspec.Meta(ge=0)]
_Side = Annotated[int, msgspec.Meta(ge=1, le=MAX_SIDE)]
_Id = int | str


_Kind = TypeVar("_Kind")


class _Unusual(Exception):  # noqa: N818 - never leaves this module
    """Something that the slow reader has to look at."""


class _Image(msgspec.Struct, gc=False):
    id: _Id
    file_name: str
    height: _Side
    width: _Side


class _Segment(msgspec.Struct, gc=False, omit_defaults=True):
    id: Annotated[int, msgspec.Meta(ge=1, le=MAX_ID)]
    category_id: _Id
    iscrowd: Literal[0, 1]
    area: _Area
    bbox: tuple[int | float, int | float, int | float, int | float] | None = None


class _Annotation(msgspec.Struct):
    image_id: _Id
    file_name: str
    segments_info: list[_Segment]


class _Categories(msgspec.Struct):
    categories: msgspec.Raw = msgspec.Raw(b"")

    def content(self) -> dict[str, Any]:
        listed = bytes(self.categories)
        return {"categories": msgspec.json.decode(listed)} if listed else {}


class _File(_Categories, kw_only=True):
    images: list[_Image]
    annotations: list[msgspec.Raw]


class Record(msgspec.Struct, array_like=True):
    """What is stored of an annotated image; ``position`` is that in ``annotations``."""

    position: int
    img_id: int | str
    img_file: str
    seg_file: str
    height: int
    width: int
    segments: list[dict[str, Any]]


class Packed(NamedTuple):
    """The content of an annotation file.

    Attributes:
        data (np.ndarray): uint8, the records one after the other, each a :class:`Record`.
        end (np.ndarray): int64 ``(N,)``, where each ends.
        segments (np.ndarray): int32 ``(N,)``, number of segments of each.
        categories (dict): ``categories`` of the file; empty if it has none.
        used (set): Category ids of the segments.
    """

    data: np.ndarray
    end: np.ndarray
    segments: np.ndarray
    categories: dict[str, Any]
    used: set[int | str]


class PackedRecords(Sequence[dict[str, Any]]):
    """Records that are unpacked when they are asked for.

    Args:
        data (np.ndarray): uint8, as :class:`Packed` has it.
        end (np.ndarray): int64 ``(N,)``.
        finish (Callable): Makes an entry of the dataset of a :class:`Record`.
    """

    def __init__(
        self, data: np.ndarray, end: np.ndarray, finish: Callable[[Record], dict[str, Any]]
    ) -> None:
        self.data = data
        self.end = end
        self.finish = finish

    def __len__(self) -> int:
        return len(self.end)

    @overload
    def __getitem__(self, position: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, position: slice) -> PackedRecords: ...

    def __getitem__(self, position: int | slice) -> dict[str, Any] | PackedRecords:
        if isinstance(position, slice):
            return self.take(range(*position.indices(len(self))))
        position = range(len(self))[position]
        return self.finish(decode_record(self._bytes(position).data))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[position] for position in range(len(self)))

    def take(self, positions: Sequence[int]) -> PackedRecords:
        """Return the records at some positions; the bytes are copied."""
        parts = [self._bytes(position) for position in positions]
        data = np.concatenate([np.zeros(0, np.uint8), *parts])
        end = np.cumsum([len(part) for part in parts], dtype=np.int64)
        return PackedRecords(data, end, self.finish)

    def _bytes(self, position: int) -> np.ndarray:
        start = self.end[position - 1] if position else 0
        return self.data[start : self.end[position]]


decode_record = msgspec.msgpack.Decoder(Record).decode
_decode_annotation = msgspec.json.Decoder(_Annotation).decode


def pack_records(path: str | os.PathLike[str], use_cache: bool = True) -> Packed | None:
    """Read, check and pack a ground-truth file, or take what the cache has of it.

    Args:
        path: The file.
        use_cache (bool): Keep the records of large files in the cache.

    Returns:
        Packed | None: None if something is wrong with the file or unusual.
    """
    try:
        content = Path(path).read_bytes()
    except OSError:
        return None
    kept = _cache_file(content) if use_cache and len(content) >= CACHED_FROM else None
    packed = _read_cache(kept) if kept is not None else None
    if packed is not None:
        return packed
    try:
        packed = _pack(content)
    except (_Unusual, msgspec.MsgspecError, UnicodeError, OverflowError, RecursionError):
        return None
    if kept is None:
        return packed
    del content
    with suppress(OSError):  # a full or read-only disk: the records are here anyway
        _write_cache(kept, packed)
        return _read_cache(kept) or packed
    return packed


def load_categories(path: str | os.PathLike[str], hint: str = "") -> dict[str, Any]:
    """Read an annotation file of which the categories alone are needed.

    Args:
        path: The file.
        hint: Where it comes from, for the message if it is missing.

    Returns:
        dict: Its ``categories``, if it has any; perhaps more of its content.

    Raises:
        PanopticFormatError: Of kind ``missing_file`` or ``corrupt_json``.
    """
    with suppress(OSError, msgspec.MsgspecError, UnicodeError, RecursionError):
        return _decode(Path(path).read_bytes(), _Categories).content()
    return load_json_object(path, hint)


def complete(record: Record, table: LabelTable) -> list[dict[str, Any]]:
    """Return ``segments_info`` as :class:`PanopticJson` does."""
    segments = []
    for segment in record.segments:
        label = table.by_dataset_id(segment["category_id"])
        parsed = {
            "id": segment["id"],
            "category_id": label.dataset_id,
            "label": label.index,
            "isthing": label.isthing,
            "iscrowd": segment["iscrowd"],
            "area": segment["area"],
        }
        if "bbox" in segment:
            parsed["bbox"] = segment["bbox"]
        segments.append(parsed)
    return segments


def _pack(content: bytes) -> Packed:
    file = _decode(content, _File)
    images = _index_images(file.images)
    if not file.annotations:
        raise _Unusual
    encode_into = msgspec.msgpack.Encoder().encode_into
    data, ends, segments, used = bytearray(), [], [], set()
    for position, raw in enumerate(file.annotations):
        annotation = _decode_annotation(raw)
        image = images.pop(annotation.image_id, None)  # a second annotation finds nothing
        found = annotation.segments_info
        if image is None or len({segment.id for segment in found}) < len(found):
            raise _Unusual
        used.update([segment.category_id for segment in found])
        files = (image.file_name, _with_slashes(annotation.file_name))
        fields = (position, image.id, *files, image.height, image.width, found)
        encode_into(fields, data, len(data))
        ends.append(len(data))
        segments.append(len(found))
    end, counts = np.array(ends, np.int64), np.array(segments, np.int32)
    return Packed(np.frombuffer(data, np.uint8), end, counts, file.content(), used)


def _decode(content: bytes, kind: type[_Kind]) -> _Kind:
    if not content.isascii():
        content.decode()  # what is skipped is not looked at otherwise
    return msgspec.json.decode(content, type=kind)


def _index_images(entries: Iterable[_Image]) -> dict[int | str, _Image]:
    images: dict[int | str, _Image] = {}
    for image in entries:
        if image.id in images or image.height * image.width > MOST_PIXELS:
            raise _Unusual
        image.file_name = _with_slashes(image.file_name)
        images[image.id] = image
    return images


def _with_slashes(name: str) -> str:
    if _PLAIN_NAME.fullmatch(name):
        return name
    if not is_file_name(name) or not is_inside(name):
        raise _Unusual
    return name.replace("\\", "/")


def _cache_file(content: bytes) -> Path:
    name = hashlib.sha256(content).hexdigest()
    return home_folder() / "annotations" / f"{name}{_SUFFIX}"


def _write_cache(path: Path, packed: Packed) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Plain values: nothing in the file can run.
    tail = msgspec.json.encode({"content": packed.categories, "used": list(packed.used)})
    head = _HEAD.pack(_MAGIC, len(packed.end), len(packed.data), len(tail))
    parts = (packed.end.tobytes(), packed.segments.tobytes(), packed.data.data, tail)
    with atomic_write(path, sum(map(len, parts))) as temporary, temporary.open("wb") as file:
        file.write(head)
        for part in parts:
            file.write(part)
    old = sorted(path.parent.glob(f"*{_SUFFIX}"), key=lambda found: found.stat().st_mtime)
    for superfluous in old[:-_KEPT]:
        superfluous.unlink(missing_ok=True)


def _read_cache(path: Path) -> Packed | None:
    """Map a cache file; None if there is none, or it is not whole."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            magic, count, length, tail = _HEAD.unpack(file.read(_HEAD.size))
        if magic != _MAGIC or size != _HEAD.size + 12 * count + length + tail:
            return None
        data = np.memmap(path, np.uint8, "r")
    except (OSError, struct.error, ValueError):
        return None
    cuts = np.cumsum([_HEAD.size, 8 * count, 4 * count, length])
    end, segments, records, rest = (
        data[start:stop] for start, stop in zip(cuts, [*cuts[1:], size], strict=True)
    )
    try:
        said = msgspec.json.decode(rest.tobytes())
    except msgspec.MsgspecError:
        return None
    counts = np.frombuffer(segments.tobytes(), np.int32)
    ends = np.frombuffer(end.tobytes(), np.int64)
    return Packed(np.asarray(records), ends, counts, said["content"], set(said["used"]))
