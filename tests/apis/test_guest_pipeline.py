"""Our inferencer on a guest's folder predicts what the library's own pipeline predicts."""

import numpy as np
import pytest
import torch

from mmpanoptic.apis import PanopticInferencer, get_config
from mmpanoptic.datasets.label_sets import COCO_PANOPTIC

transformers = pytest.importorskip("transformers", reason="pip install 'mmpanoptic[transformers]'")
CONFIG = "eomt-s_4xb4-178k_coco-640"
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "num_queries": 20}
SCORE = 0.3


def save_random(folder, **fields):
    """A random EoMT whose class logits are far apart, so that queries are sure of something."""
    cfg = get_config(CONFIG)
    names = dict(enumerate(COCO_PANOPTIC.to_metainfo()["classes"]))
    torch.manual_seed(0)
    config = transformers.EomtConfig(
        **{**cfg.model.network, "num_queries": 200, "image_size": 640, **fields},
        id2label=names,
        label2id={name: label for label, name in names.items()},
    )
    model = transformers.EomtForUniversalSegmentation(config).eval()
    with torch.no_grad():
        model.attn_mask_probs.zero_()  # a finished training
        model.class_predictor.weight.mul_(20)
        model.mask_head.fc3.weight.mul_(20)
    model.save_pretrained(folder)
    return model


def library_labels(model, image, stuff):
    """Classes of the pixels by the library alone; -1 is void."""
    from transformers.models.eomt.image_processing_pil_eomt import EomtImageProcessorPil

    side = model.config.image_size
    processor = EomtImageProcessorPil(
        size={"shortest_edge": side, "longest_edge": side}, do_pad=True
    )
    inputs = processor(images=[image], return_tensors="pt")
    with torch.no_grad():
        outputs = model(pixel_values=inputs["pixel_values"])
    (found,) = processor.post_process_panoptic_segmentation(
        outputs,
        target_sizes=[image.shape[:2]],
        threshold=SCORE,
        overlap_mask_area_threshold=0.1,
        stuff_classes=stuff,
    )
    labels = np.full(image.shape[:2], -1)
    for segment in found["segments_info"]:
        labels[found["segmentation"].numpy() == segment["id"]] = segment["label_id"]
    return labels, len({one["id"] for one in found["segments_info"]})


def compare(folder, image_size, **fields):
    model = save_random(folder, image_size=image_size, **fields)
    rng = np.random.default_rng(3)
    small = rng.integers(0, 255, (5, 7, 3), dtype=np.uint8)
    image = np.kron(small, np.ones((image_size // 9, image_size // 9, 1), np.uint8))
    inferencer = PanopticInferencer(
        CONFIG,
        cfg_options={
            "model.network": None,
            "model.pretrained": str(folder),
            "image_size": image_size,
            "model.fusion_head.score_thr": SCORE,
            "model.fusion_head.overlap_thr": 0.1,
        },
        device="cpu",
    )
    (result,) = inferencer(image[..., ::-1])
    table = np.array([-1, *[one["label"] for one in result.segments_info]])
    ours = table[result.panoptic_seg]
    stuff = list(inferencer.table.stuff_labels)
    expected, count = library_labels(model, image, stuff)
    assert count > 2, "the random network must find something to compare"
    assert len(result.segments_info) == count
    assert (ours == expected).mean() >= 0.999


def test_a_small_model_predicts_as_by_the_library(tmp_path):
    compare(tmp_path, 144, **SMALL)


@pytest.mark.slow
def test_a_model_of_the_published_size_predicts_as_by_the_library(tmp_path):
    compare(tmp_path, 640)
