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
from tests.golden import Golden, golden_cases, layout_file

SYSTEM = "efficientps_solov2"
CONFIGS = Path(__file__).parents[2] / "configs"
FEATURE_STRIDES = (4, 8, 16, 32)


def manifest(name: str) -> dict:
    return json.loads(layout_file(SYSTEM, f"manifest_{name}.json").read_text())


def randn(seed: int, *shape: int) -> torch.Tensor:
    values = np.random.RandomState(seed).standard_normal(shape)
    return torch.from_numpy(values.astype(np.float32))


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


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "solov2_head_*.npz"))
def test_forward(path):
    data = Golden(path)
    head = build_head(manifest("_".join(path.stem.split("_")[:3])))
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
        data.close("solov2.categories", f"cate{level}", categories)
        kernels = out.kernels[:, ::32, cells].view(1, -1, side, side)
        data.close("solov2.kernels", f"kernel{level}", kernels)
        kept = suppressed[::8, cells].t().reshape(1, side, side, -1)
        data.close("solov2.scores", f"cate_eval{level}", kept)
    data.close("solov2.mask_features", "mask_feats", out.mask_feats[:, ::16])


def unpack(masks: np.ndarray, width: int) -> torch.Tensor:
    return torch.from_numpy(np.unpackbits(masks, axis=-1)[..., :width].copy())


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "solov2_targets_*.npz"))
def test_targets(path):
    data = Golden(path)
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
        data.equal(f"cate_label{level}", labels.view(grid, grid))
        data.equal(f"ins_ind_label{level}", labels > 0)
        inside = (targets.cell >= start) & (targets.cell < end)
        data.equal(f"grid_order{level}", targets.cell[inside] - start)
        masks = unpack(data[f"ins_label{level}_packed"], feat_size[1])
        np.testing.assert_array_equal(targets.masks[targets.mask[inside]], masks)
        start = end


class Sample(dict):
    """What the head reads of a data sample."""

    __getattr__ = dict.__getitem__


@pytest.mark.parametrize("chunk", [1 << 25, 1 << 17], ids=["at-once", "in-chunks"])
@pytest.mark.parametrize("path", golden_cases(SYSTEM, "solov2_losses*.npz"))
def test_losses_and_gradients(path, chunk):
    data = Golden(path)
    seed, images = int(data["seed"]), len(data["grad_cate0"])
    # The layout keeps every eighth channel and every fourth row and column.
    classes, channels = data["grad_cate0"].shape[1], 8 * data["grad_kernel1"].shape[1]
    size = [4 * side for side in data["grad_mask_feat"].shape[2:]]
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
    data.close("solov2.loss", "loss_ins", losses["loss_mask"])
    data.close("solov2.loss", "loss_cate", losses["loss_cls"])
    sum(losses.values()).backward()
    data.close("solov2.loss_gradient", "grad_mask_feat", feats.grad[:, ::8, ::4, ::4])
    data.close("solov2.loss_gradient", "grad_cate0", categories[0].grad[:, :, ::4, ::4])
    data.close("solov2.loss_gradient", "grad_kernel1", kernels[1].grad[:, ::8])
    for number, leaf in enumerate(leaves):
        data.close("solov2.loss_gradient", "grad_norms", leaf.grad.norm(), number)


def decay_of(name: str) -> tuple[str, float]:
    """Kernel and sigma that the name of a golden result states, as ``gaussian_sigma05`` for 0.5."""
    kernel, *sigma = name.split("_sigma")
    digits = sigma[0] if sigma else "2"
    return kernel, float(f"0.{digits[1:]}" if digits.startswith("0") else digits)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "matrix_nms*.npz"))
def test_matrix_nms(path):
    data = Golden(path)
    masks = torch.from_numpy(data["masks"]).flatten(1)
    inputs = [torch.from_numpy(data[name]) for name in ("labels", "scores")]
    names = data.keys() - {"masks", "labels", "scores"}
    assert names
    for name in names:
        data.close("solov2.matrix_nms", name, matrix_nms(masks, *inputs, *decay_of(name)))


RULES = [
    {},
    {"nms_pre": 20, "filter_thr": 0.2, "kernel": "linear", "max_per_img": 5},
]


@pytest.mark.parametrize("case", range(len(RULES)))
@pytest.mark.parametrize("path", golden_cases(SYSTEM, "solov2_get_seg*.npz"))
def test_instances(path, case):
    data = Golden(path).case(f"case{case}")
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
    data.close("solov2.scores", "scores", found.scores)
    data.equal("labels", found.labels)
    expected = unpack(data["masks_packed"], size[1]).bool()
    assert (found.masks != expected).float().mean() < 1e-4


@pytest.mark.parametrize("layout", ["official", "mmdet"])
@pytest.mark.parametrize("path", golden_cases(SYSTEM, "manifest_solov2_r50_fpn*.json"))
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
