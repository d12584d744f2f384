"""Train, go on, and test: the chain that a user runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmpanoptic import cli
from mmpanoptic.apis import get_config
from mmpanoptic.checkpoints.loading import load_checkpoint
from tests.tools.load_tool import load_tool

ROOT = Path(__file__).parent.parent.parent
CONFIG = "panoptic-deeplab_r18-tiny_1xb8-500_shapes"


def options(root, iterations):
    return [
        "--cfg-options",
        f"data_root={root}",
        f"max_iters={iterations}",
        "warmup_iters=1",
        "batch_size=2",
        "num_workers=0",
        "default_hooks.checkpoint.interval=2",
    ]


@pytest.fixture(scope="module")
def trained(shapes_root, tmp_path_factory):
    """Work folder of a run of 2 iterations that went on to 4, in mixed precision."""
    folder = tmp_path_factory.mktemp("a run") / "work dir"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for iterations, more in ((2, ["--amp", "--seed", "5"]), (4, ["--amp", "--resume"])):
        command = [sys.executable, ROOT / "tools" / "train.py", CONFIG, "--work-dir", folder]
        command += [*more, "--no-validate", *options(shapes_root, iterations)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_checkpoints_know_the_label_table_and_the_seed(trained):
    meta = load_checkpoint(trained / "iter_4.pth")["meta"]
    assert (meta["iter"], meta["seed"]) == (4, 5)
    assert {"classes", "dataset_ids", "isthing", "palette"} <= meta["dataset_meta"].keys()


def test_test_prints_the_table_and_writes_predictions_and_pictures(trained, shapes_root, run_tool):
    done = run_tool(
        *("test.py", CONFIG, trained / "iter_4.pth", "--out-dir", "out", "--show-dir", "pictures"),
        *("--work-dir", "w", *options(shapes_root, 4)),
    )
    output = done.stdout + done.stderr
    assert "Things" in output
    assert "Stuff" in output
    predictions = json.loads((run_tool.folder / "out/predictions.panoptic.json").read_text())
    assert len(predictions["annotations"]) == 3
    assert len(list((run_tool.folder / "out/predictions.panoptic").glob("*.png"))) == 3
    assert len(list((run_tool.folder / "pictures").glob("*.jpg"))) == 3
    again = run_tool(
        "analysis_tools/eval_panoptic.py",
        *("--gt_json_file", shapes_root / "annotations/panoptic_val.json"),
        *("--pred_json_file", "out/predictions.panoptic.json"),
    )
    # The written files give the same table as the evaluation in memory.
    assert all_row(again.stdout) == all_row(output)


def all_row(text):
    """Numbers of the table's first row."""
    return re.search(r"^.*\bAll\b(.*)$", text, re.MULTILINE)[1].replace("|", " ").split()


def test_two_processes_give_the_same_metrics_as_one(trained, shapes_root, tmp_path):
    """Three images: one process has more than the other."""
    arguments = [CONFIG, str(trained / "iter_4.pth")]
    common = options(shapes_root, 4)
    assert load_tool("test.py").main([*arguments, "--work-dir", str(tmp_path / "1"), *common]) == 0
    command = [ROOT / "tools" / "dist_test.sh", *arguments, "2", "--work-dir", tmp_path / "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHON": sys.executable}
    done = subprocess.run([*command, *common], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    results = []
    for work_dir in (tmp_path / "1", tmp_path / "2"):
        result = json.loads(next(work_dir.glob("*/*.json")).read_text())
        results.append({k: v for k, v in result.items() if "time" not in k})
    assert any("PQ" in key for key in results[0])
    assert results[0] == results[1]


@pytest.fixture
def train_tool():
    return load_tool("train.py")


def test_errors_are_one_message_and_a_status(train_tool, tmp_path, capsys, shapes_root):
    assert train_tool.main(["no_such_config"]) == 1
    assert "no_such_config" in capsys.readouterr().err
    arguments = [CONFIG, "--work-dir", str(tmp_path), "--resume", "none.pth", "--no-validate"]
    assert train_tool.main([*arguments, *options(shapes_root, 1)]) == 1
    assert "there is no checkpoint none.pth" in capsys.readouterr().err


def test_arguments_reach_the_config(train_tool, tmp_path):
    line = [CONFIG, "--resume", "--amp", "--seed", "7", "--deterministic", "--auto-scale-lr"]
    line += ["--cfg-options", "load_from=start.pth", "auto_scale_lr.base_batch_size=16"]
    args = cli.parse(train_tool.build_parser(), line)
    cfg = cli.read_run_config(args)
    train_tool.adapt_config(cfg, args)
    assert cfg.work_dir == os.path.join("work_dirs", CONFIG)
    assert (cfg.resume, cfg.load_from, cfg.initial_weights) == (True, None, "start.pth")
    assert cfg.optim_wrapper.type == "AutocastOptimWrapper"
    assert cfg.randomness == {"seed": 7, "deterministic": True}
    assert cfg.auto_scale_lr == {"base_batch_size": 16, "enable": True}


def test_scaling_without_a_base_batch_size_is_refused(train_tool):
    args = cli.parse(train_tool.build_parser(), [CONFIG, "--auto-scale-lr"])
    cfg = cli.read_run_config(args)
    cfg.pop("auto_scale_lr", None)
    with pytest.raises(cli.UsageError, match="base_batch_size"):
        train_tool.adapt_config(cfg, args)


def test_predictions_need_a_metric_that_writes_files():
    from mmengine.config import Config

    from mmpanoptic.engine.testing import set_predictions_folder

    cfg = Config({"test_evaluator": [{"type": "mmengine.DumpResults", "out_file_path": "x.pkl"}]})
    with pytest.raises(ValueError, match=r"PanopticQualityMetric.*DumpResults"):
        set_predictions_folder(cfg, "out", False)
    cfg.test_evaluator.append({"type": "PanopticQualityMetric"})
    set_predictions_folder(cfg, "out", True)
    assert [metric["format_only"] for metric in cfg.test_evaluator] == [True]
    assert load_tool("test.py").main([CONFIG, "x.pth", "--format-only"]) == 2


def test_patience_adds_a_hook_and_keeps_the_others(train_tool):
    def adapt(*words):
        args = cli.parse(train_tool.build_parser(), [CONFIG, *words])
        cfg = get_config(CONFIG)
        train_tool.adapt_config(cfg, args)
        return cfg

    hooks = adapt("--patience", "3").custom_hooks
    assert hooks[-1] == {"type": "PatienceStopHook", "monitor": "PQ", "patience": 3}
    assert hooks[:-1] == get_config(CONFIG).custom_hooks
    assert "save_best" not in adapt("--no-validate").default_hooks.checkpoint
    with pytest.raises(cli.UsageError, match="--patience needs validation"):
        adapt("--patience", "3", "--no-validate")
