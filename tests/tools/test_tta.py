import json

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config

from mmpanoptic.apis import init_model
from mmpanoptic.engine.testing import use_test_time_augmentation
from mmpanoptic.models.layers import upsample_to_image
from tests.apis.tiny_model import CONFIG
from tests.reference.panoptic_deeplab import get_panoptic_segmentation
from tests.reference.panoptic_quality import evaluate, read_ids

TOOL = "test.py"


def quality(work_dir):
    (metrics,) = work_dir.glob("*/*.json")
    return json.loads(metrics.read_text())["coco_panoptic/PQ"]


@pytest.fixture
def balanced(shapes_root, checkpoint, tmp_path):
    """A checkpoint whose classes all win somewhere in an image."""
    content = torch.load(checkpoint, weights_only=True)
    model = init_model(CONFIG, checkpoint, device="cpu", cfg_options={"data_root": "nowhere"})
    image = cv2.imread(str(sorted(shapes_root.rglob("*.jpg"))[0]))
    with torch.no_grad():
        probability, _, _ = full_size_outputs(model, image, False)
    mean = probability.clamp(min=1e-30).log().mean((1, 2))
    content["state_dict"]["semantic_head.predictor.bias"] -= mean - mean.mean()
    torch.save(content, tmp_path / "balanced.pth")
    return tmp_path / "balanced.pth"


def test_the_mirror_image_is_the_default(run_tool, shapes_root, balanced):
    options = ["--cfg-options", f"data_root={shapes_root}", "test_dataloader.num_workers=0"]
    options += ["test_dataloader.persistent_workers=False"]
    run_tool(TOOL, CONFIG, balanced, "--tta", "--out", "out", "--work-dir", "w", *options)
    truth = shapes_root / "annotations" / "panoptic_val.json"
    written = run_tool.folder / "out" / "predictions.panoptic.json"
    pngs = written.with_suffix("")
    averages, _ = evaluate(truth, written, truth.with_suffix(""), pngs)
    assert quality(run_tool.folder / "w") == pytest.approx(100 * averages["All"]["pq"], abs=1e-3)
    model = init_model(CONFIG, balanced, device="cpu", cfg_options={"data_root": "nowhere"})
    names = {image["id"]: image["file_name"] for image in json.loads(truth.read_text())["images"]}
    alone = []
    for annotation in json.loads(written.read_text())["annotations"]:
        pixels = cv2.imread(str(shapes_root / "val" / names[annotation["image_id"]]))
        ids = read_ids(pngs / annotation["file_name"])
        assert len(np.unique(ids)) > 2, "the case needs segments"
        assert same_segments(ids, panoptic_codes(model, pixels, [False, True]))
        alone.append(same_segments(ids, panoptic_codes(model, pixels, [False])))
    assert not any(alone), "the case must tell the mean from the image alone"


def same_segments(ids, codes):
    """The maps part an image alike, but for pixels that tie up to rounding."""
    pairs, counts = np.unique(np.stack([ids, codes], -1).reshape(-1, 2), axis=0, return_counts=True)
    pairs = pairs[counts > 0.001 * ids.size]
    return all(len(np.unique(column)) == len(pairs) for column in pairs.T)


@torch.no_grad()
def panoptic_codes(model, pixels, flips):
    """Post-process the mean of the outputs for an image and its mirror image, step by step."""
    outputs = [full_size_outputs(model, pixels, flip) for flip in flips]
    semantic, center, offset = (sum(parts) / len(flips) for parts in zip(*outputs, strict=True))
    head = model.fusion_head
    codes, _ = get_panoptic_segmentation(
        *(semantic.argmax(0), center[0], offset, head.isthing.nonzero()[:, 0].tolist()),
        *(head.stuff_area, head.threshold, head.nms_kernel, head.top_k),
    )
    return codes.numpy().squeeze()


def full_size_outputs(model, pixels, flip):
    """Probabilities, heatmap and offsets of an image, mirrored on the way in and back."""
    size = pixels.shape[:2]
    image = torch.from_numpy(pixels[:, ::-1].copy() if flip else pixels).permute(2, 0, 1)
    sample = DetDataSample(metainfo={"img_shape": size, "ori_shape": size})
    batch = model.data_preprocessor({"inputs": [image], "data_samples": [sample]})
    semantic, instance = model.forward_heads(batch["inputs"])
    stride = model.fusion_head.stride
    semantic, center, offset = (
        upsample_to_image(output, stride, size)[0] for output in (semantic, *instance)
    )
    offset = stride * offset
    semantic = semantic.softmax(0)
    if flip:
        semantic, center, offset = semantic.flip(2), center.flip(2), offset.flip(2)
        offset[1] *= -1  # y, x
    return semantic, center, offset


def test_the_config_may_say_more():
    tta = [{"type": "LoadImage"}, {"type": "TestTimeAug", "transforms": [[]]}]
    cfg = Config(
        {
            "model": {"type": "M"},
            "test_pipeline": [{"type": "LoadImage"}, {"type": "Pack"}],
            "test_dataloader": {
                "dataset": {"type": "R", "dataset": {"pipeline": "$test_pipeline"}}
            },
        }
    )
    default = Config(cfg.to_dict())
    use_test_time_augmentation(default)
    steps = default.test_dataloader.dataset.dataset.pipeline
    assert [step["type"] for step in steps] == ["LoadImage", "TestTimeAug"]
    assert steps[1]["transforms"][1] == [{"type": "Pack"}]
    assert default.model == {"type": "PanopticTTAModel", "module": {"type": "M"}}
    cfg.tta_pipeline, cfg.tta_model = tta, {"type": "Mine"}
    use_test_time_augmentation(cfg)
    assert cfg.test_dataloader.dataset.dataset.pipeline == tta
    assert cfg.model == {"type": "Mine", "module": {"type": "M"}}


@pytest.mark.parametrize("name", ["cityscapes", "coco"])
def test_the_shipped_augmentations_build(name):
    from mmengine.registry import init_default_scope

    from mmpanoptic.registry import TRANSFORMS
    from tests.configs.test_all_configs import CONFIGS

    init_default_scope("mmpanoptic")
    cfg = Config.fromfile(CONFIGS / "_base_" / "datasets" / f"{name}_panoptic.py")
    augmentation = [TRANSFORMS.build(step) for step in cfg.tta_pipeline][1]
    assert len(augmentation.subroutines) == (14 if name == "cityscapes" else 10)
