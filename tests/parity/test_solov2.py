"""SOLOv2 against numbers of the published implementation.

Every parameter comes from the golden files; see ``tests/data/golden/efficientps_solov2/README.md``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmpanoptic.checkpoints.solov2_keys import MMDET, OFFICIAL, SOLOv2KeyMap
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.models.fusion_heads import SOLOv2FusionHead
from mmpanoptic.models.instance_heads.solov2 import GRIDS, STRIDES, SOLOv2Head, SOLOv2Outputs
from mmpanoptic.models.instance_heads.solov2_targets import GridLevels, make_solov2_targets
from mmpanoptic.models.postprocess.solov2_selection import matrix_nms, suppress_neighbours
from mmpanoptic.registry import MODELS
from tests.data.golden.panoptic_deeplab.synthetic_checkpoint import synthetic_state_dict
from tests.golden import golden_dir, golden_files

SYSTEM = "efficientps_solov2"
CONFIGS = Path(__file__).parents[2] / "configs"
FEATURE_STRIDES = (4, 8, 16, 32)


def files(pattern: str) -> list:
    return [pytest.param(path, id=path.stem) for path in golden_files(SYSTEM, pattern)]


def load(path: Path) -> dict:
    with np.load(path) as data:
        return {key: data[key] for key in data.files}


def manifest(name: str) -> dict:
    return json.loads((golden_dir(SYSTEM) / f"manifest_{name}.json").read_text())


def randn(seed: int, *shape: int) -> torch.Tensor:
    values = np.random.RandomState(seed).standard_normal(shape)
    return torch.from_numpy(values.astype(np.float32))


def rel(actual, expected) -> float:
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-30))


class HeadOnly(torch.nn.Module):
    """A model with nothing but the head, for the key map."""

    def __init__(self, head: SOLOv2Head) -> None:
        super().__init__()
        self.instance_head = head


def build_head(layout: dict) -> SOLOv2Head:
    """Build the head that a manifest describes and fill it."""
    classes, width = layout["bbox_head.solo_cate.weight"][:2]
    head = SOLOv2Head(
        classes,
        range(classes),
        in_channels=layout["bbox_head.cate_convs.0.conv.weight"][1],
        feat_channels=width,
        stacked_convs=sum(name.endswith(".gn.bias") for name in layout if "cate_convs" in name),
        mask_channels=layout["mask_feat_head.conv_pred.0.conv.weight"][1],
        kernel_channels=layout["bbox_head.solo_kernel.weight"][0],
    )
    model = HeadOnly(head)
    state = {k: torch.from_numpy(v) for k, v in synthetic_state_dict(layout).items()}
    model.load_state_dict(SOLOv2KeyMap(model).to_ours(state), strict=True)
    return head.eval()


@pytest.mark.parametrize("path", files("solov2_head_*.npz"))
def test_forward(path):
    data = load(path)
    head = build_head(manifest(path.stem))
    seed, height, width = data["seed_h_w"].tolist()
    sizes = [(-(-height // stride), -(-width // stride)) for stride in FEATURE_STRIDES]
    sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    with torch.no_grad():
        out = head([randn(seed + i, 1, head.in_channels, *size) for i, size in enumerate(sizes)])
    suppressed = suppress_neighbours(out.cls_logits[0], head.num_grids)
    start = 0
    for level, side in enumerate(head.num_grids):
        cells = slice(start, start + side * side)
        start = cells.stop
        categories = out.cls_logits[:, ::8, cells].view(1, -1, side, side)
        np.testing.assert_allclose(categories, data[f"cate{level}"], atol=1e-5)
        kernels = out.kernels[:, ::32, cells].view(1, -1, side, side)
        np.testing.assert_allclose(kernels, data[f"kernel{level}"], atol=1e-5)
        kept = suppressed[::8, cells].t().reshape(1, side, side, -1)
        np.testing.assert_allclose(kept, data[f"cate_eval{level}"], atol=1e-6)
    np.testing.assert_allclose(out.mask_feats[:, ::16], data["mask_feats"], atol=1e-5)


def unpack(masks: np.ndarray, width: int) -> torch.Tensor:
    return torch.from_numpy(np.unpackbits(masks, axis=-1)[..., :width].copy())


@pytest.mark.parametrize("path", files("solov2_targets_*.npz"))
def test_targets(path):
    data = load(path)
    _, _, width = data["masks_shape"].tolist()
    classes = int(data["gt_labels_1based"].max())
    instances = InstanceData(
        bboxes=torch.from_numpy(data["gt_bboxes_inclusive"]),
        labels=torch.from_numpy(data["gt_labels_1based"]) - 1,
        masks=unpack(data["gt_masks_packed"], width),
    )
    grids = [len(data[f"cate_label{i}"]) for i in range(len(data["scale_ranges"]))]
    levels = GridLevels(tuple(grids), tuple(map(tuple, data["scale_ranges"].tolist())), 0.2)
    feat_size = tuple(data["mask_feat_size"].tolist())
    targets = make_solov2_targets([instances], levels, classes, feat_size)
    start = 0
    for level, grid in enumerate(grids):
        end = start + grid * grid
        labels = (targets.labels[0, start:end] + 1) % (classes + 1)  # the background becomes 0
        np.testing.assert_array_equal(labels.view(grid, grid), data[f"cate_label{level}"])
        np.testing.assert_array_equal(labels > 0, data[f"ins_ind_label{level}"])
        inside = (targets.cell >= start) & (targets.cell < end)
        np.testing.assert_array_equal(targets.cell[inside] - start, data[f"grid_order{level}"])
        masks = unpack(data[f"ins_label{level}_packed"], feat_size[1])
        np.testing.assert_array_equal(targets.masks[targets.mask[inside]], masks)
        start = end


class Sample(dict):
    """What the head reads of a data sample."""

    __getattr__ = dict.__getitem__


@pytest.mark.parametrize("chunk", [1 << 25, 1 << 17], ids=["at-once", "in-chunks"])
@pytest.mark.parametrize("path", files("solov2_losses.npz"))
def test_losses_and_gradients(path, chunk):
    data = load(path)
    seed, images, classes, channels = int(data["seed"]), 2, 8, 32
    size = (64, 128)
    head = SOLOv2Head(classes, range(classes), kernel_channels=channels, max_pair_pixels=chunk)
    categories = [(randn(seed + 10 + i, images, classes, s, s) - 3) for i, s in enumerate(GRIDS)]
    kernels = [(randn(seed + 20 + i, images, channels, s, s) * 0.3) for i, s in enumerate(GRIDS)]
    feats = randn(seed + 30, images, channels, *size)
    leaves = [feats, *categories, *kernels]
    for leaf in leaves:
        leaf.requires_grad_()
    samples = []
    for image in range(images):
        masks = unpack(data[f"masks{image}_packed"], 4 * size[1])
        instances = InstanceData(
            bboxes=torch.from_numpy(data[f"bboxes{image}"]),
            labels=torch.from_numpy(data[f"labels{image}"]) - 1,
            masks=masks,
        )
        samples.append(Sample(gt_instances=instances))
    flat = [torch.cat([x.flatten(2) for x in part], 2) for part in (categories, kernels)]
    losses = head.loss_by_feat(SOLOv2Outputs(*flat, feats), samples)
    assert rel(losses["loss_mask"].detach(), data["loss_ins"]) < 1e-5
    assert rel(losses["loss_cls"].detach(), data["loss_cate"]) < 1e-5
    sum(losses.values()).backward()
    assert rel(feats.grad[:, ::8, ::4, ::4], data["grad_mask_feat"]) < 1e-5
    assert rel(categories[0].grad[:, :, ::4, ::4], data["grad_cate0"]) < 1e-5
    assert rel(kernels[1].grad[:, ::8], data["grad_kernel1"]) < 1e-5
    norms = [float(leaf.grad.norm()) for leaf in leaves]
    np.testing.assert_allclose(norms, data["grad_norms"], rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("path", files("matrix_nms.npz"))
def test_matrix_nms(path):
    data = load(path)
    masks = torch.from_numpy(data["masks"]).flatten(1)
    inputs = [torch.from_numpy(data[name]) for name in ("labels", "scores")]
    for name, rule in {
        "gaussian_sigma2": ("gaussian", 2.0),
        "linear": ("linear", 2.0),
        "gaussian_sigma05": ("gaussian", 0.5),
    }.items():
        np.testing.assert_allclose(matrix_nms(masks, *inputs, *rule), data[name], atol=1e-6)


RULES = [
    {},
    {"nms_pre": 20, "filter_thr": 0.2, "kernel": "linear", "max_per_img": 5},
]


@pytest.mark.parametrize("case", range(len(RULES)))
@pytest.mark.parametrize("path", files("solov2_get_seg.npz"))
def test_instances(path, case):
    data = {
        key.removeprefix(f"case{case}_"): value
        for key, value in load(path).items()
        if key.startswith(f"case{case}_")
    }
    levels = range(len(GRIDS))
    categories, kernels = (
        torch.cat([torch.from_numpy(data[f"{name}{i}"]).flatten(2) for i in levels], 2)
        for name in ("cate_logits", "kernel")
    )
    size = tuple(data["ori_shape"].tolist())
    meta = {"img_shape": tuple(data["img_shape"].tolist()), "ori_shape": size}
    head = SOLOv2FusionHead(range(categories.shape[1]), GRIDS, STRIDES, **RULES[case])
    outputs = SOLOv2Outputs(categories, kernels, torch.from_numpy(data["mask_feats"]))
    found = head.predict(None, outputs, [meta])[0]["pred_instances"]
    np.testing.assert_allclose(found.scores, data["scores"], atol=1e-6)
    np.testing.assert_array_equal(found.labels, data["labels"])
    expected = unpack(data["masks_packed"], size[1]).bool()
    assert (found.masks != expected).float().mean() < 1e-4


@pytest.mark.parametrize("layout", ["official", "mmdet"])
@pytest.mark.parametrize("path", files("manifest_solov2_r50_fpn.json"))
def test_every_published_tensor_has_a_place(path, layout):
    shapes = json.loads(path.read_text())
    cfg = resolve_config(Config.fromfile(CONFIGS / "solov2/solov2_r50_8xb2-270k_coco.py"))
    init_default_scope("mmpanoptic")
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
        state = {name: torch.empty(shape) for name, shape in shapes.items()}
    key_map = SOLOv2KeyMap(model)
    if layout == "mmdet":
        official = {theirs: ours for ours, theirs in key_map.published.items()}
        state = {
            official[name].replace("instance_head.", "mask_head."): value
            for name, value in state.items()
        }
    ours = key_map.to_ours(state)
    assert ours.keys() == model.state_dict().keys()
    naming = MMDET if layout == "mmdet" else OFFICIAL
    assert key_map.to_published(ours, naming).keys() >= state.keys()
