"""EfficientPS against numbers of the published implementation.

Every parameter comes from the golden files; see ``tests/data/golden/efficientps_solov2/README.md``.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn
from torch.nn import functional

from mmpanoptic.apis.configs import get_config
from mmpanoptic.checkpoints.efficientps_keys import EfficientPSKeyMap
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.models.layers.inplace_abn import abn_act, abn_norm, fold_abn_scale
from mmpanoptic.models.losses import HardPixelMiningLoss
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import BoxedMasks
from tests.data.golden.panoptic_deeplab import synthetic_checkpoint
from tests.golden import golden_dir, golden_files

SYSTEM = "efficientps_solov2"
MEAN = (106.433, 116.617, 119.559)
STD = (65.496, 67.6, 74.123)
STRIDES = (4, 8, 16, 32)


def files(pattern: str) -> list:
    return [pytest.param(path, id=path.stem) for path in golden_files(SYSTEM, pattern)]


def load(path: Path) -> dict:
    with np.load(path) as data:
        return {key: data[key] for key in data.files}


def cases(data: dict, key: str) -> list[str]:
    """Names of the cases of a file, each of which stores ``<name>_<key>``."""
    return [name.removesuffix(f"_{key}") for name in data if name.endswith(f"_{key}")]


def randn(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


def shapes(height: int, width: int) -> list[tuple[int, int]]:
    return [(math.ceil(height / s), math.ceil(width / s)) for s in STRIDES]


def rel(actual: Tensor, expected: np.ndarray) -> float:
    assert tuple(actual.shape) == expected.shape
    difference = np.abs(actual.detach().numpy().astype(np.float64) - expected).max()
    return float(difference / max(np.abs(expected).max(), 1e-30))


def close(actual: Tensor, expected: np.ndarray, tolerance: float) -> None:
    assert tuple(actual.shape) == expected.shape
    assert np.abs(actual.detach().numpy() - expected).max() <= tolerance


def manifest() -> dict:
    path = golden_dir(SYSTEM) / "manifest_efficientps_cityscapes.json"
    return json.loads(path.read_text())


def published_weights(prefix: str, damped: bool = False) -> dict[str, Tensor]:
    """Synthetic tensors of one part of the model, by published name."""
    found = {}
    for name, shape in manifest().items():
        if not name.startswith(prefix):
            continue
        value = torch.from_numpy(np.array(synthetic_checkpoint.synthetic_tensor(name, shape)))
        last_norm = ".blocks.0." in name and name.endswith(".bn2.weight")
        if damped and (last_norm or (".blocks." in name and name.endswith(".bn3.weight"))):
            value = value * 0.25
        found[name] = value
    return found


def build(name: str, cfg: dict, damped: bool = False) -> nn.Module:
    """One part with the synthetic weights, in evaluation mode."""
    model = nn.ModuleDict({name: MODELS.build(cfg)})
    model.load_state_dict(EfficientPSKeyMap(model).to_ours(published_weights(f"{name}.", damped)))
    return model[name].eval()


def backbone(damped: bool) -> nn.Module:
    return build("backbone", {"type": "LeakyEfficientNet", "arch": "b5"}, damped)


def neck() -> nn.Module:
    channels = (40, 64, 176, 2048)
    return build("neck", {"type": "TwoWayFPN", "in_channels": channels, "separable_out": False})


def semantic_head() -> nn.Module:
    return build("semantic_head", {"type": "EfficientPSHead", "num_classes": 19})


def image(seed: int, height: int, width: int) -> Tensor:
    pixels = torch.from_numpy(synthetic_checkpoint.synthetic_image(seed, height, width))
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return ((pixels - mean) / std)[None]


@pytest.mark.parametrize("path", files("inplace_abn.npz"))
def test_batch_norm_with_folded_scale_is_inplace_abn(path):
    data = load(path)
    for name in cases(data, "x"):
        part = {k.removeprefix(f"{name}_"): v for k, v in data.items() if k.startswith(f"{name}_")}
        eps = float(f"1e-{name[-1]}")
        cfg = abn_norm(eps)
        norm = nn.BatchNorm2d(part["x"].shape[1], eps=cfg["eps"], momentum=cfg["momentum"])
        slope = 1.0 if name.startswith("ident") else abn_act()["negative_slope"]
        raw = torch.from_numpy(part["weight"])
        norm.weight.data = fold_abn_scale(raw, eps)
        norm.bias.data = torch.from_numpy(part["bias"])
        norm.running_mean.copy_(torch.from_numpy(part["mean"]))
        norm.running_var.copy_(torch.from_numpy(part["var"]))
        x = torch.from_numpy(part["x"]).requires_grad_()
        close(functional.leaky_relu(norm.eval()(x), slope), part["eval"], 1e-5)
        out = functional.leaky_relu(norm.train()(x), slope)
        close(out, part["train"], 1e-5)
        out.backward(torch.from_numpy(part["gout"]))
        close(x.grad, part["gx"], 1e-5)
        sign = torch.where(raw < 0, -1.0, 1.0)
        close(norm.weight.grad * sign, part["gweight"], 5e-4)
        close(norm.bias.grad, part["gbias"], 1e-5)
        close(norm.running_mean, part["mean_after"], 1e-5)
        close(norm.running_var, part["var_after"], 1e-5)


@pytest.mark.parametrize("path", files("efficientnet_b5_stages.npz"))
def test_each_stage_of_the_backbone(path):
    data = load(path)
    model = backbone(damped=False)
    blocks = [list(layer) for layer in model.layers[1:6]]
    count = {4: 7, 5: 9}
    stages = [*blocks[:3]]
    for layer, length in count.items():
        stages += [blocks[layer - 1][:length], blocks[layer - 1][length:]]
    for stage, parts in enumerate(stages):
        channels = parts[0].depthwise_conv.in_channels
        if stage:
            channels = parts[0].expand_conv.in_channels
        x = randn(int(data["seed0"]) + stage, 1, channels, *map(int, data["hw"]))
        with torch.no_grad():
            for block in parts:
                x = block(x)
        step = max(1, x.shape[1] // 32)
        assert x.abs().mean().item() == pytest.approx(float(data[f"stage{stage}_absmean"]), 1e-5)
        assert rel(x[:, ::step], data[f"stage{stage}"]) < 1e-5


@pytest.mark.parametrize("path", files("efficientnet_b5_features.npz"))
def test_backbone_features(path):
    data = load(path)
    model = backbone(damped=True)
    for name in cases(data, "seed_h_w"):
        with torch.no_grad():
            feats = model(image(*map(int, data[f"{name}_seed_h_w"])))
        close(feats[0], data[f"{name}_f0"], 2e-5)
        close(feats[1], data[f"{name}_f1"], 2e-5)
        close(feats[2], data[f"{name}_f2"], 2e-5)
        close(feats[3][:, ::4], data[f"{name}_f3"], 2e-5)


def pyramid_inputs(seed: int, height: int, width: int, batch: int = 1) -> list[Tensor]:
    sizes = shapes(height, width)
    channels = (40, 64, 176, 2048)
    return [randn(seed + i, batch, c, *sizes[i]) for i, c in enumerate(channels)]


@pytest.mark.parametrize("path", files("two_way_fpn.npz"))
def test_neck(path):
    data = load(path)
    model = neck()
    for name in cases(data, "seed_h_w"):
        with torch.no_grad():
            outs = model(pyramid_inputs(*map(int, data[f"{name}_seed_h_w"])))
        for level, out in enumerate(outs):
            close(out[:, ::8], data[f"{name}_p{level}"], 5e-5)


@pytest.mark.parametrize("path", files("two_way_fpn_train.npz"))
def test_a_training_step_of_the_neck(path):
    data = load(path)
    model = neck().train()
    inputs = [x.requires_grad_() for x in pyramid_inputs(*map(int, data["seed_h_w"]), batch=2)]
    outs = model(inputs)
    loss = sum(out.square().mean() for out in outs)
    loss.backward()
    assert loss.item() == pytest.approx(float(data["loss"]), rel=1e-4)
    weight = model.lateral_convs_bottom[0].conv.weight.grad
    norm = model.lateral_convs_top[0].bn
    found = {
        "p0": outs[0][:, :: outs[0].shape[1] // data["p0"].shape[1]],
        "p3": outs[3][:, :: outs[3].shape[1] // data["p3"].shape[1]],
        "lateral_top0_running_mean": norm.running_mean,
        "lateral_top0_running_var": norm.running_var,
        "fpn3_running_var": model.fpn_convs[3].bn.running_var,
        "grad_x0": inputs[0].grad[:, ::4],
        "grad_x3": inputs[3].grad[:, ::64],
        "grad_lateral_bottom0_weight": weight[::16, ::64, 0, 0],
        "grad_fpn0_bn_weight": model.fpn_convs[0].bn.weight.grad,
    }
    for name, value in found.items():
        assert rel(value, data[name]) < 1e-4, name


@pytest.mark.parametrize("path", files("semantic_head.npz"))
def test_semantic_head(path):
    data = load(path)
    model = semantic_head()
    for name in cases(data, "seed_h_w"):
        seed, height, width = map(int, data[f"{name}_seed_h_w"])
        sizes = shapes(height, width)
        feats = [randn(seed + i, 1, 256, *size) for i, size in enumerate(sizes)]
        with torch.no_grad():
            logits = upsampled(model(feats))
            dpc = model.lateral_convs_ss[0](feats[3])
            lsfe = model.lateral_convs_ls[0](feats[1])
            aligned = model.aligning_convs[0](randn(seed + 9, 1, 128, *sizes[2]))
        assert tuple(logits.shape) == tuple(data[f"{name}_shape"])
        close(logits[..., ::2, ::2], data[f"{name}_logits"], 5e-5)
        close(dpc[:, ::8], data[f"{name}_dpc0_p3"], 5e-5)
        close(lsfe[:, ::8], data[f"{name}_lsfe0_p1"], 5e-5)
        close(aligned[:, ::8], data[f"{name}_mc0"], 5e-5)


def upsampled(logits: Tensor) -> Tensor:
    """Logits enlarged four times, before the crop to the image."""
    return functional.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("path", files("semantic_loss.npz"))
def test_semantic_loss(path):
    data = load(path)
    labels = torch.from_numpy(data["labels"]).long()[:, 0]
    shape = (len(labels), 19, *labels.shape[1:])
    logits = 2 * randn(int(data["seed"]), *shape)
    logits.requires_grad_()
    mining = HardPixelMiningLoss(0.25, mining="batch", round_up=True)
    loss = mining(logits, labels)
    assert loss.item() == pytest.approx(float(data["loss_ohem25"]), rel=1e-5)
    every = HardPixelMiningLoss(1.0)(logits, labels)
    assert every.item() == pytest.approx(float(data["loss_no_ohem"]), rel=1e-5)
    ignored = labels.clone()
    ignored[0] = 255
    partly = mining(logits, ignored).item()
    assert partly == pytest.approx(float(data["loss_ohem25_first_image_ignored"]), rel=1e-5)
    loss.backward()
    assert rel(logits.grad[:, ::4], data["grad"]) < 1e-5
    assert np.array_equal((logits.grad != 0).any(1).numpy(), data["grad_nonzero"])


@pytest.mark.parametrize("path", files("semantic_loss.npz"))
def test_the_head_computes_the_mean_of_the_losses_of_single_images(path):
    data = load(path)
    labels = torch.from_numpy(data["labels"]).long()
    samples = []
    for label in labels:
        sample = DetDataSample()
        sample.gt_sem_seg = PixelData(sem_seg=label)
        samples.append(sample)
    head = MODELS.build({"type": "EfficientPSHead", "num_classes": 19, "in_channels": 8})
    height, width = labels.shape[-2:]
    logits = randn(int(data["seed"]), len(labels), 19, height // 4, width // 4)
    whole = head.loss_by_feat(logits, samples)["loss_semantic"]
    parts = [head.loss_by_feat(logits[i : i + 1], samples[i : i + 1]) for i in range(len(labels))]
    mean = torch.stack([part["loss_semantic"] for part in parts]).mean()
    assert torch.allclose(whole, mean)


@pytest.mark.parametrize("path", files("efficientps_semantic_e2e.npz"))
def test_from_image_to_semantic_logits(path):
    data = load(path)
    with torch.no_grad():
        x = image(*map(int, data["seed_h_w"]))
        logits = upsampled(semantic_head()(neck()(backbone(damped=True)(x))))
    close(logits[..., ::2, ::2], data["logits"], 2e-4)
    assert np.array_equal(logits.argmax(1).numpy(), data["argmax"])


CITYSCAPES_THINGS = list(range(11, 19))


def fuse(data: dict, case: str, instances: InstanceData, **options) -> tuple[np.ndarray, list[int]]:
    """Run the fusion of a crafted case: the id map, and the class of each id."""
    lowres = torch.from_numpy(data[f"{case}_sem_lowres"])
    height, width, stuff_area, overlap = data[f"{case}_hw_minarea_overlap"].tolist()
    head = MODELS.build(
        {
            "type": "AdaptiveLogitFusionHead",
            "num_classes": len(lowres),
            "thing_labels": CITYSCAPES_THINGS,
            "stride": 1,
            "stuff_area": int(stuff_area),
            "overlap_thr": overlap,
            "inst_logit_scale": 4.0,
            "legacy_windows": True,
            **options,
        }
    )
    meta = {"img_shape": lowres.shape[1:], "ori_shape": (int(height), int(width))}
    result = head.predict(lowres[None], [instances], [meta])[0]["pred_panoptic_seg"]
    return result.index_map[0].numpy(), [255, *(info["label"] for info in result.segments_info)]


def instances_of(data: dict, case: str, boxes: np.ndarray, scores, logits) -> InstanceData:
    return InstanceData(
        bboxes=torch.from_numpy(boxes).view(-1, 4),
        scores=torch.from_numpy(scores),
        labels=torch.from_numpy(data[f"{case}_labels"]).long(),
        mask_logits=logits,
    )


@pytest.mark.parametrize("path", files("fusion_maskrcnn.npz"))
def test_fusion_of_masks_of_boxes(path):
    data = load(path)
    for case in cases(data, "sem_lowres"):
        detections = data[f"{case}_dets"].reshape(-1, 5)
        values = torch.from_numpy(data[f"{case}_mask_logits_of_label"])
        values = values if len(detections) else values.view(0, 1, 1)
        boxes, scores = np.ascontiguousarray(detections[:, :4]), detections[:, 4].copy()
        found = instances_of(data, case, boxes, scores, values)
        index_map, labels = fuse(data, case, found, legacy_zero_outside=True)
        assert np.array_equal(index_map, data[f"{case}_pan"]), case
        assert labels == data[f"{case}_cat"].tolist(), case


@pytest.mark.parametrize("path", files("fusion_fullres.npz"))
def test_fusion_of_masks_of_the_whole_image(path):
    data = load(path)
    for case in cases(data, "sem_lowres"):
        values = torch.from_numpy(data[f"{case}_inst_logits"])
        count, height, width = values.shape
        windows = torch.tensor([[0, 0, width, height]]).repeat(count, 1)
        logits = BoxedMasks(windows, values.flatten(), (height, width))
        found = instances_of(data, case, data[f"{case}_boxes"], data[f"{case}_scores"], logits)
        index_map, labels = fuse(data, case, found, legacy_zero_outside=True)
        assert np.array_equal(index_map, data[f"{case}_pan"]), case
        assert labels == data[f"{case}_cat"].tolist(), case


@pytest.mark.parametrize("path", files("fusion_maskrcnn.npz"))
def test_by_default_instances_win_nothing_outside_of_their_boxes(path):
    data = load(path)
    for case in cases(data, "sem_lowres"):
        detections = data[f"{case}_dets"].reshape(-1, 5)
        if not len(detections):
            continue
        values = torch.from_numpy(data[f"{case}_mask_logits_of_label"])
        boxes, scores = np.ascontiguousarray(detections[:, :4]), detections[:, 4].copy()
        found = instances_of(data, case, boxes, scores, values)
        index_map, labels = fuse(data, case, found)
        inside = np.zeros(index_map.shape, bool)
        for x0, y0, x1, y1 in boxes:
            inside[max(int(y0), 0) : int(y1) + 1, max(int(x0), 0) : int(x1) + 1] = True
        is_thing = np.isin(np.array(labels), CITYSCAPES_THINGS)[index_map]
        assert not (is_thing & ~inside).any()


@pytest.mark.parametrize("path", files("mask_head.npz"))
def test_mask_head(path):
    data = load(path)
    count, classes = data["logits"].shape[:2]
    head = MODELS.build({"type": "SeparableMaskHead", "num_classes": classes - 1})
    model = nn.ModuleDict({"roi_head": nn.ModuleDict({"mask_head": head})})
    model.load_state_dict(EfficientPSKeyMap(model).to_ours(published_weights("mask_head.")))
    with torch.no_grad():
        logits = head.eval()(randn(int(data["seed"]), count, 256, 14, 14))
    close(logits, data["logits"][:, 1:], 5e-5)


@pytest.mark.parametrize("path", files("manifest_efficientps*.json"))
def test_the_released_layout_fills_the_released_config(path):
    shapes_of = json.loads(path.read_text())
    zero = torch.zeros(())
    state = {
        name: zero.long() if name.endswith("num_batches_tracked") else zero.expand(shape)
        for name, shape in shapes_of.items()
    }
    cfg = get_config("efficientps-maskrcnn-released_b5_16xb1-30k_cityscapes")
    init_default_scope("mmpanoptic")
    with torch.device("meta"):
        model = MODELS.build(resolve_config(cfg).model)
    ours = EfficientPSKeyMap(model).to_ours(state)
    assert {name: tuple(value.shape) for name, value in ours.items()} == {
        name: tuple(value.shape) for name, value in model.state_dict().items()
    }
    assert len(ours) == len(shapes_of)
