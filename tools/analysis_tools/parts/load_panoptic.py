"""Loading of panoptic annotations."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmpanoptic.datasets.panoptic_cache import PanopticCache, cache_path, make_entry, write_cache
from mmpanoptic.datasets.transforms.loading import index_segments
from mmpanoptic.datasets.transforms.packing import paint_labels
from mmpanoptic.utils.archives import file_stamp
from mmpanoptic.utils.panoptic_png import decode_panoptic_png, encode_panoptic_png
from tests.reference.load_panoptic import load_panoptic
from tests.reference.panoptic_maps import CATEGORIES, annotate, draw_map

DESCRIPTION = (
    "panoptic PNG (1024 x 2048, 48 segments) to index map and semantic map; case cached: from the "
    "run-length cache."
)
BASELINE = "a pass over the image per segment; case bare_decode: cv2.imdecode and nothing else."
CASES: dict[str, dict[str, Any]] = {
    "": {},
    "bare_decode": {"bare_decode": True},
    "cached": {"cached": True},
}
SIZES = {"default": (1024, 2048), "small": (64, 128)}


def make_inputs(
    size: str = "default", bare_decode: bool = False, cached: bool = False
) -> dict[str, Any]:
    """Draw a map like those of Cityscapes, 11 stuff classes and 37 things, and encode it."""
    rng = np.random.default_rng(0)
    index, categories = draw_map(rng, *SIZES[size], num_stuff=11, num_things=37)
    ids, segments = annotate(rng, index, categories)
    labels = {category["id"]: label for label, category in enumerate(CATEGORIES)}
    for segment in segments:
        segment["label"] = labels[segment["category_id"]]
    inputs = {"png": encode_panoptic_png(ids), "segments": segments, "bare_decode": bare_decode}
    return {**inputs, **(make_cache(inputs) if cached else {})}


def make_cache(inputs: dict[str, Any]) -> dict[str, Any]:
    """Write the PNG and a cache; ``temporary`` removes both when it is gone."""
    temporary = tempfile.TemporaryDirectory()
    path = Path(temporary.name) / "pngs" / "1.png"
    path.parent.mkdir()
    path.write_bytes(inputs["png"])
    index, _ = index_segments(decode_panoptic_png(inputs["png"]), inputs["segments"])
    ids = [segment["id"] for segment in inputs["segments"]]
    target = cache_path(path.parent)
    write_cache(target, [make_entry(path.name, file_stamp(path), index, ids)])
    cache = PanopticCache(target)
    return {"temporary": temporary, "path": str(path), "ids": ids, "cache": cache}


def baseline(inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """Decode, and compare the map with every id in turn."""
    if inputs["bare_decode"]:
        data = np.frombuffer(inputs["png"], np.uint8)
        return {"color": np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED))}
    semantic, index = load_panoptic(inputs["png"], inputs["segments"])
    return {"semantic": semantic, "index": index}


def ours(inputs: dict[str, Any]) -> dict[str, Any]:
    """Do what LoadPanopticAnnotations and PackPanopticInputs do."""
    if "cache" in inputs:
        index = inputs["cache"].get(inputs["path"], inputs["ids"])
    else:
        index, _ = index_segments(decode_panoptic_png(inputs["png"]), inputs["segments"])
    semantic = paint_labels(index, inputs["segments"])
    return {"semantic": semantic, "index": index, "segments": inputs["segments"]}


def check(expected: dict[str, np.ndarray], got: dict[str, Any]) -> None:
    """Compare the maps; those of the bare decoder by the colours."""
    if "color" in expected:
        blue, green, red = np.moveaxis(expected["color"].astype(np.int64), -1, 0)
        listed = np.array([0, *(segment["id"] for segment in got["segments"])])
        np.testing.assert_array_equal(listed[got["index"]], red + 256 * green + 65536 * blue)
        return
    for key, value in expected.items():
        np.testing.assert_array_equal(got[key], value)
