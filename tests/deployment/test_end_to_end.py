"""Whole models: exported, read without torch, compared with PyTorch."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)

import onnx_ir as ir  # noqa: E402

from mmpanoptic.apis import init_model  # noqa: E402
from mmpanoptic.apis.onnx_export import export_end_to_end  # noqa: E402
from mmpanoptic.apis.stacked_instances import StackingInferencer  # noqa: E402
from mmpanoptic.deployment.errors import ExportError  # noqa: E402
from mmpanoptic.deployment.precision import check_precision, save_graph  # noqa: E402
from mmpanoptic.models.fusion_heads import RelationFusionHead  # noqa: E402
from mmpanoptic.ops.amwc import is_available  # noqa: E402
from mmpanoptic.runtime import ModelFileError, PanopticRuntime  # noqa: E402

NO_DATA = {"data_root": "no such folder"}
LOW = {
    "model.test_cfg.rcnn.score_thr": 0.0,
    "model.fusion_head.score_thr": 0.12,
    "load_from": None,
}
"""Random weights find segments where thresholds are low."""
LOW_SOLO = {"model.fusion_head.score_thr": 0.0, "model.fusion_head.filter_thr": 0.0}
LOW_AREA = {"model.fusion_head.stuff_area": 64, "model.fusion_head.instance_area": 64}
SYSTEMS = {
    "Panoptic-DeepLab": ("nuclei", None, None),
    "COPS": ("cops_r18-tiny_e2e_1xb8-200_shapes", LOW_AREA, (64, 96)),
    "RAP": ("rap_r18-tiny_relation-finetune_1xb8-2k_shapes", LOW, None),
}
SLOW = {
    "Panoptic FPN": ("panoptic-fpn_r18-tiny_1xb8-1k_shapes", LOW, None),
    "OCFusion": ("rap_r18-tiny_ocfusion-finetune_1xb8-2k_shapes", LOW, None),
    "EfficientPS, Mask R-CNN": ("efficientps-maskrcnn_b0-tiny_1xb8-600_shapes", LOW, None),
    "EfficientPS, SOLOv2": ("efficientps-solov2_b0-tiny_1xb8-600_shapes", LOW_SOLO, None),
    "SOLOv2": ("solov2_r18-tiny_1xb8-1k_shapes", LOW_SOLO, None),
    "Auto-Panoptic": ("auto-panoptic_tiny_1xb8-500_shapes", LOW, None),
    "DeepLabV3+": ("deeplabv3plus_r18-tiny_1xb8-1k_shapes", {}, None),
}


def photos(count=20, size=None):
    """Smooth images; of several sizes unless one is given."""
    generator = torch.Generator().manual_seed(0)
    images = []
    for number in range(count):
        # Where nothing is padded, rounding decides about centres at the border.
        height, width = size or (61 + number % 3 * 17, 93 + number % 4 * 13)
        coarse = torch.rand(1, 3, 6, 8, generator=generator) * 255
        image = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
        images.append(image[0].permute(1, 2, 0).numpy().astype(np.uint8))
    return images


def spread(model):
    """Let the predictors of random weights say different things of different pixels."""
    heads = [model.semantic_head, *model.instance_head.classifiers]
    with torch.no_grad():
        for head in heads:
            head.predictor.weight *= 500
        outputs = model.forward_heads(torch.randn(1, 3, 64, 96))
        for head, logits in zip(heads, (outputs.semantic, *outputs.instance.logits), strict=True):
            head.predictor.bias -= logits.mean((0, 2, 3))


def exported(name, folder):
    """Export a system; give its runtime, what PyTorch finds, and the images."""
    config, options, size = {**SYSTEMS, **SLOW}[name]
    torch.manual_seed(0)
    model = init_model(config, None, "cpu", None if options is None else {**NO_DATA, **options})
    if name == "COPS":
        spread(model)
    images = photos(size=size)
    expected = StackingInferencer.of_model(model)(images)
    export_end_to_end(model, folder / "model", size)
    return PanopticRuntime(folder / "model", threads=1), expected, images


@pytest.fixture(scope="module")
def systems(tmp_path_factory):
    """One export for each system and module."""
    made = {}

    def get(name):
        if name == "COPS" and not is_available():
            pytest.skip("the AMWC solver is not built")
        if name not in made:
            made[name] = exported(name, tmp_path_factory.mktemp("system"))
        return made[name]

    return get


@pytest.mark.parametrize(
    "name", [*SYSTEMS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_twenty_images_give_the_maps_of_pytorch(systems, name):
    runtime, expected, images = systems(name)
    found = runtime(images)
    # Ids may be exchanged where rounding decides which segment comes first.
    same = [
        float((a.panoptic_seg == b.panoptic_seg).mean())
        for a, b in zip(found, expected, strict=True)
    ]
    assert np.mean(same) >= 0.999, same
    assert sum(len(result.segments_info) for result in expected) >= 20
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.names == theirs.names
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-3)
        for one, other in zip(ours.segments_info, theirs.segments_info, strict=True):
            keys = ("id", "category_id", "label", "isthing")
            assert [one[key] for key in keys] == [other[key] for key in keys]
            assert abs(one["area"] - other["area"]) <= max(0.01 * other["area"], 2)


def test_a_file_of_any_size_and_one_of_a_fixed_size(systems):
    runtime, _, _ = systems("RAP")
    sizes = {result.panoptic_seg.shape for result in runtime(photos(3))}
    assert len(sizes) == 3
    if not is_available():
        pytest.skip("the AMWC solver is not built")
    fixed, _, _ = systems("COPS")
    with pytest.raises(ValueError, match="exported for images of 64 x 96 pixels"):
        fixed(np.zeros((65, 96, 3), np.uint8))


def test_results_are_saved_and_read_from_files(systems, tmp_path):
    from PIL import Image

    runtime, _, images = systems("RAP")
    Image.fromarray(images[0][..., ::-1]).save(tmp_path / "photo.png")
    (result,) = runtime(tmp_path / "photo.png")
    (same,) = runtime(images[0])
    np.testing.assert_array_equal(result.panoptic_seg, same.panoptic_seg)
    png, text = result.save(tmp_path / "out", overlay=False)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert len(json.loads(text.read_text())["annotations"][0]["segments_info"]) == len(
        result.segments_info
    )


def test_wrong_inputs_are_refused(systems, tmp_path):
    runtime, _, _ = systems("RAP")
    with pytest.raises(ValueError, match=r"must be uint8 \(H, W, 3\)"):
        runtime(np.zeros((4, 4), np.uint8))
    with pytest.raises(FileNotFoundError, match="there is no image"):
        runtime(tmp_path / "nothing.jpg")
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ValueError, match="cannot be decoded"):
        runtime(tmp_path / "text.jpg")
    with pytest.raises(TypeError, match="expected an image"):
        runtime(3)


def test_wrong_folders_are_refused(systems, tmp_path):
    runtime, _, _ = systems("RAP")
    with pytest.raises(FileNotFoundError, match=r"no \.onnx file"):
        PanopticRuntime(tmp_path)
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"model\.json is missing"):
        PanopticRuntime(graph)
    facts = dict(runtime.file.facts)
    for change, message in (({"format": 9}, "format 9"), ({"kind": "x"}, "kind='x'")):
        (tmp_path / "model.json").write_text(json.dumps({**facts, **change}))
        with pytest.raises(ModelFileError, match=message):
            PanopticRuntime(graph)


@pytest.mark.parametrize(
    ("precision", "size", "same"), [("fp16", 0.75, 0.999), ("int8", 0.5, 0.98)]
)
def test_smaller_weights_make_a_smaller_file(systems, tmp_path, precision, size, same):
    """The graph of `nuclei`, whose PQ was measured with both; most pixels stay what they are."""
    runtime, expected, images = systems("Panoptic-DeepLab")
    path = runtime.file.graph
    save_graph(ir.load(path), tmp_path / "model.onnx", precision)
    (tmp_path / "model.json").write_text(path.with_suffix(".json").read_text())
    assert (tmp_path / "model.onnx").stat().st_size < size * path.stat().st_size
    found = PanopticRuntime(tmp_path, threads=1)(images)
    equal = [(classes(a) == classes(b)).mean() for a, b in zip(found, expected, strict=True)]
    assert np.mean(equal) > same


def classes(result):
    return np.concatenate([[-1], result.labels])[result.panoptic_seg]


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_smaller_weights_are_refused_where_their_quality_is_not_known(precision):
    head = RelationFusionHead(thing_labels=[1], stuff_labels=[0])
    with pytest.raises(ExportError, match=rf"RelationFusionHead .*--precision {precision} .*fp32$"):
        check_precision(head, precision)
    check_precision(head, "fp32")


LIGHT = """
import sys, time, numpy as np
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"{{name}} is absent here", name=name)
sys.meta_path.insert(0, Absent())
from mmpanoptic.runtime import PanopticRuntime
runtime = PanopticRuntime({model!r}, threads=1)
(result,) = runtime(np.full((64, 96, 3), 90, np.uint8))
result.save({out!r}, overlay=False)
print(len(result.segments_info), " ".join(sorted({{name.split(".")[0] for name in sys.modules}})))
"""
ABSENT = ["torch", "mmengine", "mmcv", "mmdet", "mmseg", "cv2", "pycocotools", "msgspec", "rich"]


@pytest.mark.parametrize("name", ["RAP", "COPS"])
def test_the_runtime_needs_numpy_onnxruntime_and_pillow_alone(systems, tmp_path, name):
    """Everything else of the package's requirements is made to be absent."""
    runtime, _, _ = systems(name)
    code = LIGHT.format(model=str(runtime.file.graph), out=str(tmp_path / "out"), absent=ABSENT)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    count, *modules = done.stdout.split()
    assert int(count) > 0
    assert not set(modules) & set(ABSENT)
    assert {"numpy", "onnxruntime"} <= set(modules)


def test_padding_that_depends_on_open_sizes_is_refused():
    options = {**NO_DATA, "model.data_preprocessor.pad_size_divisor": 8}
    model = init_model("efficientps-solov2_b0-tiny_1xb8-600_shapes", None, "cpu", options)
    with pytest.raises(ExportError, match=r"multiples of its stride \(2, 2\): set .* --size"):
        export_end_to_end(model, None)


def test_models_without_a_way_are_refused():
    model = init_model("eomt_tiny_1xb8-1k_shapes", None, "cpu", NO_DATA) if _guests() else None
    if model is None:
        pytest.skip("transformers is not installed")
    with pytest.raises(ExportError, match=r"MaskSetFusionHead .* has no counterpart"):
        export_end_to_end(model, None)


def _guests():
    from importlib.util import find_spec

    return find_spec("transformers") is not None
