"""Two processes on a CPU."""

import gc
import os
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest
import torch

from mmpanoptic.checkpoints.loading import load_checkpoint
from mmpanoptic.engine.distributed import close_process_group, init_cpu_process_group

from ..faults.machines import SECONDS, Machines, free_port
from .toy import assert_same, toy_config

ROOT = Path(__file__).parent.parent.parent


def launch(script, *arguments, **variables):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHON": sys.executable, **variables}
    command = [str(ROOT / "tools" / script), *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """Folder (with a space) of a config and of a run of two processes."""
    folder = tmp_path_factory.mktemp("two processes")
    cfg = toy_config(folder, model={"sync_bn": True}, workers=1)
    cfg.randomness.diff_rank_seed = True  # dropout differs
    for key in ("experiment_name", "work_dir"):
        cfg.pop(key)
    cfg.test_cfg, cfg.test_dataloader = {}, cfg.val_dataloader
    cfg.test_evaluator = cfg.val_evaluator
    cfg.dump(folder / "toy config.py")
    status, output = launch(
        "dist_train.sh", folder / "toy config.py", 2, "--work-dir", folder / "whole"
    )
    assert status == 0, output
    return folder


def test_checkpoint_holds_the_random_states_of_both_processes(whole_run):
    content = load_checkpoint(whole_run / "whole" / "iter_10.pth")
    assert content["data_position"] == {"samples": 20, "world_size": 2}
    first, second = content["random_states"]
    assert not torch.equal(first["torch"], second["torch"])


def test_resume_of_two_processes_is_exact(whole_run):
    work_dir = whole_run / "resumed"
    work_dir.mkdir()
    (work_dir / "iter_5.pth").write_bytes((whole_run / "whole" / "iter_5.pth").read_bytes())
    (work_dir / "iter_7.pth").write_bytes(b"PK damaged")
    status, output = launch(
        *("dist_train.sh", whole_run / "toy config.py", 2),
        *("--work-dir", work_dir, "--resume"),
    )
    assert status == 0, output
    ends = [load_checkpoint(folder / "iter_10.pth") for folder in (whole_run / "whole", work_dir)]
    for part in ("state_dict", "ema_state_dict"):
        assert_same(ends[0][part], ends[1][part])
    for state, other in zip(*(end["random_states"] for end in ends), strict=True):
        assert torch.equal(state["torch"], other["torch"])


def test_a_run_that_lost_a_machine_ends_with_the_same_bits(whole_run, tmp_path):
    """Killed outright, and started again as Slurm does; longer in tests/faults/test_machines.py."""
    work_dir = tmp_path / "run"
    slow = ("--cfg-options", "train_dataloader.dataset.delay=0.4")
    config = whole_run / "toy config.py"
    with Machines(config, work_dir, "--max-restarts", "3", *slow) as machines:
        assert machines.runs[0].wait_for((work_dir / "iter_5.pth").exists, SECONDS)
        machines.lose(1, whole=True)
        said = machines.end()
    assert "the run starts again from its newest checkpoint" in said[0]
    ends = [load_checkpoint(folder / "iter_10.pth") for folder in (whole_run / "whole", work_dir)]
    for part in ("state_dict", "ema_state_dict"):
        assert_same(ends[0][part], ends[1][part])
    for state, other in zip(*(end["random_states"] for end in ends), strict=True):
        assert torch.equal(state["torch"], other["torch"])


def test_test_script_runs_with_two_processes_and_a_given_port(whole_run):
    checkpoint = whole_run / "whole" / "iter_10.pth"
    status, output = launch(
        *("dist_test.sh", whole_run / "toy config.py", checkpoint, 2),
        *("--work-dir", whole_run / "test", "--cfg-options", "log_level=INFO"),
        PORT=str(free_port()),
    )
    assert status == 0, output
    assert "toy/PQ" in output


@pytest.mark.slow
def test_terminated_launcher_leaves_a_checkpoint(whole_run):
    """torchrun signals whole process groups; the data workers must survive that."""
    work_dir = whole_run / "stopped"
    command = [ROOT / "tools/dist_train.sh", whole_run / "toy config.py", "2"]
    command += ["--work-dir", work_dir, "--cfg-options", "train_cfg.max_iters=1000"]
    command += ["train_dataloader.dataset.delay=0.05", "custom_hooks.1.type=StopSignalHook"]
    command += ["default_hooks.checkpoint.interval=15"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHON": sys.executable}
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 100
    while not list(work_dir.glob("iter_*.pth")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.terminate()  # the script has become torchrun
    output, _ = process.communicate(timeout=100)
    assert process.returncode != 0
    pointed_to = Path((work_dir / "last_checkpoint").read_text())
    assert pointed_to.name.startswith("interrupted_iter_"), output
    assert len(load_checkpoint(pointed_to)["random_states"]) == 2


@pytest.mark.parametrize(
    ("script", "count"),
    [("dist_train.sh", 1), ("dist_test.sh", 2), ("slurm_train.sh", 3), ("slurm_test.sh", 3)],
)
def test_scripts_say_how_they_are_used(script, count):
    status, output = launch(script, *["x"] * count)
    assert status == 2
    assert output.startswith("usage:")


WORDS = '#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n'
AS_ON_A_NODE = 'export SLURM_NODEID=1\nwhile [ "$1" != bash ]; do shift; done; "$@"'
NODES = '#!/usr/bin/env bash\n[ "$*" = "show hostnames n[1-2]" ] && printf "n1\\nn2\\n"\n'
SLURM = {
    "SLURM_NNODES": "2",
    "SLURM_JOB_ID": "123456",
    "SLURM_STEP_NODELIST": "n[1-2]",
    "SLURMD_NODENAME": "n2",
}


def stand_in(folder, name, text=WORDS):
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
    return folder / name


@pytest.mark.parametrize(
    ("script", "last"),
    [("slurm_train.sh", ["--work-dir", "d d"]), ("slurm_test.sh", ["d d"])],
)
def test_slurm_scripts_start_torchrun_on_each_node(tmp_path, script, last):
    """What srun gets is run as on a node; options and spaces arrive at the tool."""
    stand_in(
        tmp_path,
        "srun",
        WORDS + 'export SLURM_NODEID=1\nwhile [ "$1" != bash ]; do shift; done; "$@"',
    )
    stand_in(
        tmp_path, "scontrol", '#!/usr/bin/env bash\n[ "$3" = "n[1-2]" ] && printf "n1\\nn2\\n"\n'
    )
    status, output = launch(
        *(script, "part", "job", "a config.py", "d d", "--seed", "3"),
        PATH=f"{tmp_path}:{os.environ['PATH']}",
        SRUN_ARGS="--quiet --time=1",
        GPUS="8",
        GPUS_PER_NODE="4",
        CPUS_PER_TASK="6",
        PYTHON=str(stand_in(tmp_path, "python-stand-in")),
        **SLURM,
    )
    assert status == 0, output
    words = output.splitlines()
    node = words.index("--")  # from here on what torchrun gets
    asked = {"--nodes=2", "--ntasks-per-node=1", "--gres=gpu:4", "--cpus-per-task=24"}
    assert asked | {"--partition=part", "--job-name=job", "--quiet", "--time=1"} <= {*words[:node]}
    got = {"--nnodes=2", "--nproc_per_node=4", "--rdzv-endpoint=n1:23456", "--rdzv-id=123456"}
    assert got | {"--local-addr=n2"} <= {*words[node:]}
    assert "--rdzv-conf=is_host=0,join_timeout=600,read_timeout=600" in words
    start = words.index("a config.py", node)
    assert words[start + 1 :] == [*last, "--seed", "3", "--launcher", "pytorch"]


def test_slurm_scripts_refuse_gpus_that_do_not_fill_their_nodes():
    status, output = launch("slurm_train.sh", *"pjcw", GPUS="12", GPUS_PER_NODE="8")
    assert (status, output) == (2, "error: GPUS=12 is no multiple of GPUS_PER_NODE=8\n")


def test_several_machines_need_their_variables():
    for variables, missing in (({}, "MASTER_ADDR"), ({"MASTER_ADDR": "n1"}, "NODE_RANK")):
        status, output = launch("dist_train.sh", "CONFIG", "1", NNODES="2", **variables)
        assert status != 0
        assert missing in output


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--max-restarts", "-1"], "at least 0"),
        (["--max-restarts", "2", "--resume", "other.pth"], "newest checkpoint of the work folder"),
    ],
)
def test_restarts_that_cannot_be_are_refused(given, told):
    status, output = launch("dist_train.sh", "CONFIG", "1", *given)
    assert status == 2
    assert told in output


def test_a_test_does_not_start_again():
    status, output = launch("dist_test.sh", "CONFIG", "CHECKPOINT", "1", "--max-restarts=2")
    assert status == 2
    assert "--max-restarts is for trainings" in output


def test_missing_environment_is_named(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=r"RANK, WORLD_SIZE, LOCAL_RANK.*dist_train\.sh"):
        init_cpu_process_group("pytorch")
    with pytest.raises(ValueError, match="known: pytorch"):
        init_cpu_process_group("torch")


def test_slurm_variables_become_torchs(monkeypatch, tmp_path):
    import torch.distributed as dist

    stand_in(tmp_path, "scontrol", NODES)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in (("PROCID", "3"), ("NTASKS", "4"), ("LOCALID", "1"), ("NODELIST", "n[1-2]")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    calls = []
    monkeypatch.setattr(dist, "init_process_group", lambda *args, **kw: calls.append((args, kw)))
    init_cpu_process_group("slurm", timeout=60, backend="nccl")
    assert calls[0][0] == ("gloo",)
    assert calls[0][1]["timeout"].total_seconds() == 60
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    assert [os.environ[name] for name in names] == ["3", "4", "1", "n1", "29500"]


def test_processes_leave_together(tmp_path):
    """The first waits for one that is late, and both end with status 0."""
    script = tmp_path / "late.py"
    script.write_text(
        "import sys, time\n"
        "from pathlib import Path\n"
        "import torch.distributed as dist\n"
        "from mmpanoptic import cli\n"
        "def action(args):\n"
        "    dist.init_process_group('gloo')\n"
        "    if dist.get_rank():\n"
        "        time.sleep(2)\n"
        "        Path(sys.argv[1], 'arrived').write_text(str(time.time()))\n"
        "    else:\n"
        "        action.first = True\n"
        "status = cli.main(cli.Parser('', ''), action, [])\n"
        "assert not dist.is_initialized()\n"
        "if hasattr(action, 'first'):\n"
        "    Path(sys.argv[1], 'left').write_text(str(time.time()))\n"
        "sys.exit(status)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, "--nproc_per_node=2", str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    arrived, left = (float((tmp_path / name).read_text()) for name in ("arrived", "left"))
    assert left >= arrived


def test_models_are_gone_before_their_process_group(monkeypatch):
    """A wrapped model that outlives the group makes its end a deadlock with gloo's thread."""
    import torch.distributed as dist

    class Model:
        def __init__(self):
            self.itself = self  # only the garbage collector finds it

    model = weakref.ref(Model())
    alive = []
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "barrier", lambda: alive.append(model() is not None))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: alive.append(model() is not None))
    gc.disable()
    try:
        close_process_group()
    finally:
        gc.enable()
    assert alive[-1] is False


ENDS = """
import gc, sys
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from mmpanoptic.engine.distributed import close_process_group
class Held: pass
def train():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    model = DistributedDataParallel(torch.nn.Linear(4, 4))
    model.runner = [model]  # only the garbage collector finds it
    for _ in range(40):
        torch._C._stash_obj_in_tls("held", Held())  # gloo's thread needs the lock to forget it
        dist.all_reduce(torch.zeros(1), async_op=True)
        torch._C._remove_obj_from_tls("held")
sys.setswitchinterval(10)  # a thread that holds the lock keeps it
gc.collect()
gc.freeze()
for _ in range(100):
    train()
    close_process_group()
    gc.collect()
"""


def test_the_end_of_a_group_never_waits_for_ever():
    """Without the order of :func:`close_process_group` this often hangs within these rounds."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ENDS], env=env, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-4000:]
