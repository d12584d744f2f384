"""The tutorials: their files and configs, taken from the pages, train and test on tiny data."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmpanoptic.datasets.shapes import ShapesSettings, generate_shapes

from .tools.load_tool import load_tool

ROOT = Path(__file__).parent.parent
TUTORIALS = ROOT / "docs" / "tutorials"
EXAMPLES = ROOT / "examples"
TINY = ["max_iters=2", "warmup_iters=1", "batch_size=2", "num_workers=0", "val_interval=2"]


def blocks(page, language="python"):
    """Code blocks of a page."""
    text = (TUTORIALS / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def config_of(page):
    """The one config that a page shows."""
    (found,) = [block for block in blocks(page) if "_base_" in block]
    return found


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes")
    generate_shapes(root, {"train": 4, "val": 2}, ShapesSettings(96, 64))
    return root


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A reader's folder, from which Python imports, as with PYTHONPATH=."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


def run(capsys, tool, *arguments):
    """Run a command in this process; return what it says."""
    capsys.readouterr()
    status = load_tool(tool).main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert status == 0, out + err
    return out


def train(capsys, page, folder, data):
    """Do what a page says: save its file and its config, train with it."""
    shutil.copy(EXAMPLES / f"{page}.py", folder)
    (folder / "my_config.py").write_text(config_of(page))
    options = [f"data_root={data}", *TINY]
    run(capsys, "train.py", "my_config.py", "--cfg-options", *options)
    (log,) = (folder / "work_dirs/my_config").glob("*/*.log")
    return log.read_text(encoding="utf-8")


def test_every_page_includes_its_whole_file_and_is_in_the_index():
    pages = {path.stem for path in TUTORIALS.glob("*.md")} - {"index"}
    index = (TUTORIALS / "index.md").read_text(encoding="utf-8")
    for page in pages:
        assert re.search(rf"^{page}$", index, re.MULTILINE), f"{page} is not in the index"
    for path in EXAMPLES.glob("*.py"):
        if path.stem in pages:
            text = (TUTORIALS / f"{path.stem}.md").read_text(encoding="utf-8")
            assert f"literalinclude}} ../../examples/{path.name}" in text


def test_a_head_of_ones_own_trains_and_the_run_is_a_model(reader, shapes, capsys):
    log = train(capsys, "own_head", reader, shapes)
    assert "loss_semantic" in log
    assert "SumHead" in log
    text = run(capsys, "test.py", "work_dirs/my_config")
    assert "Panoptic quality by class" in text


def test_a_fusion_of_ones_own_finds_the_parts_of_things(reader, shapes, capsys):
    import torch

    log = train(capsys, "own_fusion", reader, shapes)
    assert "coco_panoptic/PQ" in log
    from own_fusion import ConnectedPartsHead

    head = ConnectedPartsHead(3, thing_labels=[1, 2], stride=1, min_area=2, stuff_area=1)
    classes = torch.tensor([[1, 1, 0, 1], [1, 1, 0, 1], [0, 0, 0, 0], [2, 2, 0, 1]])
    logits = torch.nn.functional.one_hot(classes, 3).permute(2, 0, 1)[None].float()
    (result,) = head.predict(logits, None, [{"img_shape": (4, 4), "ori_shape": (4, 4)}])
    found = result["pred_panoptic_seg"].segments_info
    areas = sorted((s["label"], s["area"]) for s in found)
    assert areas == [(0, 7), (1, 2), (1, 4), (2, 2)], "the single pixel is void"


def test_a_metric_of_ones_own_counts(reader, shapes, capsys):
    log = train(capsys, "own_metric", reader, shapes)
    assert "count/error" in log
    from own_metric import CountErrorMetric

    metric = CountErrorMetric()
    metric.dataset_meta = {"classes": ("a", "b"), "dataset_ids": [1, 2], "isthing": [1, 0]}
    truth = [{"label": 0, "iscrowd": crowd} for crowd in (0, 0, 1)] + [{"label": 1, "iscrowd": 0}]
    for index, count in enumerate((0, 5)):
        predicted = {"segments_info": [{"label": 0}] * count + [{"label": 1}] * 2}
        sample = {"sample_idx": index, "segments_info": truth, "pred_panoptic_seg": predicted}
        metric.process(None, [sample, sample])  # a sampler repeats it
    assert metric.evaluate(2) == {"count/error": 2.5, "count/error_a": 2.5}


def test_a_dataset_of_ones_own_finds_its_images(reader, shapes, capsys):
    root = shutil.copytree(shapes, reader / "sites")
    for path in (root / "annotations").glob("*.json"):
        path.write_text(path.read_text().replace('.jpg"', '.jpg"').replace('"0000', '"north-0000'))
    for split in ("train", "val"):
        for image in (root / split).glob("*.jpg"):
            (root / split / "north").mkdir(exist_ok=True)
            image.rename(root / split / "north" / image.name)
        folder = root / "annotations" / f"panoptic_{split}"
        for png in folder.glob("0000*.png"):
            png.rename(folder / f"north-{png.name}")
    log = train(capsys, "own_dataset", reader, root)
    assert "coco_panoptic/PQ" in log
    assert "SitesDataset" in log


def test_the_model_in_the_box_goes_on_with_other_classes(reader, shapes, capsys):
    from mmpanoptic.apis import list_shipped_models

    shutil.copy(list_shipped_models()["nuclei"].weights, reader / "nuclei.pth")
    (reader / "my_config.py").write_text(config_of("finetune"))
    options = [f"data_root={shapes}", *TINY]
    run(capsys, "train.py", "my_config.py", "--cfg-options", *options)
    (log,) = (reader / "work_dirs/my_config").glob("*/*.log")
    text = log.read_text(encoding="utf-8")
    assert "Load checkpoint from" in text
    assert "coco_panoptic/PQ" in text
    assert "semantic_head.predictor" in text, "the log names what starts anew"


def test_every_name_of_weights_on_the_pages_is_one():
    from mmpanoptic.checkpoints.weights import manifest

    for path in TUTORIALS.glob("*.md"):
        names = re.findall(r"mmpanoptic://([\w./-]+)", path.read_text(encoding="utf-8"))
        assert set(names) <= set(manifest()), path.name


def test_the_exported_network_gives_what_pytorch_gives(reader, capsys):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    import cv2
    import numpy as np

    from .apis.tiny_model import CONFIG, write_checkpoint

    (reader / "run").mkdir()
    write_checkpoint(reader / "run" / "iter_1.pth")
    (reader / "run" / "last_checkpoint").write_text(str(reader / "run" / "iter_1.pth"))
    base = f"mmpanoptic::panoptic_deeplab/{CONFIG}.py"
    (reader / "run" / "config.py").write_text(f'_base_ = "{base}"\ndata_root = "nowhere"\n')
    run(capsys, "export_onnx.py", "run", "model.onnx", "--size", 64, 96)
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    cv2.imwrite("photo.png", image)
    sys.path.insert(0, str(EXAMPLES))
    try:
        import run_onnx
    finally:
        sys.path.pop(0)
    run_onnx.main(["model.onnx", "run", "photo.png", "out.png"])
    assert capsys.readouterr().out.count("'area'") > 0
    assert Path("out.png").read_bytes().startswith(b"\x89PNG")
    from mmpanoptic.apis import PanopticInferencer

    expected = PanopticInferencer("run", device="cpu")("photo.png")[0]
    found = run_onnx.find_segments("model.onnx", "run", "photo.png").pred_panoptic_seg
    same = (found.index_map[0].numpy() == expected.panoptic_seg).mean()
    assert same > 0.999, "equal but for ties of rounding"
    assert len(found.segments_info) == len(expected.segments_info) > 0


STAND_IN = '#!/bin/sh\nprintf "%s\\n" "$@" > "$CALLED"\n'


PLACES = ("NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "PORT")


def launched(command, tmp_path):
    """Run a line of the page with stand-ins for srun and Python; return what they were given."""
    for name in ("srun", "python-stand-in"):
        (tmp_path / name).write_text(STAND_IN)
        (tmp_path / name).chmod(0o755)
    called = tmp_path / "called"
    env = {
        **{k: v for k, v in os.environ.items() if k not in PLACES},
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHON": str(tmp_path / "python-stand-in"),
        "CALLED": str(called),
    }
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, env=env, capture_output=True)
    assert done.returncode == 0, done.stderr
    return called.read_text().splitlines()


def test_commands_for_many_gpus_start_what_the_page_says(tmp_path):
    found = [
        re.split(r"\s+#", line)[0].strip()
        for block in blocks("distributed", "bash")
        for line in block.splitlines()
        if re.search(r"tools/(dist|slurm)_\w+\.sh", line)
    ]
    assert len(found) == 8
    calls = {line: launched(line, tmp_path) for line in found}
    for line, words in calls.items():
        tool = "test.py" if "_test.sh" in line else "train.py"
        assert (tool if "slurm" in line else str(ROOT / "tools" / tool)) in words
        assert "slurm" in line or words[-2:] == ["--launcher", "pytorch"]
        assert "CONFIG" in words
    two = [words for line, words in calls.items() if "NNODES=2" in line]
    for rank, words in enumerate(two):
        conf = f"--rdzv-conf=is_host={1 - rank},join_timeout=600,read_timeout=600"
        wanted = {"--nnodes=2", conf, "--rdzv-endpoint=10.0.0.1:29500", "--nproc_per_node=8"}
        assert wanted <= set(words)
    (slurm,) = [words for line, words in calls.items() if "GPUS=16" in line]
    wanted = {"--partition=gpu", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=48"}
    assert wanted | {"--gres=gpu:8", "--time=24:00:00", "--job-name=pdl"} <= set(slurm)
    assert slurm[slurm.index("--work-dir") + 1] == "work_dirs/pdl"


def table_of(page):
    """Names in both columns of the page's tables."""
    text = (TUTORIALS / f"{page}.md").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("|"):
            cells = line.strip("|").split("|")
            if len(cells) == 2:
                yield tuple(re.findall(r"`([^`]+)`", cell) for cell in cells)


def test_names_of_mmdet_and_of_here_exist():
    from mmdet.registry import DATASETS, METRICS, MODELS, TRANSFORMS
    from mmdet.utils import register_all_modules as register_mmdet

    from mmpanoptic import registry

    register_mmdet(init_default_scope=False)
    registry.register_all_modules()
    theirs = {name for part in (DATASETS, METRICS, MODELS, TRANSFORMS) for name in part.module_dict}
    ours = {name for part in registry.registries() for name in part.module_dict}
    pairs = 0
    for left, right in table_of("from_mmdet"):
        for name in (n for n in left if n in theirs):
            here = {n for n in right if n in ours or n.removeprefix("mmdet.") in theirs}
            assert here, f"{name} has no counterpart"
            pairs += 1
        for name in right:
            if re.fullmatch(r"(Panoptic|TwoStage|Heuristic|Load|Resize|Pack)\w+", name):
                assert name in ours or name == "PanopticInferencer", name
    assert pairs >= 12


def test_settings_of_detectron2_have_the_counterparts_that_the_page_names():
    from mmpanoptic.apis import get_config

    configs = [
        get_config("panoptic-deeplab_r52-dsconv_1xb8-20k_own-640x640"),
        get_config("panoptic-fpn-modern_r50-pytorch_8xb2-90k_coco"),
    ]
    rows = [
        (left[0], name)
        for left, right in table_of("from_detectron2")
        if left and re.match(r"(MODEL|SOLVER|INPUT|DATALOADER)\.", left[0])
        for name in right
    ]
    assert len(rows) >= 13
    for left, name in rows:
        cfg = configs["PANOPTIC_FPN" in left]
        part = cfg
        for key in name.split("."):
            assert key in part, f"{left}: {name} is no setting"
            part = part[key]


@pytest.mark.parametrize("page", ["from_mmdet", "from_detectron2"])
def test_the_config_beside_the_other_one_is_read(page, reader, shapes, monkeypatch):
    from mmpanoptic.apis import init_model

    from . import fake_timm

    fake_timm.stand_in(monkeypatch)

    found = [b for b in blocks(page) if "_base_" in b and not b.startswith("# mmdet")]
    (reader / "my_config.py").write_text(found[0])
    options = {"data_root": str(shapes), "load_from": None}
    model = init_model("my_config.py", device="cpu", cfg_options=options)
    assert len(model.dataset_meta["classes"]) == 11


def test_the_other_config_is_one_of_mmdet(reader):
    """What the page shows of mmdet is mmdet's: its fields exist there."""
    from mmengine.config import Config

    from mmpanoptic.apis import get_config

    (block,) = [b for b in blocks("from_mmdet") if b.startswith("# mmdet")]
    (reader / "theirs.py").write_text(block)
    cfg = get_config("theirs.py")
    assert isinstance(cfg, Config)
    assert cfg.model.type == "PanopticFPN"
    for head in ("semantic_head", "panoptic_fusion_head"):
        assert cfg.model[head].num_stuff_classes == 15
        assert cfg.model[head].type != head, "the field stands in mmdet's config"
