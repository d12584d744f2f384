"""Every tool over one tiny model of every system: it works, or refuses in words."""

import importlib.util
import json

import pytest

from mmpanoptic.datasets.shapes import ShapesSettings, generate_shapes

from .load_tool import load_tool

SYSTEMS = {
    "Panoptic-DeepLab": "panoptic-deeplab_r18-tiny_1xb8-500_shapes",
    "DeepLabV3+": "deeplabv3plus_r18-tiny_1xb8-1k_shapes",
    "RAP": "rap_r18-tiny_relation-finetune_1xb8-2k_shapes",
    "OCFusion": "rap_r18-tiny_ocfusion-finetune_1xb8-2k_shapes",
    "COPS": "cops_r18-tiny_e2e_1xb8-200_shapes",
    "EfficientPS with Mask R-CNN": "efficientps-maskrcnn_b0-tiny_1xb8-600_shapes",
    "EfficientPS with SOLOv2": "efficientps-solov2_b0-tiny_1xb8-600_shapes",
    "SOLOv2": "solov2_r18-tiny_1xb8-1k_shapes",
    "Auto-Panoptic": "auto-panoptic_tiny_1xb8-500_shapes",
    "EoMT": "eomt_tiny_1xb8-1k_shapes",
    "Mask2Former": "mask2former_r18-tiny_1xb8-800_shapes",
}
METRICS = dict.fromkeys(SYSTEMS, "coco_panoptic/PQ")
METRICS.update({"DeepLabV3+": "semantic/mIoU", "SOLOv2": "coco/segm_AP"})
NO_PANOPTIC_MAP = {"SOLOv2"}
NO_FILES = {"DeepLabV3+"}
"""Systems whose metrics write no predictions."""
TWO_STAGE = {"RAP", "OCFusion", "EfficientPS with Mask R-CNN", "Auto-Panoptic"}
NO_EXPORT = dict.fromkeys(TWO_STAGE, "no network of a fixed shape to export")
NO_EXPORT["Mask2Former"] = "MSDeformAttnPixelDecoder reads the sizes of its maps from a tensor"
STEPS = 2
SIZE = (64, 96)
SIZES = {"EoMT": (192, 192)}
"""Images of systems that take one size only."""


def call(tool, *arguments):
    return load_tool(tool).main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A few images with relations."""
    root = tmp_path_factory.mktemp("systems") / "data"
    generate_shapes(root, {"train": 4, "val": 2}, ShapesSettings(SIZE[1], SIZE[0]))
    annotations = root / "annotations"
    files = (annotations / f"{kind}_train.json" for kind in ("instances", "panoptic"))
    rules = ("--matching", "segment_id", "--front", "depth", "--overlap-thr", 0.05)
    assert call("dataset_converters/coco_relations.py", *files, *rules, "--nproc", 1) == 0
    return root


def options(data):
    loaders = [f"{part}_dataloader.persistent_workers=False" for part in ("train", "val", "test")]
    return [
        *("--cfg-options", f"data_root={data}", f"max_iters={STEPS}", "warmup_iters=1"),
        *("batch_size=2", "num_workers=0", "load_from=None", *loaders),
        f"checkpoint_interval={STEPS}",
    ]


class System:
    """A trained model of one system.

    Attributes:
        name (str): Of the system.
        config (str): Its config.
        folder (Path): Holds the run's folder ``work`` and what tools write.
        checkpoint (Path): After two steps of training.
        data (Path): The dataset.
        size (tuple[int, int]): Of the images that the network takes.
    """

    def __init__(self, name, folder, data):
        self.name, self.config, self.folder, self.data = name, SYSTEMS[name], folder, data
        self.checkpoint = folder / "work" / f"iter_{STEPS}.pth"
        self.model = (self.config, self.checkpoint)
        self.options = options(data)
        self.size = SIZES.get(name, SIZE)


@pytest.fixture(scope="module", params=SYSTEMS)
def system(request, tmp_path_factory, data):
    """The system, after ``train.py``."""
    system = System(request.param, tmp_path_factory.mktemp("a system"), data)
    line = ("--work-dir", system.folder / "work", "--no-validate", "--seed", 0, *system.options)
    assert call("train.py", system.config, *line) == 0
    assert system.checkpoint.is_file()
    return system


def test_test(system, run_tool):
    line = ("test.py", *system.model, "--work-dir", "work", "--out-dir", "out")
    if system.name in NO_FILES:
        done = run_tool(*line, *system.options, status=1)
        assert "need a metric that writes files" in done.stderr
        line = line[:-2]
    run_tool(*line, *system.options)
    (log,) = (run_tool.folder / "work").glob("*/*.json")
    assert METRICS[system.name] in json.loads(log.read_text().splitlines()[-1])
    if system.name not in NO_FILES:
        kind = "segm" if system.name in NO_PANOPTIC_MAP else "panoptic"
        assert (run_tool.folder / "out" / f"predictions.{kind}.json").is_file()


def test_infer_and_browse_predictions(system, run_tool):
    images = system.data / "val"
    line = ("infer.py", images, *system.model, "--device", "cpu")
    if system.name in NO_PANOPTIC_MAP:
        done = run_tool(*line, status=1)
        assert "predicts instances alone" in done.stderr
        assert "tools/save_instances.py" in done.stderr
        return
    assert "2 images done, 0 left out" in run_tool(*line).stdout
    truth, found = system.data / "annotations" / "panoptic_val.json", "outputs/panoptic.json"
    assert len(json.loads((run_tool.folder / found).read_text())["images"]) == 2
    line = (truth, found, images, "--out-dir", "gallery")
    run_tool("analysis_tools/browse_predictions.py", *line)
    assert (run_tool.folder / "gallery" / "index.html").is_file()


def test_benchmark(system, run_tool):
    line = ("--images", system.data / "val", "--num", 1, "--warmup", 0, "--device", "cpu")
    run_tool("analysis_tools/benchmark.py", *system.model, *line, "--json", "b.json")
    times = json.loads((run_tool.folder / "b.json").read_text())["milliseconds"]
    assert list(times) == ["decode", "preprocess", "network", "postprocess", "total"]
    assert all(row["p50"] > 0 for row in times.values())


def test_benchmark_train(system, run_tool):
    line = (
        "--size",
        *system.size,
        "--batch-size",
        1,
        "--iters",
        1,
        "--warmup",
        0,
        "--device",
        "cpu",
    )
    run_tool("analysis_tools/benchmark_train.py", system.config, *line, "--json", "t.json")
    (row,) = json.loads((run_tool.folder / "t.json").read_text())["figures"]
    assert row["train"] > 0
    assert row["inference"] > 0


def test_the_operations_of_the_parts_add_up_to_the_whole(system, run_tool):
    line = ("--size", *system.size, "--depth", 2, "--device", "cpu", "--json", "f.json")
    run_tool("analysis_tools/get_flops.py", system.config, *line)
    rows = json.loads((run_tool.folder / "f.json").read_text())["parts"]
    parts = {row["part"]: row for row in rows}
    whole = parts.pop("total")
    assert whole["flops"] > 0
    for figure in ("parameters", "flops"):
        top = [row for name, row in parts.items() if "." not in name and "(" not in name]
        top += [parts["(rest)"]] if "(rest)" in parts else []
        assert sum(row[figure] for row in top) == whole[figure]
        for name, row in parts.items():
            below = [
                other[figure]
                for key, other in parts.items()
                if key == f"{name} (rest)" or key.rpartition(".")[0] == name
            ]
            assert not below or sum(below) == row[figure], name
    if system.name in TWO_STAGE:
        assert parts["roi_head.bbox_head"]["flops"] > 0
        assert parts["roi_head"]["flops"] >= parts["roi_head.bbox_head"]["flops"]


def test_print_config(system, run_tool):
    done = run_tool("analysis_tools/print_config.py", system.config, *system.options)
    assert f"data_root = {str(system.data)!r}  # --cfg-options" in done.stdout
    counts = [line for line in done.stdout.splitlines() if "num_classes = " in line]
    assert counts
    assert not any("$" in line.partition("  # ")[0] for line in counts)


def test_export(system, run_tool):
    line = ("export_onnx.py", *system.model, "m.onnx", "--size", *system.size)
    if system.name in NO_EXPORT:
        assert NO_EXPORT[system.name] in run_tool(*line, status=1).stderr
        assert not (run_tool.folder / "m.onnx").exists()
        return
    missing = [p for p in ("onnx", "onnxscript", "onnxruntime") if not importlib.util.find_spec(p)]
    if missing:
        assert f"pip install {' '.join(missing)}" in run_tool(*line, status=1).stderr
        return
    assert "largest relative difference" in run_tool(*line).stdout
    assert (run_tool.folder / "m.onnx").is_file()
