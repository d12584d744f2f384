import json
import logging
import os
import pickle
import time
from pathlib import Path

import cv2
import mmengine.logging
import numpy as np
import pytest

from mmpanoptic.datasets import PanopticDataset
from mmpanoptic.datasets.panoptic_cache import PanopticCache, make_entry, write_cache
from mmpanoptic.utils.archives import file_stamp
from mmpanoptic.utils.panoptic_png import encode_panoptic_png
from tests.datasets.converters import tool

SEGMENTS = [(300, 5, 0), (7, 1, 0), (70000, 1, 1)]
IDS = np.array([[0, 300, 300, 7], [0, 300, 70000, 7]], np.int32)
INDEX = [[0, 1, 1, 2], [0, 1, 3, 2]]


@pytest.fixture
def root(tmp_path):
    """Three images, one of them in a sub-folder."""
    images, annotations = [], []
    for name in ("a", "b", "c/d"):
        png = tmp_path / "panoptic_val" / f"{name}.png"
        png.parent.mkdir(parents=True, exist_ok=True)
        png.write_bytes(encode_panoptic_png(IDS))
        image = tmp_path / "images" / f"{name}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(image), np.zeros((2, 4, 3), np.uint8))
        images.append({"id": name, "file_name": f"{name}.png", "height": 2, "width": 4})
        segments = [
            {"id": i, "category_id": c, "iscrowd": w, "area": int((i == IDS).sum())}
            for i, c, w in SEGMENTS
        ]
        annotations.append(
            {"image_id": name, "file_name": f"{name}.png", "segments_info": segments}
        )
    categories = [{"id": 5, "name": "x", "isthing": 0}, {"id": 1, "name": "y", "isthing": 1}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "panoptic_val.json").write_text(json.dumps(content))
    return tmp_path


def make(root, *args):
    return tool.call("cache_panoptic", root / "panoptic_val.json", *args)


def png(root, name):
    return root / "panoptic_val" / f"{name}.png"


@pytest.fixture
def cache(root):
    assert make(root)[0] == 0
    return PanopticCache(root / "panoptic_val.runs")


def test_maps_come_back(root, cache):
    assert len(cache) == 3
    for name in ("a", "b", "c/d"):
        index_map = cache.get(png(root, name), [300, 7, 70000])
        assert index_map.dtype == np.uint8
        assert index_map.tolist() == INDEX


@pytest.mark.parametrize("num_segments", [0, 3, 255, 256, 40000])
def test_long_runs_and_many_segments_come_back(tmp_path, num_segments):
    rng = np.random.default_rng(0)
    index_map = np.zeros((700, 300), np.int64)
    if num_segments:
        index_map[400:, ::3] = rng.integers(0, num_segments + 1, (300, 100))
    path = tmp_path / "p" / "x.png"
    path.parent.mkdir()
    path.write_bytes(b"anything")
    entry = make_entry("x.png", file_stamp(path), index_map, range(1, num_segments + 1))
    write_cache(tmp_path / "p.runs", [entry])
    read = PanopticCache(tmp_path / "p.runs").get(path)
    assert read.dtype == (np.uint8 if num_segments < 256 else np.uint16)
    assert np.array_equal(read, index_map)


def test_a_changed_png_is_not_served(root, cache):
    path = png(root, "a")
    stat = path.stat()
    path.write_bytes(encode_panoptic_png(IDS[::-1].copy()))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert cache.get(path) is None
    assert cache.get(png(root, "b")) is not None
    path.unlink()
    assert cache.get(path) is None


def test_a_png_of_another_size_is_not_served(root, cache):
    path = png(root, "a")
    stat = path.stat()
    path.write_bytes(path.read_bytes() + b"x")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert cache.get(path) is None


@pytest.mark.parametrize("ids", [[300, 7], [7, 300, 70000], [300, 7, 70001]])
def test_other_listed_segments_make_the_cache_outdated(root, cache, ids):
    assert cache.get(png(root, "a"), ids) is None


def test_strangers_are_not_in_the_cache(root, cache, tmp_path):
    assert cache.get(tmp_path / "elsewhere" / "a.png") is None
    assert cache.get(png(root, "never")) is None


def test_only_what_changed_is_read_again(root, cache):
    before = (root / "panoptic_val.runs").read_bytes()
    assert "(0 converted now)" in make(root)[1]
    assert (root / "panoptic_val.runs").read_bytes() == before
    now = time.time_ns()
    os.utime(png(root, "b"), ns=(now, now))
    assert "(1 converted now)" in make(root)[1]
    assert PanopticCache(root / "panoptic_val.runs").get(png(root, "b")).tolist() == INDEX
    assert sorted(path.name for path in root.iterdir()) == [
        "images",
        "panoptic_val",
        "panoptic_val.json",
        "panoptic_val.runs",
    ]


def test_the_number_of_processes_changes_nothing(root, monkeypatch):
    from mmpanoptic.datasets.converters import caching

    make(root, "--nproc", 1)
    before = (root / "panoptic_val.runs").read_bytes()
    (root / "panoptic_val.runs").unlink()
    monkeypatch.setattr(caching, "_SHARD", 1)
    make(root, "--nproc", 2)
    assert (root / "panoptic_val.runs").read_bytes() == before


def test_an_interrupted_run_goes_on(root, monkeypatch):
    from mmpanoptic.datasets.converters import caching

    monkeypatch.setattr(caching, "_SHARD", 1)
    original = caching._entry

    def stop_at_b(folder, record):
        if record["seg_file"] == "b.png":
            raise KeyboardInterrupt
        return original(folder, record)

    monkeypatch.setattr(caching, "_entry", stop_at_b)
    assert make(root, "--nproc", 1)[0] == 130
    assert not (root / "panoptic_val.runs").exists()
    calls = []
    monkeypatch.setattr(caching, "_entry", lambda f, r: calls.append(r) or original(f, r))
    assert make(root, "--nproc", 1)[0] == 0
    assert [record["seg_file"] for record in calls] == ["b.png", "c/d.png"]
    assert len(PanopticCache(root / "panoptic_val.runs")) == 3


def test_pngs_that_do_not_fit_are_left_out(root):
    png(root, "b").write_bytes(encode_panoptic_png(np.full((2, 4), 9)))
    status, text, _ = make(root)
    assert status == 0
    assert "1 PNGs do not fit the JSON" in text
    cache = PanopticCache(root / "panoptic_val.runs")
    assert cache.names() == ["a.png", "c/d.png"]
    assert "(0 converted now)" in make(root)[1]
    png(root, "b").write_bytes(encode_panoptic_png(IDS))
    assert "do not fit" not in make(root)[1]
    assert len(PanopticCache(root / "panoptic_val.runs")) == 3


@pytest.mark.parametrize("damage", [lambda d: d[:-3], lambda d: d[:20], lambda d: b"x" * 60])
def test_broken_files_are_refused_and_made_again(root, cache, damage):
    path = root / "panoptic_val.runs"
    good = path.read_bytes()
    path.write_bytes(damage(good))
    with pytest.raises(ValueError, match=r"panoptic_val\.runs"):
        PanopticCache(path)
    assert make(root)[0] == 0
    assert path.read_bytes() == good


def test_damaged_content_is_named(root, cache):
    path = root / "panoptic_val.runs"
    data = bytearray(path.read_bytes())
    data[-6] ^= 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match="is damaged"):
        PanopticCache(path).get(png(root, "c/d"))


def test_a_cache_can_be_pickled(root, cache):
    again = pickle.loads(pickle.dumps(cache))  # noqa: S301 - our own bytes
    assert again.get(png(root, "a")).tolist() == INDEX


def dataset(root, **kwargs):
    return PanopticDataset(
        "panoptic_val.json",
        data_root=str(root),
        data_prefix={"img": "images/", "seg": "panoptic_val/"},
        pipeline=[{"type": "LoadPanopticAnnotations"}],
        **kwargs,
    )


@pytest.fixture
def log(monkeypatch):
    """Messages of the cache with their level."""
    messages = []

    def note(text, logger=None, level=logging.INFO):
        if level > logging.DEBUG:  # mmengine's registry says more
            messages.append((level, text))

    monkeypatch.setattr(mmengine.logging, "print_log", note)
    return messages


def refuse_to_decode(path):
    raise AssertionError(f"{path} was decoded")


def test_a_dataset_reads_from_a_fresh_cache_and_says_so(root, cache, monkeypatch, log):
    from mmpanoptic.datasets.transforms import loading

    data = dataset(root)
    assert [level for level, _ in log] == [logging.INFO]
    assert "read from the run-length cache" in log[0][1]
    plain = [dataset(root, use_cache=False)[k] for k in range(3)]
    monkeypatch.setattr(loading, "decode_panoptic_png", refuse_to_decode)
    for k in range(3):
        item = data[k]
        assert np.array_equal(item.pop("gt_seg_map"), plain[k].pop("gt_seg_map"))
        assert item == plain[k]


def test_a_dataset_decodes_what_changed(root, cache, log):
    png(root, "a").write_bytes(encode_panoptic_png(IDS[::-1].copy()))
    os.utime(png(root, "a"))
    data = dataset(root)
    assert [level for level, _ in log] == [logging.WARNING]
    assert "1 of 3 looked at are outdated" in log[0][1]
    assert data[0]["gt_seg_map"].tolist() == INDEX[::-1]
    assert data[1]["gt_seg_map"].tolist() == INDEX


def test_a_dataset_does_without_an_outdated_or_broken_cache(root, cache, log):
    for name in ("a", "b", "c/d"):
        os.utime(png(root, name))
    assert dataset(root).cache is None
    assert "is outdated and not used" in log[0][1]
    Path(root / "panoptic_val.runs").write_bytes(b"no")
    assert dataset(root)[0]["gt_seg_map"].tolist() == INDEX
    assert "is no run-length cache" in log[1][1]
    assert [level for level, _ in log] == [logging.WARNING] * 2


def test_worker_processes_share_the_cache(root, cache):
    from torch.utils.data import DataLoader

    loader = DataLoader(dataset(root), num_workers=2, batch_size=None)
    assert [item["gt_seg_map"].tolist() for item in loader] == [INDEX] * 3
