"""EfficientPS against numbers of the published implementation.

Every parameter comes from the golden files; see ``tests/data/golden/efficientps_solov2/README.md``.
"""

from __future__ import annotations

import json
import math
from collections import Counter

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
from tests.golden import Golden, golden_cases, layout_file

SYSTEM = "efficientps_solov2"
MEAN = (106.433, 116.617, 119.559)
STD = (65.496, 67.6, 74.123)
STRIDES = (4, 8, 16, 32)


def randn(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


def shapes(height: int, width: int) -> list[tuple[int, int]]:
    return [(math.ceil(height / s), math.ceil(width / s)) for s in STRIDES]


def manifest() -> dict:
    return json.loads(layout_file(SYSTEM, "manifest_efficientps_cityscapes.json").read_text())


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
    cfg = {"type": "TwoWayFPN", "in_channels": pyramid_channels(), "separable_out": False}
    return build("neck", cfg)


def pyramid_channels() -> list[int]:
    """Widths of the backbone's levels."""
    convs = (f"neck.lateral_convs_top.{level}.conv.weight" for level in range(len(STRIDES)))
    return [manifest()[name][1] for name in convs]


def num_classes() -> int:
    return manifest()["semantic_head.conv_logits.bias"][0]


def semantic_head() -> nn.Module:
    return build("semantic_head", {"type": "EfficientPSHead", "num_classes": num_classes()})


def image(seed: int, height: int, width: int) -> Tensor:
    pixels = torch.from_numpy(synthetic_checkpoint.synthetic_image(seed, height, width))
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return ((pixels - mean) / std)[None]


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "inplace_abn*.npz"))
def test_batch_norm_with_folded_scale_is_inplace_abn(path):
    data = Golden(path)
    for name in data.cases("x"):
        part = data.case(name)
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
        part.close("efficientps.abn", "eval", functional.leaky_relu(norm.eval()(x), slope))
        out = functional.leaky_relu(norm.train()(x), slope)
        part.close("efficientps.abn", "train", out)
        out.backward(torch.from_numpy(part["gout"]))
        part.close("efficientps.abn", "gx", x.grad)
        sign = torch.where(raw < 0, -1.0, 1.0)
        part.close("efficientps.abn_scale_gradient", "gweight", norm.weight.grad * sign)
        published = scale_gradient_of_output(out, norm.weight, norm.bias, part["gout"], slope)
        part.close("efficientps.abn_scale_gradient", "gweight", published * sign)
        part.close("efficientps.abn", "gbias", norm.bias.grad)
        part.close("efficientps.abn", "mean_after", norm.running_mean)
        part.close("efficientps.abn", "var_after", norm.running_var)


@torch.no_grad()
def scale_gradient_of_output(out, weight, bias, grad, slope: float) -> Tensor:
    """Compute the gradient as InPlaceABN does: from its output, divided by scales near zero."""
    shape = (1, -1, 1, 1)
    normalised = (torch.where(out < 0, out / slope, out) - bias.view(shape)) / weight.view(shape)
    grad = torch.from_numpy(grad) * torch.where(out < 0, slope, 1.0)
    return (grad * normalised).sum((0, 2, 3))


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "efficientnet_b5_stages*.npz"))
def test_each_stage_of_the_backbone(path):
    data = Golden(path)
    model = backbone(damped=False)
    blocks = iter([block for layer in model.layers[1:6] for block in layer])
    names = [name for name in manifest() if name.endswith(".conv_dw.weight")]
    counts = Counter(int(name.split(".")[2]) for name in names)  # backbone.blocks.<stage>.<block>
    for stage, count in sorted(counts.items()):
        parts = [next(blocks) for _ in range(count)]
        channels = parts[0].depthwise_conv.in_channels
        if stage:
            channels = parts[0].expand_conv.in_channels
        x = randn(int(data["seed0"]) + stage, 1, channels, *map(int, data["hw"]))
        with torch.no_grad():
            for block in parts:
                x = block(x)
        step = max(1, x.shape[1] // 32)
        data.close("efficientps.stage_mean", f"stage{stage}_absmean", x.abs().mean())
        data.close("efficientps.stage", f"stage{stage}", x[:, ::step])


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "efficientnet_b5_features*.npz"))
def test_backbone_features(path):
    golden = Golden(path)
    model = backbone(damped=True)
    for data in map(golden.case, golden.cases("seed_h_w")):
        with torch.no_grad():
            feats = model(image(*map(int, data["seed_h_w"])))
        for level, (feat, step) in enumerate(zip(feats, (1, 1, 1, 4), strict=True)):
            data.close("efficientps.backbone", f"f{level}", feat[:, ::step])


def pyramid_inputs(seed: int, height: int, width: int, batch: int = 1) -> list[Tensor]:
    sizes = shapes(height, width)
    return [randn(seed + i, batch, c, *sizes[i]) for i, c in enumerate(pyramid_channels())]


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "two_way_fpn*.npz", but="*_train*"))
def test_neck(path):
    golden = Golden(path)
    model = neck()
    for data in map(golden.case, golden.cases("seed_h_w")):
        with torch.no_grad():
            outs = model(pyramid_inputs(*map(int, data["seed_h_w"])))
        for level, out in enumerate(outs):
            data.close("efficientps.neck", f"p{level}", out[:, ::8])


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "two_way_fpn_train*.npz"))
def test_a_training_step_of_the_neck(path):
    data = Golden(path)
    model = neck().train()
    sizes = map(int, data["seed_h_w"])
    inputs = [x.requires_grad_() for x in pyramid_inputs(*sizes, batch=len(data["grad_x0"]))]
    outs = model(inputs)
    loss = sum(out.square().mean() for out in outs)
    loss.backward()
    data.close("efficientps.neck_training", "loss", loss)
    weight = model.lateral_convs_bottom[0].conv.weight.grad
    norm = model.lateral_convs_top[0].bn
    found = {
        "p0": outs[0][:, :: outs[0].shape[1] // data["p0"].shape[1]],
        "p3": outs[3][:, :: outs[3].shape[1] // data["p3"].shape[1]],
        "lateral_top0_running_mean": norm.running_mean,
        "lateral_top0_running_var": norm.running_var,
        "fpn3_running_var": model.fpn_convs[3].bn.running_var,
    }
    for name, value in found.items():
        data.close("efficientps.neck_training", name, value)
    gradients = {
        "grad_x0": inputs[0].grad[:, ::4],
        "grad_x3": inputs[3].grad[:, ::64],
        "grad_lateral_bottom0_weight": weight[::16, ::64, 0, 0],
        "grad_fpn0_bn_weight": model.fpn_convs[0].bn.weight.grad,
    }
    for name, value in gradients.items():
        data.close("efficientps.neck_gradient", name, value)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "semantic_head*.npz"))
def test_semantic_head(path):
    golden = Golden(path)
    model = semantic_head()
    for data in map(golden.case, golden.cases("seed_h_w")):
        seed, height, width = map(int, data["seed_h_w"])
        sizes = shapes(height, width)
        feats = [randn(seed + i, 1, 256, *size) for i, size in enumerate(sizes)]
        with torch.no_grad():
            logits = upsampled(model(feats))
            dpc = model.lateral_convs_ss[0](feats[3])
            lsfe = model.lateral_convs_ls[0](feats[1])
            aligned = model.aligning_convs[0](randn(seed + 9, 1, 128, *sizes[2]))
        data.equal("shape", logits.shape)
        data.close("efficientps.semantic_head", "logits", logits[..., ::2, ::2])
        data.close("efficientps.semantic_head", "dpc0_p3", dpc[:, ::8])
        data.close("efficientps.semantic_head", "lsfe0_p1", lsfe[:, ::8])
        data.close("efficientps.semantic_head", "mc0", aligned[:, ::8])


def upsampled(logits: Tensor) -> Tensor:
    """Logits enlarged four times, before the crop to the image."""
    return functional.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "semantic_loss*.npz"))
def test_semantic_loss(path):
    data = Golden(path)
    labels = torch.from_numpy(data["labels"]).long()[:, 0]
    shape = (len(labels), num_classes(), *labels.shape[1:])
    logits = 2 * randn(int(data["seed"]), *shape)
    logits.requires_grad_()
    mining = HardPixelMiningLoss(0.25, mining="batch", round_up=True)
    loss = mining(logits, labels)
    data.close("efficientps.loss", "loss_ohem25", loss)
    data.close("efficientps.loss", "loss_no_ohem", HardPixelMiningLoss(1.0)(logits, labels))
    ignored = labels.clone()
    ignored[0] = 255
    data.close("efficientps.loss", "loss_ohem25_first_image_ignored", mining(logits, ignored))
    loss.backward()
    data.close("efficientps.loss_gradient", "grad", logits.grad[:, ::4])
    data.equal("grad_nonzero", (logits.grad != 0).any(1))


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "semantic_loss*.npz"))
def test_the_head_computes_the_mean_of_the_losses_of_single_images(path):
    data = Golden(path)
    labels = torch.from_numpy(data["labels"]).long()
    samples = []
    for label in labels:
        sample = DetDataSample()
        sample.gt_sem_seg = PixelData(sem_seg=label)
        samples.append(sample)
    head = MODELS.build({"type": "EfficientPSHead", "num_classes": num_classes(), "in_channels": 8})
    height, width = labels.shape[-2:]
    logits = randn(int(data["seed"]), len(labels), num_classes(), height // 4, width // 4)
    whole = head.loss_by_feat(logits, samples)["loss_semantic"]
    parts = [head.loss_by_feat(logits[i : i + 1], samples[i : i + 1]) for i in range(len(labels))]
    mean = torch.stack([part["loss_semantic"] for part in parts]).mean()
    assert torch.allclose(whole, mean)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "efficientps_semantic_e2e*.npz"))
def test_from_image_to_semantic_logits(path):
    data = Golden(path)
    with torch.no_grad():
        x = image(*map(int, data["seed_h_w"]))
        logits = upsampled(semantic_head()(neck()(backbone(damped=True)(x))))
    data.close("efficientps.semantic_logits", "logits", logits[..., ::2, ::2])
    data.classes("efficientps.semantic_logits", "argmax", logits.transpose(0, 1))


CITYSCAPES_THINGS = list(range(11, 19))


def fuse(data: Golden, instances: InstanceData, **options) -> tuple[np.ndarray, list[int]]:
    """Run the fusion of a crafted case: the id map, and the class of each id."""
    lowres = torch.from_numpy(data["sem_lowres"])
    height, width, stuff_area, overlap = data["hw_minarea_overlap"].tolist()
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


def instances_of(data: Golden, boxes: np.ndarray, scores, logits) -> InstanceData:
    return InstanceData(
        bboxes=torch.from_numpy(boxes).view(-1, 4),
        scores=torch.from_numpy(scores),
        labels=torch.from_numpy(data["labels"]).long(),
        mask_logits=logits,
    )


def detections_of(data: Golden) -> InstanceData:
    """Boxes with masks of their class."""
    detections = data["dets"].reshape(-1, 5)
    values = torch.from_numpy(data["mask_logits_of_label"])
    values = values if len(detections) else values.view(0, 1, 1)
    boxes, scores = np.ascontiguousarray(detections[:, :4]), detections[:, 4].copy()
    return instances_of(data, boxes, scores, values)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "fusion_maskrcnn*.npz"))
def test_fusion_of_masks_of_boxes(path):
    golden = Golden(path)
    for data in map(golden.case, golden.cases("sem_lowres")):
        index_map, labels = fuse(data, detections_of(data), legacy_zero_outside=True)
        data.equal("pan", index_map)
        data.equal("cat", labels)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "fusion_fullres*.npz"))
def test_fusion_of_masks_of_the_whole_image(path):
    golden = Golden(path)
    for data in map(golden.case, golden.cases("sem_lowres")):
        values = torch.from_numpy(data["inst_logits"])
        count, height, width = values.shape
        windows = torch.tensor([[0, 0, width, height]]).repeat(count, 1)
        logits = BoxedMasks(windows, values.flatten(), (height, width))
        found = instances_of(data, data["boxes"], data["scores"], logits)
        index_map, labels = fuse(data, found, legacy_zero_outside=True)
        data.equal("pan", index_map)
        data.equal("cat", labels)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "fusion_maskrcnn*.npz"))
def test_by_default_instances_win_nothing_outside_of_their_boxes(path):
    golden = Golden(path)
    for data in map(golden.case, golden.cases("sem_lowres")):
        found = detections_of(data)
        if not len(found):
            continue
        index_map, labels = fuse(data, found)
        inside = np.zeros(index_map.shape, bool)
        for x0, y0, x1, y1 in found.bboxes.tolist():
            inside[max(int(y0), 0) : int(y1) + 1, max(int(x0), 0) : int(x1) + 1] = True
        is_thing = np.isin(np.array(labels), CITYSCAPES_THINGS)[index_map]
        assert not (is_thing & ~inside).any()


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "mask_head*.npz"))
def test_mask_head(path):
    data = Golden(path)
    count, classes, height, width = data["logits"].shape
    head = MODELS.build({"type": "SeparableMaskHead", "num_classes": classes - 1})
    model = nn.ModuleDict({"roi_head": nn.ModuleDict({"mask_head": head})})
    model.load_state_dict(EfficientPSKeyMap(model).to_ours(published_weights("mask_head.")))
    with torch.no_grad():
        logits = head.eval()(randn(int(data["seed"]), count, 256, height // 2, width // 2))
    data.close("efficientps.mask_head", "logits", logits, np.s_[:, 1:])


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "manifest_efficientps*.json"))
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
