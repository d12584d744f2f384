"""Packing a set into tar shards."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from mmpanoptic.datasets.converters.shards import write_shards
from mmpanoptic.utils.format_errors import PanopticFormatError
from tests.datasets.tiny_data import write_dataset, write_json


@pytest.fixture
def source(tmp_path):
    return write_dataset(tmp_path / "set", 7)


def convert(root, out="shards", **options):
    arguments = (root / "set" / "panoptic.json", root / "set" / "images", root / out)
    return [*write_shards(*arguments, png_dir=root / "set" / "maps", **options)]


def content_of(folder):
    return json.loads((folder / "panoptic.json").read_text())


def members(folder):
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                found[f"{path.name}/{member.name}"] = archive.extractfile(member).read()
    return found


def test_files_are_packed_as_they_are(tmp_path, source):
    lines = convert(tmp_path, shard_size=3)
    assert lines[-1].startswith("7 images in 3 shards (3 written now)")
    content, packed = content_of(tmp_path / "shards"), members(tmp_path / "shards")
    assert [shard["samples"] for shard in content["shards"]] == [3, 3, 1]
    assert content["categories"] == source["categories"]
    images = {image["id"]: image for image in source["images"]}
    for image, entry, original in zip(
        content["images"], content["annotations"], source["annotations"], strict=True
    ):
        before = images[original["image_id"]]
        files = tmp_path / "set" / "images", tmp_path / "set" / "maps"
        assert packed.pop(image["file_name"]) == (files[0] / before["file_name"]).read_bytes()
        assert packed.pop(entry["file_name"]) == (files[1] / original["file_name"]).read_bytes()
        both = json.loads(packed.pop(image["file_name"].replace(".png", ".json")))
        assert both == {"image": before, "annotation": original}
        assert {**image, "file_name": None} == {**before, "file_name": None}
        assert {**entry, "file_name": None} == {**original, "file_name": None}
    assert not packed


def test_the_webdataset_library_reads_them(tmp_path, source):
    webdataset = pytest.importorskip("webdataset")
    convert(tmp_path, shard_size=4)
    urls = [str(path) for path in sorted((tmp_path / "shards").glob("*.tar"))]
    samples = [*webdataset.WebDataset(urls, shardshuffle=False)]
    assert [sample["__key__"] for sample in samples] == [f"{n:09d}" for n in range(7)]
    ids = [json.loads(sample["json"])["image"]["id"] for sample in samples]
    assert ids == [entry["image_id"] for entry in source["annotations"]]
    assert all({"png", "panoptic.png"} <= sample.keys() for sample in samples)


def test_mixing_is_seeded_and_loses_nothing(tmp_path, source):
    found = []
    for number, seed in enumerate([None, 0, 0, 1]):
        convert(tmp_path, f"out{number}", shard_size=3, shuffle=seed)
        found.append([image["id"] for image in content_of(tmp_path / f"out{number}")["images"]])
    assert found[1] == found[2]
    assert len({tuple(ids) for ids in found}) == 3
    assert len({frozenset(ids) for ids in found}) == 1


def test_a_second_run_writes_what_is_missing_or_outdated(tmp_path, source):
    convert(tmp_path, shard_size=2)
    before = members(tmp_path / "shards")
    assert "(0 written now)" in convert(tmp_path, shard_size=2)[-1]
    (tmp_path / "shards" / "shard-000001.tar").unlink()
    assert "(1 written now)" in convert(tmp_path, shard_size=2, nproc=2)[-1]
    assert members(tmp_path / "shards") == before
    photo = tmp_path / "set" / "images" / source["images"][0]["file_name"]
    photo.write_bytes(photo.read_bytes() + b" ")
    assert "(1 written now)" in convert(tmp_path, shard_size=2)[-1]


def test_shards_of_an_earlier_run_are_told(tmp_path, source):
    convert(tmp_path, shard_size=2)
    lines = convert(tmp_path, shard_size=3)
    old = tmp_path / "shards" / "shard-000003.tar"
    assert lines[-1] == f"{old} is of an earlier run and no part of the set; delete it"


def test_what_is_left_out_is_told(tmp_path, source):
    source["annotations"].pop()
    write_json(tmp_path / "set", source)
    lines = convert(tmp_path)
    assert "1 images of" in lines[0]
    assert "no annotation" in lines[0]


def spoil_size(root: Path, source):
    source["images"][2]["width"] += 1
    write_json(root, source)


def spoil_image(root: Path, source):
    (root / "images" / source["images"][2]["file_name"]).write_bytes(b"no image")


def remove_image(root: Path, source):
    (root / "images" / source["images"][2]["file_name"]).unlink()


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (spoil_size, "size_mismatch"),
        (spoil_image, "corrupt_image"),
        (remove_image, "missing_file"),
    ],
)
def test_wrong_files_are_refused_and_named(tmp_path, source, spoil, kind):
    spoil(tmp_path / "set", source)
    with pytest.raises(PanopticFormatError) as error:
        convert(tmp_path)
    assert error.value.kind == kind
    assert not [*tmp_path.glob("shards/*.tar")]
