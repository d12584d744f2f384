"""Training from tar shards, in a folder and on a server."""

from __future__ import annotations

import json
import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice

import pytest
import torch
from torch.utils.data import DataLoader

from mmpanoptic.datasets import (
    InfiniteSeededSampler,
    PanopticDataset,
    SeededSampler,
    ShardedPanopticDataset,
    read_label_table,
    samplers,
    shard_store,
)
from mmpanoptic.datasets.converters.shards import write_shards
from mmpanoptic.datasets.shard_store import ShardStore, read_shards
from mmpanoptic.evaluation import PanopticQualityMetric
from mmpanoptic.utils.format_errors import PanopticFormatError

from .tiny_data import dataset_args, write_dataset

COUNT, SHARD = 14, 3
PIPELINE = [
    {"type": "LoadImage"},
    {"type": "LoadPanopticAnnotations"},
    {"type": "PackPanopticInputs"},
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    write_dataset(root / "set", COUNT)
    arguments = (root / "set" / "panoptic.json", root / "set" / "images", root / "shards")
    [*write_shards(*arguments, png_dir=root / "set" / "maps", shard_size=SHARD, shuffle=5)]
    return root / "set", root / "shards"


@pytest.fixture
def root(folders, tmp_path):
    """A copy of the shards that a test may spoil."""
    return shutil.copytree(folders[1], tmp_path / "shards")


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder and notes what was asked for."""

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.server.fails.get(self.path, 0):
            self.server.fails[self.path] -= 1
            self.send_error(503)
            return
        super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def server(root, tmp_path, monkeypatch):
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    monkeypatch.setenv("MMPANOPTIC_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(shard_store, "PAUSE", 0.01)
    shard_store.fetch_annotations.cache_clear()
    handler = partial(Handler, directory=str(root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        found.asked, found.fails = [], {}
        found.address = f"http://127.0.0.1:{found.server_port}"
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join()
    shard_store.fetch_annotations.cache_clear()


def sharded(root, **kwargs):
    return ShardedPanopticDataset(data_root=str(root), pipeline=PIPELINE, **kwargs)


def in_folders(root, **kwargs):
    return PanopticDataset(**dataset_args(root), pipeline=PIPELINE, **kwargs)


def load(dataset, workers=0, context=None):
    loader = DataLoader(
        dataset,
        sampler=SeededSampler(dataset, shuffle=False),
        num_workers=workers,
        multiprocessing_context=context,
        collate_fn=list,
    )
    return {batch[0]["data_samples"].img_id: batch[0] for batch in loader}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for key, sample in expected.items():
        assert torch.equal(found[key]["inputs"], sample["inputs"])
        own, other = found[key]["data_samples"], sample["data_samples"]
        assert torch.equal(own.gt_panoptic_seg.index_map, other.gt_panoptic_seg.index_map)
        assert own.gt_panoptic_seg.segments_info == other.gt_panoptic_seg.segments_info
        assert own.ori_shape == other.ori_shape


@pytest.mark.parametrize(("workers", "context"), [(0, None), (2, "fork"), (2, "spawn")])
def test_shards_give_what_folders_give(folders, workers, context):
    assert_equal(load(sharded(folders[1]), workers, context), load(in_folders(folders[0])))


def test_classes_and_evaluation_are_those_of_folders(folders):
    results = []
    for dataset in (in_folders(folders[0], test_mode=True), sharded(folders[1], test_mode=True)):
        metric = PanopticQualityMetric()
        metric.dataset_meta = dataset.metainfo
        for sample in load(dataset).values():
            data_sample = sample["data_samples"]
            data_sample.pred_panoptic_seg = data_sample.gt_panoptic_seg
            metric.process({}, [data_sample.to_dict()])
        results.append(metric.evaluate(len(dataset)))
    assert results[0] == results[1]
    config = {"type": "ShardedPanopticDataset", "ann_file": "panoptic.json"}
    table = read_label_table({**config, "data_root": str(folders[1])})
    assert table == in_folders(folders[0]).label_table


def test_a_pass_goes_from_window_to_window_and_takes_each_image_once(folders):
    dataset = sharded(folders[1], window=2)
    sampler = InfiniteSeededSampler(dataset, seed=1)
    orders = [sampler.order(epoch) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    for order in orders:
        assert sorted(order) == list(range(COUNT))
        first, last = {}, {}
        for place, position in enumerate(order):
            first.setdefault(position // SHARD, place)
            last[position // SHARD] = place
        open_at = [sum(first[s] <= place <= last[s] for s in first) for place in range(COUNT)]
        assert max(open_at) == 2
    heads = [[position // SHARD for position in order[: 2 * SHARD - 1]] for order in orders]
    assert any(head != sorted(head) and head != sorted(head, reverse=True) for head in heads)


def test_ranks_share_a_pass_and_a_resumed_run_goes_on(folders, monkeypatch):
    dataset = sharded(folders[1])
    whole = [*islice(InfiniteSeededSampler(dataset, seed=3), 2 * COUNT)]
    found = []
    for rank in range(2):
        monkeypatch.setattr(samplers, "get_dist_info", lambda rank=rank: (rank, 2))
        sampler = InfiniteSeededSampler(dataset, seed=3)
        first = [*islice(sampler, 5)]
        sampler.set_position(5)
        found.append([*first, *islice(sampler, COUNT - 5)])
    assert [index for pair in zip(*found, strict=True) for index in pair] == whole


def test_filters_and_subsets_know_their_shards(folders):
    dataset = sharded(folders[1], indices=[1, 4, 5, 13])
    assert dataset._shard_numbers.tolist() == [0, 1, 1, 4]
    assert sorted(InfiniteSeededSampler(dataset, seed=0).order(0)) == [0, 1, 2, 3]
    assert len(load(dataset)) == 4


def test_a_shard_that_is_missing_or_cut_off_is_refused_at_the_start(root):
    shard = root / "shard-000002.tar"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(PanopticFormatError, match=r"damaged_shard.*the JSON says") as error:
        sharded(root)
    assert str(shard) in str(error.value)
    shard.unlink()
    with pytest.raises(PanopticFormatError, match="there is no such shard"):
        sharded(root)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"shards": None}, "bad_field"),
        ({"name": "../shard-000000.tar"}, "unsafe_path"),
        ({"samples": 2}, "damaged_shard"),
        ({"sha256": "0"}, "bad_field"),
    ],
)
def test_a_wrong_list_of_shards_is_refused(root, change, text):
    content = json.loads((root / "panoptic.json").read_text())
    if "shards" in change:
        del content["shards"]
    else:
        content["shards"][0].update(change)
    (root / "panoptic.json").write_text(json.dumps(content))
    with pytest.raises(PanopticFormatError, match=text):
        sharded(root)


def test_settings_without_use_are_errors(root):
    with pytest.raises(ValueError, match="cache_dir has no use"):
        sharded(root, cache_dir="x")
    with pytest.raises(ValueError, match="window"):
        sharded(root, window=0)


def test_a_server_gives_what_folders_give_and_each_shard_once(folders, server):
    dataset = sharded(server.address)
    assert_equal(load(dataset, workers=2, context="fork"), load(in_folders(folders[0])))
    again = sharded(server.address)
    assert_equal(load(again), load(dataset))
    shards = [path for path in server.asked if path.endswith(".tar")]
    assert sorted(set(shards)) == sorted(shards)
    assert len(shards) == 5
    config = {"type": "ShardedPanopticDataset", "ann_file": "panoptic.json"}
    assert read_label_table({**config, "data_root": server.address}) == again.label_table


def test_a_busy_server_is_asked_again_and_a_silent_one_named(server):
    server.fails["/shard-000001.tar"] = 2
    dataset = sharded(server.address)
    assert len(load(dataset)) == COUNT
    server.fails["/panoptic.json"] = 99
    shard_store.fetch_annotations.cache_clear()
    with pytest.raises(PanopticFormatError, match="cannot be read in 4 attempts"):
        sharded(server.address)
    with pytest.raises(PanopticFormatError, match="there is no such file"):
        sharded(f"{server.address}/elsewhere")


@pytest.mark.parametrize("spoil", [lambda data: data[:-512], lambda data: data[:-1] + b"x"])
def test_another_content_than_the_json_says_is_refused(root, server, spoil):
    dataset = sharded(server.address)
    path = root / "shard-000000.tar"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(PanopticFormatError, match=r"damaged_shard.*came with"):
        dataset[0]
    assert not [*dataset.store.folder.glob("*shard-000000*.tar")]


def test_a_set_that_was_written_anew_is_fetched_anew(root, folders, server):
    load(sharded(server.address))
    arguments = (folders[0] / "panoptic.json", folders[0] / "images", root)
    [*write_shards(*arguments, png_dir=folders[0] / "maps", shard_size=SHARD, shuffle=6)]
    shard_store.fetch_annotations.cache_clear()
    assert_equal(load(sharded(server.address)), load(in_folders(folders[0])))


def test_the_cache_keeps_what_was_used_last(server, root):
    shards = read_shards(root / "panoptic.json")
    store = ShardStore(server.address, limit=shards[0].bytes * 2 + 1)
    for number in (0, 1):
        store.fetch(shards[number])
    stamp = (store.folder / shards[0].name).stat().st_mtime_ns
    for shift, number in enumerate((1, 0)):  # the clock of a file system may be coarse
        path = store.folder / shards[number].name
        os.utime(path, ns=(10**18 + shift, path.stat().st_mtime_ns))
    left = store.folder / ".shard-000002.abc.tar"
    left.write_bytes(b"of a process that was killed")
    store.fetch(shards[2])
    found = {path.name for path in store.folder.glob("*.tar")}
    assert found == {shards[0].name, shards[2].name}
    assert (store.folder / shards[0].name).stat().st_mtime_ns == stamp


def test_a_cache_that_is_too_small_is_refused(server):
    with pytest.raises(ValueError, match="too small: twice a window of 4 shards"):
        sharded(server.address, cache_size=0)


def test_a_hint_names_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(ImportError, match=r"mmpanoptic\[shards\]"):
        ShardStore("s3://bucket/x", str(tmp_path))


def test_other_kinds_of_storage_are_read_by_fsspec(root, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for path in root.iterdir():
        memory.pipe(f"/bucket/{path.name}", path.read_bytes())
    dataset = sharded("memory://bucket", cache_dir=str(tmp_path / "cache"))
    assert len(load(dataset)) == COUNT
    shutil.rmtree(tmp_path / "cache")
