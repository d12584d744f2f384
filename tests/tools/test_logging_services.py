"""A training sends its numbers and pictures to TensorBoard, Weights & Biases and MLflow."""

import importlib.util
import json
import os
import signal
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from mmengine.config import Config

from mmpanoptic.apis import get_config
from mmpanoptic.commands import train
from mmpanoptic.engine.config import resolve_variables
from mmpanoptic.engine.non_finite import NonFiniteLossHook
from mmpanoptic.registry import VISBACKENDS
from tests.apis.tiny_model import CONFIG

ROOT = str(Path(__file__).parents[2])
BLOCK, WHOLE, LAST = 2**15, 1, 4
"""Size of a block of LevelDB's logs, and the kinds of records that end there."""


def installed():
    return [name for name, (_, module, _) in train.LOGGERS.items() if find_spec(module)]


@pytest.fixture(scope="module")
def trained(shapes_root, tmp_path_factory):
    """What one training of two iterations sent to all that is installed; the run's vis_data."""
    folder = tmp_path_factory.mktemp("logged") / "my run"
    small = [f"data_root={shapes_root}", "max_iters=2", "batch_size=2", "num_workers=0"]
    small += ["warmup_iters=1", "val_interval=2", "default_hooks.logger.interval=1"]
    words = ["--log-to", *installed()] if installed() else []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        for name in ("WANDB_PROJECT", "WANDB_NAME", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        arguments = [CONFIG, "--work-dir", str(folder), *words, "--cfg-options", *small]
        assert train.main(arguments) == 0
    return next(folder.glob("*/vis_data"))


def test_mlflow_in_files(trained):
    pytest.importorskip("mlflow", reason="pip install mlflow-skinny")
    from mlflow import MlflowClient

    client = MlflowClient(trained.as_uri())
    (experiment,) = [e for e in client.search_experiments() if e.name == "mmpanoptic"]
    (run,) = client.search_runs([experiment.experiment_id])
    number = run.info.run_id
    assert (run.info.status, run.info.run_name) == ("FINISHED", "my run")
    losses = [metric.step for metric in client.get_metric_history(number, "loss")]
    assert losses == [1, 2]
    assert any(name.endswith("/PQ") for name in run.data.metrics)
    assert run.data.params["max_iters"] == "2"
    (picture,) = client.list_artifacts(number, "val_000001")
    assert picture.path == "val_000001/0000002.png"
    assert "config.py" in [one.path for one in client.list_artifacts(number)]


def test_tensorboard(trained):
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2]
    assert any(tag.endswith("/PQ") for tag in events.Tags()["scalars"])
    (picture,) = events.Images("val_000001")
    assert (picture.step, picture.width > 64) == (2, True)


def test_wandb_offline(trained):
    pytest.importorskip("wandb", reason="pip install wandb")
    (run,) = trained.glob("wandb/offline-run-*")
    (picture,) = run.glob("files/media/images/val_000001_*.png")
    assert picture.stat().st_size > 1000
    content = records(next(run.glob("*.wandb")))
    assert [rows["iteration"] for rows in content if "loss" in rows] == [1, 2]
    assert [rows["iteration"] for rows in content if "val_000001" in " ".join(rows)] == [2]
    assert any(name.endswith("/PQ") for rows in content for name in rows)


def records(path):
    """Read what a run of wandb logged, a dict for each message; the file is a log of LevelDB."""
    from wandb.proto import wandb_internal_pb2

    data, place, record, found = path.read_bytes(), 7, b"", []
    while place + 7 <= len(data):
        length, kind = struct.unpack_from("<HB", data, place + 4)
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
        if kind not in (WHOLE, LAST):
            continue
        message = wandb_internal_pb2.Record()
        message.ParseFromString(record)
        record = b""
        if message.WhichOneof("record_type") == "history":
            items = message.history.item
            found.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items})
    return found


@pytest.fixture(scope="module")
def interrupted(shapes_root, tmp_path_factory):
    """A training that got SIGTERM, went on, failed, and went on to its end; MLflow's statuses."""
    pytest.importorskip("mlflow", reason="pip install mlflow-skinny")
    folder = tmp_path_factory.mktemp("logged") / "often cut"
    small = [f"data_root={shapes_root}", "max_iters=4", "batch_size=2", "num_workers=0"]
    small += ["warmup_iters=1", "default_hooks.logger.interval=1", "checkpoint_interval=1"]
    names = [name for name in installed() if name != "tensorboard"]
    line = [CONFIG, "--work-dir", str(folder), "--no-validate", "--log-to", *names, "--cfg-options"]
    statuses = []

    def disturb(self, runner, *_, **__):
        if runner.iter == 1 and not statuses:
            os.kill(os.getpid(), signal.SIGTERM)
        elif runner.iter == 2 and len(statuses) == 1:
            raise RuntimeError("out of luck")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        for name in ("WANDB_PROJECT", "WANDB_NAME", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        patch.setattr(NonFiniteLossHook, "after_train_iter", disturb)
        for expected in (143, 1, 0):
            again = ["--resume"] if statuses else []
            assert train.main([*line, *small, *again]) == expected
            ((run, _),) = mlflow_runs(folder)
            statuses.append((run.info.run_id, run.info.status))
    return folder, statuses


def mlflow_runs(folder):
    """Read all runs of MLflow below a folder, with the iterations of their losses."""
    from mlflow import MlflowClient

    for place in folder.glob("*/vis_data"):
        client = MlflowClient(place.as_uri())
        for experiment in client.search_experiments():
            for run in client.search_runs([experiment.experiment_id]):
                history = client.get_metric_history(run.info.run_id, "loss")
                yield run, [metric.step for metric in history]


def test_a_run_ends_however_its_training_ends_and_a_resume_goes_on_with_it(interrupted):
    folder, statuses = interrupted
    assert [status for _, status in statuses] == ["KILLED", "FAILED", "FINISHED"]
    assert len({number for number, _ in statuses}) == 1
    ((_, steps),) = mlflow_runs(folder)
    assert steps == [1, 2, 3, 4]


def test_wandb_goes_on_with_the_run_of_the_folder(interrupted):
    pytest.importorskip("wandb", reason="pip install wandb")
    folder, _ = interrupted
    kept = json.loads((folder / "logged_runs.json").read_text())["WandbBackend"]["run"]
    files = sorted(path.name for path in folder.glob("*/vis_data/wandb/offline-run-*/*.wandb"))
    assert files == [f"run-{kept}.wandb"] * 3


KILLED_ONCE = """
import os, signal
from pathlib import Path
from mmengine.hooks import Hook
from mmpanoptic.registry import HOOKS

@HOOKS.register_module()
class KilledOnce(Hook):
    priority = "LOWEST"

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        mark = Path(runner.work_dir, "killed")
        if runner.iter == 1 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def killed(shapes_root, tmp_path_factory):
    """A training that got SIGKILL behind its second iteration, and went on to its end."""
    folder = tmp_path_factory.mktemp("logged")
    (folder / "killed_once.py").write_text(KILLED_ONCE)
    small = [f"data_root={shapes_root}", "max_iters=4", "batch_size=2", "num_workers=0"]
    small += ["warmup_iters=1", "default_hooks.logger.interval=1", "checkpoint_interval=1"]
    small += ["custom_imports.imports=killed_once", "custom_hooks=[{'type':'KilledOnce'}]"]
    names = [name for name in installed() if name != "tensorboard"]
    line = [
        sys.executable,
        f"{ROOT}/tools/train.py",
        CONFIG,
        "--work-dir",
        "run",
        "--no-validate",
        "--resume",
    ]
    line += ["--log-to", *names, "--cfg-options", *small]
    # Not the service of a wandb in this process: it would outlive the training.
    others = ("MLFLOW_", "WANDB_")
    known = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    env = {**known, "WANDB_MODE": "offline", "PYTHONPATH": os.pathsep.join([str(folder), ROOT])}
    for expected in (-signal.SIGKILL, 0):
        done = subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True)
        assert done.returncode == expected, done.stderr[-2000:]
    return folder / "run"


def test_mlflow_goes_on_after_a_kill(killed, monkeypatch):
    pytest.importorskip("mlflow", reason="pip install mlflow-skinny")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    ((run, steps),) = mlflow_runs(killed)
    assert run.info.status == "FINISHED"
    assert steps == [1, 2, 3, 4]


def test_wandb_goes_on_after_a_kill_and_keeps_what_was_logged(killed):
    pytest.importorskip("wandb", reason="pip install wandb")
    kept = json.loads((killed / "logged_runs.json").read_text())["WandbBackend"]["run"]
    files = sorted(killed.glob("*/vis_data/wandb/offline-run-*/*.wandb"))
    assert [path.name for path in files] == [f"run-{kept}.wandb"] * 2
    steps = [[rows["iteration"] for rows in records(path) if "loss" in rows] for path in files]
    assert steps[1] == [3, 4]
    assert steps[0] == [1, 2][: len(steps[0])]  # a kill may take the last lines from its buffer


def test_a_run_that_somebody_deleted_begins_anew(tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="pip install mlflow-skinny")
    found = []
    for start in ("first", "second", "third"):
        backend = VISBACKENDS.build({"type": "MLflowBackend", "save_dir": str(tmp_path / start)})
        backend.add_config(Config({"work_dir": str(tmp_path)}))
        backend.goes_on = bool(found)
        backend.add_scalar("loss", 1.0, step=1)  # and is killed
        found.append(backend._id)
        if len(found) == 2:
            mlflow.MlflowClient((tmp_path / "first").as_uri()).delete_run(found[-1])
    assert found[0] == found[1] != found[2]


def test_a_line_of_a_config_does_the_same():
    line = {"vis_backends": [{"type": "LocalVisBackend"}, {"type": "mmpanoptic.MLflowBackend"}]}
    cfg = resolve_variables(get_config(CONFIG, line))
    assert cfg.visualizer.vis_backends == line["vis_backends"]
    assert VISBACKENDS.get("mmpanoptic.MLflowBackend").__name__ == "MLflowBackend"


def test_arguments_of_the_config_reach_wandb(tmp_path):
    pytest.importorskip("wandb", reason="pip install wandb")
    arguments = {"mode": "offline", "project": "streets"}
    backend = VISBACKENDS.build(
        {"type": "WandbBackend", "save_dir": str(tmp_path), "init_kwargs": arguments}
    )
    assert (backend.experiment.project, backend.experiment.offline) == ("streets", True)
    backend.close()


def test_arguments_of_the_config_reach_mlflow(tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="pip install mlflow-skinny")
    store = (tmp_path / "store").as_uri()
    backend = VISBACKENDS.build(
        {
            "type": "MLflowBackend",
            "save_dir": "unused",
            "tracking_uri": store,
            "exp_name": "streets",
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        backend.add_scalar("a (b)", 0.5, step=3)
        backend.close()
        client = mlflow.MlflowClient(store)
        number = client.get_experiment_by_name("streets").experiment_id
        (run,) = client.search_runs([number])
    assert run.data.metrics == {"a _b_": 0.5}
    assert not (tmp_path / "unused").exists()


def test_a_package_that_is_absent_is_one_line_before_anything_begins(run_tool, monkeypatch):
    def absent(name, *more):
        return None if name == "wandb" else find_spec(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", absent)
    done = run_tool("train.py", CONFIG, "--log-to", "wandb", status=2)
    assert done.stderr.startswith("error: --log-to wandb needs a package more: pip install wandb;")
    assert list(run_tool.folder.iterdir()) == []
    with pytest.raises(ImportError, match="pip install wandb"):
        VISBACKENDS.build({"type": "WandbBackend", "save_dir": "x"})


@pytest.mark.parametrize("name", train.LOGGERS)
def test_every_name_is_a_registered_backend(name):
    assert VISBACKENDS.get(train.LOGGERS[name][0]) is not None
