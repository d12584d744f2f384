"""The recipe for a Ray cluster."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmpanoptic.utils.panoptic_png import decode_panoptic_png

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import ray_bulk_inference

    yield ray_bulk_inference
    sys.modules.pop("ray_bulk_inference", None)


@pytest.fixture
def images(tmp_path):
    paths = []
    for number in range(5):
        noise = np.random.default_rng(number).integers(0, 256, (64, 80, 3), np.uint8)
        paths.append(str(tmp_path / f"{number}.png"))
        cv2.imwrite(paths[-1], noise)
    Path(paths[3]).write_bytes(b"no image")
    return paths


def check(rows, images):
    assert [row["path"] for row in rows] == images
    assert [row["position"] for row in rows] == list(range(5))
    assert [bool(row["error"]) for row in rows] == [False, False, False, True, False]
    assert "corrupt_image" in rows[3]["error"]
    for row in rows[:3]:
        ids = decode_panoptic_png(row["png"], row["path"])
        assert ids.shape == (64, 80)
        listed = {segment["id"] for segment in json.loads(row["segments_info"])}
        assert set(np.unique(ids)) - {0} == listed


def test_a_worker_segments_a_batch(recipe, images):
    worker = recipe.SegmentBatch("nuclei", "cpu")
    found = worker({"position": np.arange(5), "path": np.array(images)})
    check([dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)], images)


@pytest.mark.slow  # starts a cluster of processes on this machine
def test_two_workers_segment_a_list(recipe, images, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    (tmp_path / "files.txt").write_text("\n".join(images))
    ray.init(
        num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": str(EXAMPLES)}}
    )
    try:
        found = recipe.segment("nuclei", tmp_path / "files.txt", tmp_path / "out", 2, 2, 0)
        assert found == {"images": 5, "left_out": 1}
        rows = parquet.read_table(tmp_path / "out").to_pylist()
        check(sorted(rows, key=lambda row: row["position"]), images)
        (left,) = (tmp_path / "out-left_out.jsonl").read_text().splitlines()
        assert json.loads(left)["path"] == images[3]
        with pytest.raises(FileExistsError):
            recipe.segment("nuclei", tmp_path / "files.txt", tmp_path / "out", 2, 2, 0)
    finally:
        ray.shutdown()
