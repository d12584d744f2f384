import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmpanoptic.apis import PanopticInferencer, build_test_pipeline, get_config
from mmpanoptic.checkpoints.loading import CheckpointError
from mmpanoptic.datasets.shapes import SHAPES_TABLE, ShapesSettings, make_scene
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.structures import find_runs, segment_statistics
from mmpanoptic.utils.format_errors import PanopticFormatError
from mmpanoptic.utils.panoptic_png import read_panoptic_png

from .tiny_model import CONFIG


@pytest.fixture(scope="module")
def inferencer(checkpoint):
    return PanopticInferencer(CONFIG, checkpoint, "cpu")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "my images"
    (folder / "sub").mkdir(parents=True)
    for index, (name, size) in enumerate(
        [("000007.png", (96, 64)), ("b.png", (96, 64)), ("sub/b.png", (80, 112))]
    ):
        image = make_scene(ShapesSettings(*size), "val", index).image
        cv2.imwrite(str(folder / name), image)
    return folder


def same(first, second):
    return (
        np.array_equal(first.panoptic_seg, second.panoptic_seg)
        and first.segments_info == second.segments_info
    )


def test_segments_describe_the_map(inferencer, folder):
    for result in inferencer(folder):
        assert result.panoptic_seg.dtype == np.int32
        count = len(result.segments_info)
        assert count >= 1
        runs = find_runs(result.panoptic_seg)
        area, box = segment_statistics(runs.value.astype(np.int64) - 1, runs, count)
        for k, segment in enumerate(result.segments_info):
            label = SHAPES_TABLE.by_dataset_id(segment["category_id"])
            assert segment["id"] == k + 1
            assert (segment["label"], segment["name"]) == (label.index, label.name)
            assert segment["isthing"] is label.isthing
            assert segment["area"] == area[k] > 0
            assert segment["bbox"] == box[k].tolist()
            assert isinstance(segment["score"], float)


def test_path_array_list_and_folder_agree(inferencer, folder):
    from_folder = inferencer(folder)
    assert [result.name for result in from_folder] == ["000007", "b", "sub/b"]
    assert from_folder[2].panoptic_seg.shape == (112, 80)
    path = folder / "b.png"
    array = cv2.imread(str(path))
    for inputs in (path, str(path), [path], array, [array]):
        (result,) = inferencer(inputs)
        assert same(result, from_folder[1])


def test_the_batch_size_changes_nothing(inferencer, folder):
    single, batched = inferencer(folder), inferencer(folder, batch_size=3)
    for first, second in zip(single, batched, strict=True):
        assert (first.panoptic_seg != second.panoptic_seg).mean() < 1e-3
        assert first.name == second.name


def test_out_dir_is_in_coco_format(inferencer, folder, tmp_path):
    results = inferencer(folder, out_dir=tmp_path / "out", show_dir=tmp_path / "show")
    content = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    assert [image["id"] for image in content["images"]] == [7, "b", "sub/b"]
    assert content["categories"] == SHAPES_TABLE.to_categories()
    for result, annotation in zip(results, content["annotations"], strict=True):
        ids = read_panoptic_png(tmp_path / "out" / "panoptic" / annotation["file_name"])
        assert np.array_equal(ids, result.panoptic_seg)
        assert [s["id"] for s in annotation["segments_info"]] == sorted(set(np.unique(ids)) - {0})
        shown = cv2.imread(str(tmp_path / "show" / f"{result.name}.png"))
        assert np.array_equal(shown, result.draw())


def test_results_are_saved_one_by_one(inferencer, folder, tmp_path):
    result = inferencer(folder / "b.png")[0]
    files = result.save(tmp_path / "one")
    assert [f.name for f in files] == ["b_panoptic.png", "b_panoptic.json", "b_overlay.png"]
    assert np.array_equal(read_panoptic_png(files[0]), result.panoptic_seg)
    content = json.loads(files[1].read_text())
    assert content["annotations"][0]["file_name"] == files[0].name
    assert cv2.imread(str(files[2])).shape == (64, 96, 3)


def test_drawing_changes_the_image_and_takes_another(inferencer, folder):
    image = cv2.imread(str(folder / "b.png"))
    result = inferencer(image)[0]
    assert (result.draw() != image).any()
    assert (result.draw(np.zeros_like(image)) != result.draw()).any()


def test_unreadable_images_stop_or_are_collected(inferencer, folder):
    (folder / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(PanopticFormatError, match=r"broken\.jpg"):
        inferencer(folder)
    problems = []
    results = list(inferencer.iterate(folder, problems=problems))
    assert len(results) == 3
    assert len(problems) == 1


def test_the_batch_size_is_checked(inferencer):
    with pytest.raises(ValueError, match="batch_size"):
        inferencer(np.zeros((64, 64, 3), np.uint8), batch_size=0)


def test_the_pipeline_loads_no_annotation_and_looks_through_wrappers():
    cfg = resolve_config(get_config(CONFIG))
    dataset = cfg.test_dataloader.dataset
    dataset.pipeline.insert(1, {"type": "LoadPanopticAnnotations"})
    cfg.test_dataloader.dataset = {"type": "RepeatDataset", "times": 1, "dataset": dataset}
    names = [type(step).__name__ for step in build_test_pipeline(cfg).transforms]
    assert names == ["LoadImage", "PackPanopticInputs"]
    for name in ("test_dataloader", "val_dataloader"):
        cfg[name] = None
    with pytest.raises(ValueError, match="test_dataloader"):
        build_test_pipeline(cfg)


def test_inference_imports_no_plotting_and_no_model_library(checkpoint, folder):
    code = """
import sys
from mmpanoptic.apis import PanopticInferencer
result = PanopticInferencer(sys.argv[1], sys.argv[2], "cpu")(sys.argv[3])[0]
result.draw()
bad = ("matplotlib.pyplot", "mmseg", "mmdet.models", "mmdet.datasets", "mmdet.utils")
found = [name for name in sys.modules if name.startswith(bad)]
assert not found, found
"""
    arguments = [CONFIG, str(checkpoint), str(folder / "b.png")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)


def test_outputs_of_heads_are_kept_on_request(inferencer, checkpoint, folder, tmp_path):
    assert inferencer(folder / "b.png")[0].heads is None
    with pytest.raises(ValueError, match="keep_heads=True"):
        inferencer(folder / "b.png")[0].save_heads(tmp_path)
    result = PanopticInferencer(CONFIG, checkpoint, "cpu", keep_heads=True)(folder / "b.png")[0]
    assert result.heads["center"].shape == (1, *result.panoptic_seg.shape)
    assert result.heads["offset"].shape == (2, *result.panoptic_seg.shape)
    assert [file.name for file in result.save_heads(tmp_path)] == ["b_center.png", "b_offset.png"]


def test_old_checkpoints_must_be_trusted(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    content["message_hub"] = {"loss": HistoryBuffer([0.5], [1])}
    torch.save(content, tmp_path / "old.pth")
    with pytest.raises(CheckpointError, match="--trust"):
        PanopticInferencer(CONFIG, tmp_path / "old.pth", "cpu")
    trusting = PanopticInferencer(CONFIG, tmp_path / "old.pth", "cpu", trust=True)
    expected = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(v, expected[k]) for k, v in trusting.model.state_dict().items())
