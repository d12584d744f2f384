"""Annotations read by the fast reader are those of the careful one, and so are the errors."""

import copy
import json
import multiprocessing
import pickle

import numpy as np
import pytest

from mmpanoptic.datasets import PanopticDataset, packed_records, panoptic_dataset
from mmpanoptic.utils.format_errors import PanopticFormatError

from .tiny_data import dataset_args, write_dataset, write_json


@pytest.fixture
def content(tmp_path):
    """Content of the file, which may be changed and written again."""
    return copy.deepcopy(write_dataset(tmp_path))


@pytest.fixture
def cached(monkeypatch, tmp_path):
    """Cache files of any size, here; return the folder."""
    monkeypatch.setenv("MMPANOPTIC_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(packed_records, "CACHED_FROM", 0)
    return tmp_path / "home" / "annotations"


def open_both(root, monkeypatch, **options):
    """Open a dataset with the fast reader and without it; records or the error of each."""
    results = []
    for slow in (False, True):
        with monkeypatch.context() as context:
            if slow:
                context.setattr(panoptic_dataset, "pack_records", lambda *_: None)
            try:
                dataset = PanopticDataset(**dataset_args(root), **options)
            except PanopticFormatError as error:
                results.append(error.problems)
                continue
            assert dataset._is_packed is not slow or options.get("expect_slow", False)
            results.append([dataset.get_data_info(k) for k in range(-1, len(dataset))])
    return results


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"test_mode": True},
        {"filter_empty_gt": True},
        {"indices": 2},
        {"indices": -3},
        {"metainfo": {"classes": ("goose", "sky", "meadow", "cow")}},
    ],
    ids=str,
)
def test_records_are_those_of_the_careful_reader(content, tmp_path, monkeypatch, options):
    content["annotations"][0]["segments_info"][0]["area"] = 2.5
    content["annotations"][1]["segments_info"][0]["bbox"] = [0.5, 1, 2.25, 3]
    content["annotations"][1]["segments_info"][1]["bbox"] = None
    del content["annotations"][1]["segments_info"][2]["bbox"]
    content["images"][0]["file_name"] = "a folder\\\u00e4 (1).png"
    content["images"].append({"id": 5, "file_name": "x/y.jpg", "height": 1, "width": 1})
    write_json(tmp_path, content)
    fast, slow = open_both(tmp_path, monkeypatch, **options)
    assert fast == slow
    assert [repr(record) for record in fast] == [repr(dict(r)) for r in map(_ordered, fast, slow)]


def _ordered(like, record):
    """Put the keys of a record into the order of another; the types stay."""
    return {key: record[key] for key in like}


def change(content, place, value):
    """Set or, with a value of ..., remove a field."""
    *folders, last = place
    for name in folders:
        content = content[name]
    if value is ...:
        del content[last]
    else:
        content[last] = value


SEGMENT = ("annotations", 1, "segments_info", 2)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("images",), ...),
        (("images", 0), 3),
        (("images", 0, "id"), 1.0),
        (("images", 0, "id"), "img1"),
        (("images", 0, "height"), 0),
        (("images", 0, "height"), 40.0),
        (("images", 0, "width"), 1 << 21),
        (("images", 0, "file_name"), "../x.png"),
        (("images", 0, "file_name"), " "),
        (("images", 0, "file_name"), "\ud800"),
        (("annotations",), []),
        (("annotations", 0, "image_id"), "img9"),
        (("annotations", 0, "image_id"), "img0"),
        (("annotations", 0, "file_name"), "/x.png"),
        (("annotations", 0, "segments_info"), {}),
        (("annotations", 0, "segments_info"), []),
        ((*SEGMENT, "id"), 9.0),
        ((*SEGMENT, "id"), 0),
        ((*SEGMENT, "id"), 1 << 24),
        ((*SEGMENT, "id"), True),
        ((*SEGMENT, "id"), 255),
        ((*SEGMENT, "category_id"), 8),
        ((*SEGMENT, "category_id"), "7"),
        ((*SEGMENT, "category_id"), 0.0),
        ((*SEGMENT, "category_id"), ...),
        ((*SEGMENT, "iscrowd"), 2),
        ((*SEGMENT, "iscrowd"), None),
        ((*SEGMENT, "iscrowd"), ...),
        ((*SEGMENT, "area"), -1),
        ((*SEGMENT, "area"), "4"),
        ((*SEGMENT, "area"), float("nan")),
        ((*SEGMENT, "area"), None),
        ((*SEGMENT, "bbox"), [1, 2, 3]),
        ((*SEGMENT, "bbox"), [1, 2, 3, float("inf")]),
        ((*SEGMENT, "bbox"), [1, 2, 3, "4"]),
        (("categories",), ...),
        (("categories", 0, "isthing"), 2),
        (("categories", 0, "id"), 0),
    ],
    ids=str,
)
def test_errors_are_those_of_the_careful_reader(content, tmp_path, monkeypatch, place, value):
    change(content, place, value)
    write_json(tmp_path, content)
    fast, slow = open_both(tmp_path, monkeypatch)
    assert all(hasattr(problem, "kind") for problem in slow)
    assert fast == slow


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ((*SEGMENT, "iscrowd"), True),
        ((*SEGMENT, "iscrowd"), 1.0),
        ((*SEGMENT, "area"), 1 << 70),
        (("images", 0, "id"), 1 << 70),
    ],
    ids=str,
)
def test_what_is_merely_unusual_is_read_carefully(content, tmp_path, place, value):
    change(content, place, value)
    if place[0] == "images":
        content["annotations"][-1]["image_id"] = value
    write_json(tmp_path, content)
    dataset = PanopticDataset(**dataset_args(tmp_path))
    assert not dataset._is_packed
    assert len(dataset) == 4


@pytest.mark.parametrize(
    "change_bytes",
    [
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data.replace(b'"meadow"', b'"mead\xff"'),
        lambda data: data.replace(b'{"images"', b'{"info": "\xff", "images"'),
        lambda data: b"[1]",
        lambda data: b"",
    ],
)
def test_broken_bytes_are_reported_as_ever(content, tmp_path, monkeypatch, change_bytes):
    file = tmp_path / "panoptic.json"
    file.write_bytes(change_bytes(file.read_bytes()))
    fast, slow = open_both(tmp_path, monkeypatch)
    assert slow[0].kind == "corrupt_json"
    assert fast == slow


def test_a_file_in_utf_16_is_read(content, tmp_path):
    (tmp_path / "panoptic.json").write_bytes(json.dumps(content).encode("utf-16"))
    assert len(PanopticDataset(**dataset_args(tmp_path))) == 4


def test_categories_alone_are_read_alike(content, tmp_path):
    file = tmp_path / "panoptic.json"
    assert packed_records.load_categories(file) == {"categories": content["categories"]}
    file.write_text('{"images": [NaN], "categories": 3}')
    assert packed_records.load_categories(file)["categories"] == 3
    file.write_text("{}")
    assert packed_records.load_categories(file) == {}
    for text, kind in (("[]", "corrupt_json"), ("{", "corrupt_json"), (None, "missing_file")):
        file.write_text(text) if text else file.unlink()
        with pytest.raises(PanopticFormatError) as caught:
            packed_records.load_categories(file)
        assert caught.value.kind == kind


def infos(dataset):
    return [dataset.get_data_info(k) for k in range(len(dataset))]


def test_the_cache_serves_the_same_content_and_no_other(content, tmp_path, cached, monkeypatch):
    first = infos(PanopticDataset(**dataset_args(tmp_path)))
    assert len(list(cached.iterdir())) == 1
    with monkeypatch.context() as context:
        context.setattr(packed_records, "_pack", None)
        again = PanopticDataset(**dataset_args(tmp_path))
        assert infos(again) == first
        assert isinstance(again.data_bytes.base, np.memmap)
    content["annotations"][0]["segments_info"][0]["area"] += 1
    write_json(tmp_path, content)
    changed = infos(PanopticDataset(**dataset_args(tmp_path)))
    assert changed[0]["segments_info"][0]["area"] == first[0]["segments_info"][0]["area"] + 1


def test_other_classes_are_checked_against_the_cache(content, tmp_path, cached):
    args = dataset_args(tmp_path)
    PanopticDataset(**args)
    with pytest.raises(PanopticFormatError, match="lion"):
        PanopticDataset(**args, metainfo={"classes": ("lion", "sky", "meadow", "cow")})


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"x" + data[1:]])
def test_a_damaged_cache_is_made_again(content, tmp_path, cached, damage):
    first = infos(PanopticDataset(**dataset_args(tmp_path)))
    (file,) = cached.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert infos(PanopticDataset(**dataset_args(tmp_path))) == first
    assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_done_without(content, tmp_path, cached):
    (tmp_path / "home").write_text("a file where the folder should be")
    assert len(PanopticDataset(**dataset_args(tmp_path))) == 4


def test_the_cache_is_left_alone_on_request(content, tmp_path, cached):
    PanopticDataset(**dataset_args(tmp_path), use_cache=False)
    assert not cached.exists()


def test_old_cache_files_go(content, tmp_path, cached):
    for number in range(packed_records._KEPT + 3):
        content["info"] = number
        write_json(tmp_path, content)
        PanopticDataset(**dataset_args(tmp_path))
    assert len(list(cached.iterdir())) == packed_records._KEPT


def test_small_files_are_not_cached(content, tmp_path, monkeypatch):
    monkeypatch.setenv("MMPANOPTIC_HOME", str(tmp_path / "home"))
    PanopticDataset(**dataset_args(tmp_path))
    assert not (tmp_path / "home").exists()


def test_subsets_copies_and_other_processes_have_the_records(content, tmp_path, cached):
    dataset = PanopticDataset(**dataset_args(tmp_path))
    whole = infos(dataset)
    assert infos(dataset.get_subset([2, 0])) == [whole[2], whole[0]]
    assert infos(dataset.get_subset(-1)) == whole[-1:]
    assert infos(pickle.loads(pickle.dumps(dataset))) == whole  # noqa: S301
    assert infos(copy.deepcopy(dataset)) == whole
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map(dataset.get_data_info, range(len(dataset))) == whole
