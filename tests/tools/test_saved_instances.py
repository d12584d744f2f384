"""Instances are saved for a dataset or a folder, then fused with a semantic model."""

import json
import shutil

import numpy as np
import pytest
import torch

from mmpanoptic.apis import init_model
from mmpanoptic.datasets.shapes import SHAPES_TABLE
from mmpanoptic.models.postprocess.instance_files import find_instance_files, read_instances

SAVE, FUSE = "save_instances.py", "fuse_saved_instances.py"
CONFIG = "efficientps-solov2_b0-tiny_1xb8-600_shapes"
THRESHOLD = "model.fusion_head.fusion.score_thr=0.05"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A checkpoint of the small joint model whose random weights find instances."""
    torch.manual_seed(0)
    model = init_model(CONFIG, device="cpu", cfg_options={"data_root": "no such folder"})
    head = model.instance_head
    torch.nn.init.normal_(head.conv_cls.weight, std=0.3)
    torch.nn.init.constant_(head.conv_cls.bias, -1.0)
    torch.nn.init.normal_(head.conv_kernel.weight, std=0.3)
    meta = {"dataset_meta": {**SHAPES_TABLE.to_metainfo(), "name": "shapes"}}
    path = tmp_path_factory.mktemp("joint") / "weights.pth"
    torch.save({"meta": meta, "state_dict": model.state_dict()}, path)
    return path


@pytest.fixture
def options(shapes_root):
    return ["--cfg-options", f"data_root={shapes_root}", "num_workers=0", THRESHOLD]


def read_predictions(folder):
    content = json.loads((folder / "predictions.panoptic.json").read_text())
    return {
        one["image_id"]: [(s["id"], s["category_id"], s["area"]) for s in one["segments_info"]]
        for one in content["annotations"]
    }


def test_fusing_saved_instances_predicts_what_the_joint_model_predicts(run_tool, weights, options):
    run_tool(SAVE, CONFIG, weights, "instances", "--device", "cpu", *options)
    files = find_instance_files(run_tool.folder / "instances")
    assert len(files) == 3
    saved = [read_instances(path) for path in files.values()]
    assert sum(len(one.labels) for one in saved) > 0
    assert all(one.classes == tuple(saved[0].classes) and len(one.model) == 64 for one in saved)
    run_tool("test.py", CONFIG, weights, "--out-dir", "together", "--work-dir", "a", *options)
    done = run_tool(
        FUSE, CONFIG, weights, "instances", "--out-dir", "apart", "--work-dir", "b", *options
    )
    assert "PQ" in done.stdout + done.stderr
    together, apart = (read_predictions(run_tool.folder / name) for name in ("together", "apart"))
    assert together == apart
    assert any(area for segments in apart.values() for _, _, area in segments)


def test_a_missing_image_and_one_that_occurs_twice_are_named(run_tool, weights, options):
    run_tool(SAVE, CONFIG, weights, "instances", "--no-logits", "--device", "cpu", *options)
    files = find_instance_files(run_tool.folder / "instances")
    image_id, other = list(files)[:2]
    arguments = (FUSE, CONFIG, weights, "instances", "--work-dir", "c")
    shutil.copy(files[other], files[image_id])
    done = run_tool(*arguments, *options, status=1)
    assert f"both of the image {other!r}" in done.stderr
    files[image_id].unlink()
    done = run_tool(*arguments, *options, status=1)
    assert f"no instances of the image {image_id!r}" in done.stderr
    assert "--allow-missing" in done.stderr
    run_tool(*arguments, "--allow-missing", *options)


def test_a_folder_of_images_needs_no_dataset(run_tool, weights, shapes_root):
    photos = run_tool.folder / "photos"
    shutil.copytree(shapes_root / "val", photos)
    run_tool(
        SAVE,
        CONFIG,
        weights,
        "found",
        "--images",
        photos,
        "--device",
        "cpu",
        "--cfg-options",
        "data_root=none",
    )
    files = find_instance_files(run_tool.folder / "found")
    assert sorted(files) == sorted(path.stem for path in photos.iterdir())
    saved = read_instances(next(iter(files.values())))
    assert saved.masks.numpy().dtype == np.bool_
    assert saved.masks.shape[1:] == (64, 96)


def test_a_model_without_solov2_is_refused(run_tool, checkpoint):
    config = "panoptic-deeplab_r18-tiny_1xb8-500_shapes"
    done = run_tool(SAVE, config, checkpoint, "out", "--device", "cpu", status=1)
    assert "selects no instances" in done.stderr


def test_scales_and_flips_are_combined_by_the_usual_command(run_tool, weights, options):
    done = run_tool("test.py", CONFIG, weights, "--tta", "--work-dir", "tta", *options)
    assert "PQ" in done.stdout + done.stderr


def test_the_panoptic_command_tells_what_instance_models_are_for(run_tool, shapes_root, tmp_path):
    config = "solov2_r18-tiny_1xb8-1k_shapes"
    model = init_model(config, device="cpu", cfg_options={"data_root": "no such folder"})
    torch.save({"state_dict": model.state_dict()}, tmp_path / "weights.pth")
    image = next((shapes_root / "val").iterdir())
    done = run_tool("infer.py", image, config, tmp_path / "weights.pth", status=1)
    assert "tools/save_instances.py" in done.stderr
