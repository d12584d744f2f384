"""Steps of the graph against the code that they restate."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)

from mmpanoptic.datasets.transforms.color import StretchContrast  # noqa: E402
from mmpanoptic.datasets.transforms.pillow_resize import resize_image as pillow  # noqa: E402
from mmpanoptic.datasets.transforms.resize import SIZE_RULES  # noqa: E402
from mmpanoptic.deployment import center_grouping, logit_contest, painting, solov2  # noqa: E402
from mmpanoptic.deployment.detection import Instances, suppress  # noqa: E402
from mmpanoptic.deployment.errors import ExportError  # noqa: E402
from mmpanoptic.deployment.preparation import (  # noqa: E402
    Resizing,
    Stretching,
    prepare,
    read_pipeline,
    resize_image,
    resized_size,
    stretch,
)
from mmpanoptic.deployment.segments import enlarge_exactly  # noqa: E402
from mmpanoptic.models.data_preprocessors import PanopticDataPreprocessor  # noqa: E402
from mmpanoptic.models.fusion_heads import (  # noqa: E402
    AdaptiveLogitFusionHead,
    CenterGroupingHead,
    HeuristicFusionHead,
    LabelResizeFusionHead,
    OcclusionFusionHead,
    RelationFusionHead,
    SOLOv2FusionHead,
)
from mmpanoptic.models.instance_heads import CenterOffsetOutputs  # noqa: E402
from mmpanoptic.models.layers import (  # noqa: E402
    PairQuery,
    resize_bilinear,
    upsample_to_image,
)

from .graphs import Size, compare, maps, run_steps, sizes_of  # noqa: E402

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 255, (61, 83, 3), np.uint8)


@pytest.mark.parametrize("rule", ["round", "detectron"])
@pytest.mark.parametrize("limit", [None, 1333])
def test_sizes_are_those_of_the_pipeline(rule, limit):
    shapes = [(480, 640), (640, 480), (1200, 300), (800, 1000), (333, 334), (37, 2011)]

    def build(steps, size):
        sides = (steps.op.Gather(size, steps.constant(axis)) for axis in (0, 1))
        found = resized_size(steps, Size(*sides), Resizing(800, limit, "pillow", rule))
        return [steps.vector(*found.both())]

    for shape in shapes:
        (found,) = run_steps(build, size=np.array(shape, np.int64))
        assert tuple(found) == SIZE_RULES[rule](*shape, 800, limit)


def resized(image, size, backend):
    def build(steps, planes):
        sides = Size(*(steps.constant(side) for side in size))
        return [resize_image(steps, planes, sides, backend)]

    (found,) = run_steps(build, planes=image.transpose(2, 0, 1)[None].copy())
    return found[0].transpose(1, 2, 0)


@pytest.mark.parametrize("old", [(64, 80), (7, 200), (1, 2)])
@pytest.mark.parametrize("size", [(45, 60), (80, 100), (100, 131), (61, 40), (9, 3), (1, 1)])
def test_images_are_resized_as_pillow_does_to_the_bit(old, size):
    """Sizes of which many pixels lie half-way between two grey levels are among them."""
    image = np.random.default_rng(3).integers(0, 256, (*old, 3), np.uint8)
    np.testing.assert_array_equal(resized(image, size, "pillow"), pillow(image, size))


@pytest.mark.parametrize("size", [(45, 60), (100, 131), (61, 40)])
def test_images_are_resized_nearly_as_opencv_does(size):
    found = resized(PHOTO, size, "cv2")
    difference = np.abs(found.astype(int) - cv2.resize(PHOTO, size[::-1]).astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.2


@pytest.mark.parametrize("image", [PHOTO // 3 + 20, np.full((5, 6, 3), 7, np.uint8)])
def test_contrast_is_stretched_as_in_the_pipeline(image):
    def build(steps, planes):
        return [stretch(steps, planes, Stretching(0.1, 99.9))]

    (found,) = run_steps(build, planes=image.transpose(2, 0, 1)[None].copy())
    expected = StretchContrast().transform({"img": image})["img"]
    np.testing.assert_array_equal(found[0].transpose(1, 2, 0), expected)


@pytest.mark.parametrize("options", [{}, {"pad_colour": "black", "bgr_to_rgb": False}])
def test_images_are_normalised_and_padded(options):
    preprocessor = PanopticDataPreprocessor(pad_size_divisor=32, **options)

    def build(steps, image):
        prepared = prepare(steps, image, [], preprocessor, 32)
        return prepared.inputs, steps.vector(*prepared.padded.both())

    inputs, padded = run_steps(build, image=PHOTO)
    bgr = torch.from_numpy(PHOTO[..., ::-1].transpose(2, 0, 1).copy())
    expected = preprocessor({"inputs": [bgr], "data_samples": None})["inputs"]
    assert tuple(padded) == (64, 96)
    np.testing.assert_allclose(inputs, expected.numpy(), atol=1e-6)


def test_a_step_without_counterpart_is_named():
    steps = [{"type": "LoadImage"}, {"type": "ColorJitter"}, {"type": "PackPanopticInputs"}]
    with pytest.raises(ExportError, match="the step ColorJitter, which has no counterpart"):
        read_pipeline(steps)


@pytest.mark.parametrize("offset", [0, 1])
def test_suppression_is_that_of_mmcv(offset):
    from mmcv.ops import batched_nms

    corners = RNG.random((200, 2)).astype(np.float32) * 50
    boxes = np.concatenate([corners, corners + 5 + 20 * RNG.random((200, 2))], 1)
    boxes = boxes.astype(np.float32)
    scores = RNG.random(200).astype(np.float32)
    groups = RNG.integers(0, 3, 200)
    options = {"type": "nms", "iou_threshold": 0.5, "offset": offset}

    def build(steps, boxes, scores, groups):
        return [suppress(steps, boxes, scores, groups, options)]

    (found,) = run_steps(build, boxes=boxes, scores=scores, groups=groups)
    tensors = (torch.from_numpy(part) for part in (boxes, scores, groups))
    np.testing.assert_array_equal(found, batched_nms(*tensors, options)[1])


# PyTorch's rounding is that of its build and of the processor; elsewhere values only agree nearly.
SAME_ROUNDING = torch.__version__.startswith("2.13.") and (
    torch.backends.cpu.get_cpu_capability() == "AVX2"
)


@pytest.mark.parametrize(
    ("cells", "image", "result"),
    [
        ((16, 24), (61, 93), (61, 93)),
        ((16, 24), (61, 93), (50, 200)),
        ((8, 8), (30, 29), (90, 88)),  # the first step makes a small map, of four cells at once
        ((40, 24), (159, 90), (70, 58)),
        ((8, 16), (20, 60), (40, 13)),
    ],
)
def test_heatmaps_are_enlarged_with_the_rounding_of_pytorch(cells, image, result):
    center = torch.rand(1, 1, *cells, generator=torch.Generator().manual_seed(4))

    def build(steps, image, result, center):
        prepared = sizes_of(steps, image, result)
        return [enlarge_exactly(steps, center, 4, prepared.image, prepared.result)]

    (found,) = run_steps(build, **maps(image, result), center=center.numpy())
    expected = resize_bilinear(upsample_to_image(center, 4, image), result)[0, 0].numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    if SAME_ROUNDING:
        np.testing.assert_array_equal(found, expected)


def smooth(generator, channels, cells, factor):
    coarse = torch.randn(1, channels, 4, 5, generator=generator) * factor
    return torch.nn.functional.interpolate(coarse, cells, mode="bilinear")


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({}, ((50, 70), (50, 70))),
        ({"score_mode": "semantic", "top_k": 5}, ((50, 60), (75, 90))),
        ({"stable_top_k": True, "top_k": 5, "center_score": "peak"}, ((61, 61), (40, 40))),
        ({"threshold": 2.0}, ((50, 70), (50, 70))),
    ],
)
def test_centres_are_grouped_as_in_pytorch(options, sizes):
    options = {"stuff_area": 20, "top_k": 20, **options}
    head = CenterGroupingHead(5, [3, 4], **options)
    generator = torch.Generator().manual_seed(3)
    image, result = sizes
    cells = tuple(-(-side // 4) for side in image)
    semantic = smooth(generator, 5, cells, 3)
    center = torch.rand(1, 1, *cells, generator=generator) ** 3
    if not SAME_ROUNDING:  # beyond the outermost cells a map is flat, and rounding chooses the peak
        center[..., :2, :] = center[..., -3:, :] = center[..., :2] = center[..., -3:] = 0
    offset = torch.randn(1, 2, *cells, generator=generator) * 2
    meta = {"img_shape": image, "ori_shape": result}
    (expected,) = head.predict(semantic, CenterOffsetOutputs(center, offset), [meta])

    def build(steps, image, result, semantic, center, offset):
        prepared = sizes_of(steps, image, result)
        return center_grouping.group(steps, head, prepared, semantic, center, offset)

    arrays = {"semantic": semantic, "center": center, "offset": offset}
    arrays = {name: value.numpy() for name, value in arrays.items()}
    found = run_steps(build, **maps(*sizes), **arrays)
    assert compare(found, expected["pred_panoptic_seg"]) >= 2


def instances(generator, count, size, side=14):
    corners = torch.rand(count, 2, generator=generator) * torch.tensor([size[1], size[0]]) * 0.7
    boxes = torch.cat([corners, corners + 8 + 20 * torch.rand(count, 2, generator=generator)], 1)
    logits = torch.randn(count, 1, 5, 5, generator=generator) * 3 + 2
    logits = torch.nn.functional.interpolate(logits, (side, side), mode="bilinear")[:, 0]
    return InstanceData(
        bboxes=boxes,
        scores=torch.rand(count, generator=generator),
        labels=torch.randint(0, 2, (count,), generator=generator),
        mask_logits=logits,
    )


THINGS = {"thing_labels": [3, 4], "stuff_labels": [0, 1, 2], "stuff_area": 20}
PAINTERS = {
    "score": HeuristicFusionHead(**THINGS, score_thr=0.2),
    "area": HeuristicFusionHead(
        **THINGS, score_thr=0.2, order="area", area_order_thr=0.5, min_visible=0.4
    ),
    "legacy, squash": HeuristicFusionHead(
        **THINGS, score_thr=0.2, mask_mode="legacy", pad_handling="squash"
    ),
    "labels": LabelResizeFusionHead(**THINGS, score_thr=0.2),
    "relation": RelationFusionHead(**THINGS, score_thr=0.2),
    "nothing found": HeuristicFusionHead(**THINGS, score_thr=2.0),
    "occlusion": OcclusionFusionHead(**THINGS, score_thr=0.2),
}


@pytest.mark.parametrize("name", PAINTERS)
def test_instances_are_painted_as_in_pytorch(name):
    head = PAINTERS[name]
    generator = torch.Generator().manual_seed(5)
    image, result = (48, 60), (60, 75)
    logits = smooth(generator, 5, (16, 16), 3)
    found = instances(generator, 12, result)
    found.relation_values = torch.randn(12, generator=generator)
    first, second = torch.randn(2, 12, 1, 2, 2, generator=generator)
    found.occlusion = PairQuery(torch.stack([first, second], 1), ask)
    meta = {"img_shape": image, "ori_shape": result, "batch_input_shape": (64, 64)}
    (expected,) = head.predict(logits, [found], [meta])

    def build(steps, image, result, padded, logits, boxes, scores, labels, masks, **more):
        prepared = sizes_of(steps, image, result)
        padded = Size(steps.dim(padded, 0), steps.dim(padded, 1))
        prepared = type(prepared)(None, prepared.image, padded, prepared.result)
        extra = {"relation": more["relation"], "first": more["one"], "second": more["two"]}
        kept = Instances(boxes, scores, labels, masks, 14, extra)

        def pairs(a, b):
            mixed = steps.op.Sigmoid(steps.op.Sub(a, b))
            return [steps.op.ReduceMean(mixed, steps.constant([1, 2, 3]), keepdims=0)]

        return painting.fuse(steps, head, prepared, logits, kept, pairs)

    found_map = run_steps(
        build,
        **maps(image, result),
        padded=np.zeros((64, 64), np.uint8),
        logits=logits.numpy(),
        boxes=found.bboxes.numpy(),
        scores=found.scores.numpy(),
        labels=found.labels.numpy(),
        masks=found.mask_logits.numpy(),
        relation=found.relation_values.numpy(),
        one=first.numpy(),
        two=second.numpy(),
    )
    count = compare(found_map, expected["pred_panoptic_seg"])
    assert count >= (1 if name == "nothing found" else 4)


def ask(feats, pairs):
    mixed = (feats[pairs[:, 0], 0] - feats[pairs[:, 1], 1]).sigmoid()
    return mixed.mean((1, 2, 3))


@pytest.mark.parametrize(
    "options", [{}, {"inst_logit_scale": 4.0, "legacy_windows": True}, {"score_thr": 2.0}]
)
def test_instances_and_stuff_compete_as_in_pytorch(options):
    options = {"score_thr": 0.2, "stuff_area": 20, **options}
    head = AdaptiveLogitFusionHead(5, [3, 4], **options)
    generator = torch.Generator().manual_seed(7)
    image, result = (48, 60), (60, 75)
    logits = smooth(generator, 5, (16, 16), 2)
    found = instances(generator, 12, result)
    meta = {"img_shape": image, "ori_shape": result}
    (expected,) = head.predict(logits, [found], [meta])

    def build(steps, image, result, logits, boxes, scores, labels, masks):
        kept = Instances(boxes, scores, labels, masks, 14, {})
        return logit_contest.fuse_boxes(steps, head, sizes_of(steps, image, result), logits, kept)

    arrays = {
        "boxes": found.bboxes,
        "scores": found.scores,
        "labels": found.labels,
        "masks": found.mask_logits,
    }
    arrays = {name: value.numpy() for name, value in arrays.items()}
    found_map = run_steps(build, **maps(image, result), logits=logits.numpy(), **arrays)
    assert compare(found_map, expected["pred_panoptic_seg"]) >= 2


def test_what_the_graph_cannot_do_is_refused_by_name():
    head = AdaptiveLogitFusionHead(5, [3, 4], legacy_zero_outside=True)
    with pytest.raises(ExportError, match="legacy_zero_outside"):
        logit_contest.compete(None, head, None, None, None, None, None)


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
@pytest.mark.parametrize("fused", [True, False])
def test_solov2_selects_as_in_pytorch(fused, kernel):
    contest = {
        "type": "AdaptiveLogitFusionHead",
        "num_classes": 5,
        "thing_labels": [3, 4],
        "score_thr": 0.1,
        "stuff_area": 20,
    }
    head = SOLOv2FusionHead(
        [3, 4],
        num_grids=(6, 4),
        strides=(8, 8),
        score_thr=0.3,
        nms_pre=30,
        kernel=kernel,
        fusion=contest if fused else None,
    )
    generator = torch.Generator().manual_seed(2)
    image, result, cells = (48, 60), (60, 75), (16, 16)
    outputs = [
        torch.randn(1, 2, 52, generator=generator) * 2,
        torch.randn(1, 4, 52, generator=generator) * 2,
        smooth(generator, 4, cells, 1.5),
    ]
    semantic = smooth(generator, 5, cells, 3)
    meta = {"img_shape": image, "ori_shape": result}
    (expected,) = head.predict(semantic, outputs, [meta])

    def build(steps, image, result, semantic, one, two, three):
        prepared = sizes_of(steps, image, result)
        return solov2.fuse(steps, head, prepared, [one, two, three], semantic)

    arrays = dict(zip(("one", "two", "three"), (part.numpy() for part in outputs), strict=True))
    ids, rows = run_steps(build, **maps(image, result), semantic=semantic.numpy(), **arrays)
    if fused:
        assert compare((ids, rows), expected["pred_panoptic_seg"]) >= 4
        return
    owner = np.zeros(result, int)
    for number, mask in enumerate(expected["pred_instances"].masks.numpy(), 1):
        owner[mask & (owner == 0)] = number
    seen = np.unique(owner[owner > 0])
    assert len(rows) == len(seen) >= 4
    assert ((ids > 0) == (owner > 0)).mean() >= 0.999
    np.testing.assert_allclose(
        rows[:, 1], expected["pred_instances"].scores.numpy()[seen - 1], atol=1e-5
    )
    assert [int(row) for row in rows[:, 0]] == expected["pred_instances"].labels[seen - 1].tolist()
