"""Training and evaluating from zip archives."""

from __future__ import annotations

import copy
import json
import shutil
import zipfile

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mmpanoptic.datasets import PanopticDataset, SeededSampler
from mmpanoptic.evaluation import PanopticQualityMetric
from mmpanoptic.utils.format_errors import PanopticFormatError
from tests.datasets.converters import tool

from .tiny_data import dataset_args, write_dataset

PIPELINE = [
    {"type": "LoadImage"},
    {"type": "LoadPanopticAnnotations"},
    {"type": "PackPanopticInputs"},
]


def zip_folder(folder, inside):
    """Replace a folder by an archive; ``inside`` is the folder in it."""
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"{inside}/{path.name}" if inside else path.name)
    shutil.rmtree(folder)


@pytest.fixture
def zipped(tmp_path):
    """Arguments of the dataset in folders and of the same in archives."""
    args = []
    for name in ("folders", "archives"):
        write_dataset(tmp_path / name)
        args.append({**dataset_args(tmp_path / name), "pipeline": PIPELINE})
    for folder, inside in (("images", "images"), ("maps", "deep/maps")):
        zip_folder(tmp_path / "archives" / folder, inside)
    args[1]["data_prefix"] = {"img": "images.zip", "seg": "maps.zip/deep/maps/"}
    return args


@pytest.mark.parametrize(("workers", "context"), [(0, None), (2, "fork"), (2, "spawn")])
def test_archives_give_what_folders_give(zipped, workers, context):
    found = []
    for args in zipped:
        dataset = PanopticDataset(**args)
        loader = DataLoader(
            dataset,
            sampler=SeededSampler(dataset, shuffle=False),
            num_workers=workers,
            multiprocessing_context=context,
            collate_fn=list,
        )
        found.append([item for batch in loader for item in batch])
    for left, right in zip(*found, strict=True):
        assert torch.equal(left["inputs"], right["inputs"])
        maps = [x["data_samples"].gt_panoptic_seg.index_map for x in (left, right)]
        assert torch.equal(*maps)


@pytest.mark.parametrize("key", ["img", "seg"])
def test_a_missing_member_is_reported(zipped, key):
    args = copy.deepcopy(zipped[1])
    args["data_prefix"][key] = args["data_prefix"][key] + "/elsewhere"
    with pytest.raises(PanopticFormatError, match=r"\.zip has no member 'elsewhere|maps/elsewhere"):
        PanopticDataset(**args)[0]


def test_a_missing_archive_stops_at_the_start(zipped):
    args = {**zipped[1], "data_prefix": {"img": "images.zip", "seg": "none.zip/maps"}}
    with pytest.raises(PanopticFormatError, match=r"there is no archive .*none\.zip") as info:
        PanopticDataset(**args)
    assert info.value.kind == "missing_file"


def test_the_ground_truth_of_the_metric_comes_from_the_archive(zipped):
    dataset = PanopticDataset(**zipped[1], test_mode=True)
    metric = PanopticQualityMetric(classwise=False)
    metric.dataset_meta = dataset.metainfo
    samples = [dataset[k]["data_samples"] for k in range(len(dataset))]
    for sample in samples:
        sample.pred_panoptic_seg = sample.gt_panoptic_seg
    metric.process(None, samples)
    assert metric.evaluate(len(samples))["coco_panoptic/PQ"] == 100


def test_the_cache_of_an_archive_lies_beside_it(zipped):
    root = zipped[1]["data_root"]
    pngs = f"{root}/maps.zip/deep/maps"
    status, out, error = tool.call("cache_panoptic", f"{root}/panoptic.json", "--png-dir", pngs)
    assert status == 0, error
    assert "maps.zip.deep.maps.runs" in out
    plain, cached = (PanopticDataset(**args) for args in zipped)
    assert plain.cache is None
    assert len(cached.cache) == 4
    for k in range(4):
        path = cached.get_data_info(k)["seg_map_path"]
        expected = plain[k]["data_samples"].gt_panoptic_seg.index_map.numpy()[0]
        assert np.array_equal(cached.cache.get(path), expected)
    with zipfile.ZipFile(f"{root}/maps.zip", "a") as archive:
        archive.writestr("more", b"")
    assert not cached.cache.is_fresh(path)


def test_the_checker_and_a_converter_read_archives(zipped):
    root = zipped[1]["data_root"]
    common = (f"{root}/panoptic.json", "--png-dir", f"{root}/maps.zip/deep/maps")
    status, out, error = tool.call("check", *common, "--img-dir", f"{root}/images.zip")
    assert status == 0, out + error
    assert "no errors" in out
    content = json.loads((tool.Path(root) / "panoptic.json").read_text())
    content["images"][0]["file_name"] = "absent.png"
    (tool.Path(root) / "other.json").write_text(json.dumps(content))
    arguments = (f"{root}/other.json", *common[1:], "--img-dir", f"{root}/images.zip")
    status, out, _ = tool.call("check", *arguments)
    assert status == 1
    assert "images.zip has no member 'absent.png'" in out
    status, out, error = tool.call("coco_panoptic2instances", *common)
    assert status == 0, out + error
