import resource
import subprocess
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mmpanoptic.models.fusion_heads import CenterGroupingHead, center_grouping
from mmpanoptic.models.instance_heads import CenterOffsetOutputs
from mmpanoptic.models.postprocess import centers as centers_module
from mmpanoptic.models.postprocess import segments
from mmpanoptic.models.postprocess.segments import add_striped
from tests.data.golden.panoptic_deeplab.crafted_inputs import make_logits, make_postprocess_inputs

THINGS = (1, 2)


def make_head(**kwargs):
    return CenterGroupingHead(3, THINGS, **{"stride": 1, "stuff_area": 10, **kwargs})


def two_squares(scale=1):
    """Ideal network outputs for two squares of class 1 and 2 on stuff 0."""
    height, width = 24 * scale, 32 * scale
    semantic = torch.zeros(height, width, dtype=torch.int64)
    center = torch.zeros(1, height, width)
    offset = torch.zeros(2, height, width)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    for label, (top, left), peak in ((1, (2, 3), 0.8), (2, (12, 18), 0.5)):
        side = 8 * scale
        box = (slice(top * scale, top * scale + side), slice(left * scale, left * scale + side))
        cy, cx = top * scale + side / 2, left * scale + side / 2
        semantic[box] = label
        offset[0][box], offset[1][box] = (cy - y[box]).float(), (cx - x[box]).float()
        distance = (y - cy) ** 2 + (x - cx) ** 2
        center[0] = torch.maximum(center[0], peak * torch.exp(-distance / (8 * scale**2)))
    logits = torch.nn.functional.one_hot(semantic, 3).permute(2, 0, 1) * 4.0
    return logits, center, offset


def predict(head, outputs, **meta):
    logits, center, offset = outputs
    meta.setdefault("img_shape", tuple(logits.shape[1:]))
    batch = CenterOffsetOutputs(center[None], offset[None])
    return head.predict(logits[None], batch, [meta])[0]


def test_ideal_outputs_give_ideal_segments():
    result = predict(make_head(), two_squares())
    segments = result["pred_panoptic_seg"].segments_info
    probability = torch.tensor([4.0, 0.0, 0.0]).softmax(0)[0].item()
    assert [(s["id"], s["label"], s["isthing"], s["area"], s["bbox"]) for s in segments] == [
        (1, 0, False, 24 * 32 - 128, [0, 0, 32, 24]),
        (2, 1, True, 64, [3, 2, 8, 8]),
        (3, 2, True, 64, [18, 12, 8, 8]),
    ]
    assert segments[0]["score"] == 1
    # The mean of eight rows is half a pixel before the peak; it is truncated.
    _, center, _ = two_squares()
    assert segments[1]["score"] == pytest.approx(probability * center[0, 5, 6].item(), rel=1e-5)
    index_map = result["pred_panoptic_seg"].index_map
    assert index_map.shape == (1, 24, 32)
    assert index_map.dtype == torch.int32
    assert index_map.unique().tolist() == [1, 2, 3]
    assert "pred_instances" not in result


@pytest.mark.parametrize(
    ("mode", "where", "expected"),
    [("center", "peak", 0.8), ("semantic", "centroid", 0.9647), ("product", "peak", 0.8 * 0.9647)],
)
def test_score_modes(mode, where, expected):
    result = predict(make_head(score_mode=mode, center_score=where), two_squares())
    score = result["pred_panoptic_seg"].segments_info[1]["score"]
    assert score == pytest.approx(expected, rel=1e-4)


# Odd ratios keep the peak on a pixel; even ones split it into a plateau of equal centres.
@pytest.mark.parametrize("ratio", [3, 5])
def test_resized_results_are_scaled_results(ratio):
    size = (24 * ratio, 32 * ratio)
    result = predict(make_head(), two_squares(), ori_shape=size)
    index_map = result["pred_panoptic_seg"].index_map[0]
    truth = predict(make_head(), two_squares())["pred_panoptic_seg"].index_map
    enlarged = truth[0].repeat_interleave(ratio, 0).repeat_interleave(ratio, 1)
    assert index_map.shape == size
    assert (index_map == enlarged).float().mean() > 0.99


def test_unscaled_offsets_are_an_option_for_parity():
    head, parity = make_head(), make_head(rescale_offsets=False)
    meta = {"img_shape": (24, 32), "ori_shape": (48, 96)}
    scaled = head.resize_outputs(*two_squares(), meta).offset
    raw = parity.resize_outputs(*two_squares(), meta).offset
    torch.testing.assert_close(scaled, raw * torch.tensor([2.0, 3.0])[:, None, None])


def test_padding_is_cut_off():
    logits, center, offset = (torch.nn.functional.pad(x, (0, 16, 0, 8)) for x in two_squares())
    padded = predict(make_head(), (logits, center, offset), img_shape=(24, 32))
    plain = predict(make_head(), two_squares())
    assert torch.equal(padded["pred_panoptic_seg"].index_map, plain["pred_panoptic_seg"].index_map)


def test_instances_have_masks_boxes_and_scores():
    result = predict(make_head(predict_instances=True), two_squares())
    instances = result["pred_instances"]
    index_map = result["pred_panoptic_seg"].index_map
    assert instances.labels.tolist() == [1, 2]
    assert instances.bboxes.tolist() == [[3, 2, 11, 10], [18, 12, 26, 20]]
    assert instances.masks.dtype == torch.bool
    assert torch.equal(instances.masks, torch.cat([index_map == 2, index_map == 3]))
    scores = [s["score"] for s in result["pred_panoptic_seg"].segments_info[1:]]
    assert instances.scores.tolist() == pytest.approx(scores)


@pytest.mark.parametrize("size", [(1, 1), (24, 32)])
@pytest.mark.parametrize("label", [0, 1])
def test_empty_results_are_well_formed(size, label):
    logits = torch.zeros(3, *size)
    logits[label] = 1
    head = make_head(predict_instances=True, stuff_area=10**6)
    result = predict(head, (logits, torch.zeros(1, *size), torch.zeros(2, *size)))
    assert result["pred_panoptic_seg"].segments_info == []
    assert result["pred_panoptic_seg"].index_map.abs().max() == 0
    assert (result["pred_sem_seg"].sem_seg == label).all()
    instances = result["pred_instances"]
    assert len(instances) == 0
    assert instances.masks.shape == (0, *size)
    assert instances.bboxes.shape == (0, 4)


def test_half_precision_and_autocast_equal_float32_inputs():
    outputs = [x.bfloat16() for x in two_squares()]
    expected = predict(make_head(), [x.float() for x in outputs], ori_shape=(30, 50))
    with torch.autocast("cpu", torch.bfloat16):
        actual = predict(make_head(), outputs, ori_shape=(30, 50))
    assert torch.equal(
        actual["pred_panoptic_seg"].index_map, expected["pred_panoptic_seg"].index_map
    )


@pytest.mark.parametrize(
    "kwargs", [{"nms_kernel": 4}, {"score_mode": "sum"}, {"center_score": "middle"}]
)
def test_bad_options_are_named(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        make_head(**kwargs)


def peak_memory_of_200_centres(out_scale: float) -> float:
    """MiB that post-processing adds to the network's outputs, in this process."""
    height, width, num_classes = 2048, 4096, 133
    logits = torch.rand(1, num_classes, height // 4, width // 4)
    logits[:, 1] = 2
    center = torch.zeros(1, 1, height // 4, width // 4)
    center[:, :, 12::25, 12::50] = 0.9
    offset = torch.zeros(1, 2, height // 4, width // 4)
    # Everything is a thing, with class borders at every fourth column of cells.
    logits[:, 2, :, ::4] = 3
    head = CenterGroupingHead(num_classes, THINGS, stride=4, stable_top_k=True)
    out_shape = (round(height * out_scale), round(width * out_scale))
    meta = {"img_shape": (height, width), "ori_shape": out_shape}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = head.predict(logits, CenterOffsetOutputs(center, offset), [meta])[0]
    assert len(result["pred_panoptic_seg"].segments_info) > 150
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


@pytest.mark.slow
@pytest.mark.parametrize("out_scale", [1, 0.9])
def test_memory_is_bounded_with_200_centres_at_2048x4096(out_scale):
    code = (
        "from tests.models.test_center_grouping import peak_memory_of_200_centres as f; "
        f"print(f({out_scale}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 256


def crafted(seed, centers=True):
    data = make_postprocess_inputs(
        seed, 48, 64, 12, num_classes=7, thing_ids=(4, 5, 6), sigma=2, label_noise=0.2
    )
    logits = torch.from_numpy(make_logits(seed, data["sem"], 7))
    return logits, torch.from_numpy(data["center"]) * centers, torch.from_numpy(data["offset"])


def fixed_sizes(head, monkeypatch):
    """Let a head take on the CPU the way that it takes on a GPU."""
    monkeypatch.setattr(head, "_sizes_are_fixed", lambda device: True)
    for name in ("count_values", "sum_values"):
        monkeypatch.setattr(segments, name, STRIPED[name])
    return head


STRIPED = {
    "count_values": lambda values, number: add_striped(
        values, torch.ones_like(values, dtype=torch.int32), number
    ),
    "sum_values": lambda values, owner, number: add_striped(owner, values, number),
}


@pytest.mark.parametrize("out_shape", [(48, 64), (192, 256), (90, 101)])
@pytest.mark.parametrize("centers", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_fixed_sizes_give_the_same_result(monkeypatch, seed, out_shape, centers):
    head = CenterGroupingHead(7, (4, 5, 6), stride=4, stuff_area=30, top_k=50)
    outputs = crafted(seed, centers)
    meta = {"img_shape": (191, 256), "ori_shape": out_shape}
    expected = predict(head, outputs, **meta)
    actual = predict(fixed_sizes(head, monkeypatch), outputs, **meta)
    maps = [r["pred_panoptic_seg"].index_map for r in (actual, expected)]
    assert torch.equal(*maps)
    assert torch.equal(*(r["pred_sem_seg"].sem_seg for r in (actual, expected)))
    pairs = zip(*(r["pred_panoptic_seg"].segments_info for r in (actual, expected)), strict=True)
    for mine, theirs in pairs:
        assert mine.pop("score") == pytest.approx(theirs.pop("score"), rel=1e-5)
        assert mine == theirs


def test_an_image_of_many_close_centres_is_grouped_again(monkeypatch):
    head = CenterGroupingHead(7, (4, 5, 6), stride=4, stuff_area=30, top_k=50)
    expected = predict(head, crafted(0), img_shape=(192, 256))["pred_panoptic_seg"]
    monkeypatch.setattr(centers_module, "LEVELS", ((64, 64), (16, 1), (4, 1)))
    again = []
    group = head.group
    monkeypatch.setattr(
        head, "group", lambda *a, **k: again.append(k.get("fixed")) or group(*a, **k)
    )
    actual = predict(fixed_sizes(head, monkeypatch), crafted(0), img_shape=(192, 256))
    assert again == [None, False]
    assert torch.equal(actual["pred_panoptic_seg"].index_map, expected.index_map)
    assert actual["pred_panoptic_seg"].segments_info == expected.segments_info


def test_nothing_on_a_gpu_waits_before_the_final_copy(monkeypatch):
    """Tensors without values: whatever needs one, or a size that depends on one, fails."""
    head = fixed_sizes(CenterGroupingHead(7, (4, 5, 6), stride=4, stuff_area=30), monkeypatch)
    copied = []
    monkeypatch.setattr(
        center_grouping, "list_segments", lambda maps, _: copied.extend(maps) or [[]]
    )
    with FakeTensorMode(allow_non_fake_inputs=True):
        outputs = [torch.empty(shape) for shape in ((7, 12, 16), (1, 12, 16), (2, 12, 16))]
        result = predict(head, outputs, img_shape=(47, 64), ori_shape=(60, 60))
    assert result["pred_panoptic_seg"].index_map.shape == (1, 60, 60)
    assert [rows.shape for rows in copied] == [(7 + 200, 8)]


@pytest.mark.gpu
def test_a_gpu_waits_once_and_gives_the_result_of_the_cpu(monkeypatch):
    head = CenterGroupingHead(7, (4, 5, 6), stride=4, stuff_area=30)
    meta = {"img_shape": (191, 256), "ori_shape": (192, 256)}
    expected = predict(head, crafted(0), **meta)["pred_panoptic_seg"]
    list_segments = center_grouping.list_segments

    def listen(*maps):
        torch.cuda.set_sync_debug_mode("default")
        return list_segments(*maps)

    monkeypatch.setattr(center_grouping, "list_segments", listen)
    head, outputs = head.to("cuda"), [x.to("cuda") for x in crafted(0)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        actual = predict(head, outputs, **meta)["pred_panoptic_seg"]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert (actual.index_map.cpu() == expected.index_map).float().mean() > 0.999
