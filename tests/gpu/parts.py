"""What ``tools/dev/gpu_check.py`` runs on a GPU, each part in a process of its own.

``python -m tests.gpu.parts NAME FOLDER`` runs one and writes ``FOLDER/NAME.json`` after each
figure, so that what was measured before a limit or a crash stays. What finds a fault raises.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmpanoptic.utils import write_json

ROOT = Path(__file__).parents[2]
TINY = "panoptic-deeplab_r18-tiny_1xb8-500_shapes"
MAX_PQ_DIFFERENCE = 3.0
MEMORY_RATIOS = (0.5, 1.3)
"""Least and largest peak of a training step by what docs/gpu.md states.

More than it states lets a training fail; the least is that of few boxes, where it states the most
that a step may sample.
"""
USABLE_MEMORY = 0.92
"""Share of a GPU that docs/gpu.md counts on."""
Note = Callable[..., None]


def versions(note: Note, folder: Path) -> None:
    """Say what is installed and which implementation each operator uses."""
    from mmpanoptic.commands.info import describe_installation
    from mmpanoptic.ops import describe_backends

    for line in describe_installation():
        name, _, value = line.partition("  ")
        note(what=name.strip(), value=value.strip())
    note(what="operators of CUDA", value=describe_backends("cuda"))


class _Outcomes:
    """Notes how each test went."""

    def __init__(self, note: Note) -> None:
        self.note = note
        self.count = {"passed": 0, "failed": 0, "skipped": 0}

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.count[report.outcome] += 1
        if report.outcome == "failed":
            self.note(test=report.nodeid, outcome="failed")


def suite(note: Note, folder: Path) -> None:
    """Run the tests that need a GPU."""
    import pytest

    outcomes = _Outcomes(note)
    status = pytest.main(["-m", "gpu", "-q", "--tb=short", str(ROOT / "tests")], [outcomes])
    note(test="all", **outcomes.count)
    if status or not outcomes.count["passed"]:
        raise AssertionError(f"pytest -m gpu: {outcomes.count}, exit status {int(status)}")


def systems(note: Note, folder: Path) -> None:
    """Compare every system on CPU and GPU; count the waits of a step with CUDA's own detector."""
    from tests.gpu.comparison import compare, count_waits, too_far
    from tests.pretended_gpu.systems import TINY as SYSTEMS
    from tests.pretended_gpu.systems import System, make_shapes

    data, bad = make_shapes(folder / "few_shapes"), {}
    for name in SYSTEMS:
        here, there = System(name, data), System(name, data)
        there.model.to("cuda").load_state_dict(here.model.state_dict())
        found = compare(here.model, there.model, here.train_batch, here.test_batch)
        waits = {kind: count_waits(step) for kind, step in _steps(there)}
        lines = {kind: dict(lines.most_common(5)) for kind, lines in waits.items()}
        total = {f"waits, {kind}": sum(lines.values()) for kind, lines in waits.items()}
        note(system=name, **found, **total, lines=lines)
        bad |= {name: far} if (far := too_far(found, hasattr(there.model, "roi_head"))) else {}
    if bad:
        raise AssertionError(f"too far from the CPU: {bad}")


def _steps(system: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    yield "train", system.train
    yield "predict", system.predict


def operators(note: Note, folder: Path) -> None:
    """Compare torchvision's operators with those in PyTorch: numbers and time."""
    import torch

    from mmpanoptic.ops import backend, pytorch_only
    from tests.gpu.comparison import deviation, full_precision
    from tests.gpu.operator_calls import operator_calls

    bad = []
    for name, call in operator_calls("cuda"):
        used = backend(name, "cuda")
        with full_precision():
            seconds, result = _timed(call, torch.cuda.synchronize)
            with pytorch_only():
                seconds_ours, ours = _timed(call, torch.cuda.synchronize)
        far = deviation(ours, result)
        note(operator=name, backend=used, deviation=far, ratio=seconds_ours / seconds)
        bad += [name] if far > 1e-4 else []
    if bad:
        raise AssertionError(f"numbers differ: {bad}")


def _timed(call: Callable[[], Any], wait: Callable[[], Any], repeats: int = 5) -> tuple[float, Any]:
    """Return the least seconds of several calls, after one to warm up, and the result."""
    result, best = call(), float("inf")
    for _ in range(repeats):
        wait()
        start = time.perf_counter()
        result = call()
        wait()
        best = min(best, time.perf_counter() - start)
    return best, result


PRECISIONS = {
    "fp32": [],
    "bf16": ["optim_wrapper.type=AutocastOptimWrapper", "optim_wrapper.dtype=bfloat16"],
    "fp16": ["optim_wrapper.type=AutocastOptimWrapper", "optim_wrapper.dtype=float16"],
}


def training(note: Note, folder: Path) -> None:
    """Train on shapes in three precisions; each reaches the same quality."""
    data = _shapes(folder)
    quality = {}
    for name, options in PRECISIONS.items():
        start, work = time.perf_counter(), folder / f"training_{name}"
        train(data, work, *options)
        quality[name] = last_quality(work)
        note(precision=name, PQ=quality[name], seconds=time.perf_counter() - start)
    spread = max(quality.values()) - min(quality.values())
    if spread > MAX_PQ_DIFFERENCE:
        raise AssertionError(f"PQ differs by {spread:.1f}: {quality}")


def _shapes(folder: Path) -> Path:
    from mmpanoptic.datasets.shapes import generate_shapes

    data = folder / "shapes"
    if not (data / "annotations" / "panoptic_val.json").exists():
        generate_shapes(data)
    return data


def _train_command(data: Path, work: Path, *options: str) -> list[str]:
    tool = str(ROOT / "tools" / "train.py")
    given = ["--work-dir", str(work), "--cfg-options", f"data_root={data}", *options]
    return [sys.executable, tool, TINY, *given]


def train(data: Path, work: Path, *options: str) -> None:
    """Train the tiny Panoptic-DeepLab in a process of its own."""
    _call(_train_command(data, work, *options))


def _call(command: list[str], **settings: Any) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **settings)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}\n{(done.stdout + done.stderr)[-3000:]}")


def last_quality(work: Path) -> float:
    """Return the PQ of the last validation of a run."""
    found = [
        line["coco_panoptic/PQ"]
        for path in sorted(work.glob("*/vis_data/scalars.json"))
        for line in map(json.loads, path.read_text().splitlines())
        if "coco_panoptic/PQ" in line
    ]
    return float(found[-1])


def resume(note: Note, folder: Path) -> None:
    """Kill a training when it has written a checkpoint, and go on."""
    data, work = _shapes(folder), folder / "killed"
    options = ["max_iters=120", "default_hooks.checkpoint.interval=20"]
    command = _train_command(data, work, *options)
    with open(os.devnull, "w") as nowhere:
        process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere, cwd=ROOT)
        while not (work / "iter_40.pth").exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    process.wait()
    killed_at = max(int(path.stem[5:]) for path in work.glob("iter_*.pth"))
    note(what="killed after", iteration=killed_at)
    _call([*command, "--resume"])
    text = "".join(path.read_text() for path in work.glob("*/*.log"))
    note(what="finished", iteration=120, PQ=last_quality(work))
    if "resumed" not in text.lower() or not (work / "iter_120.pth").exists():
        raise AssertionError("the run began anew or did not end")


def distributed(note: Note, folder: Path) -> None:
    """Train with one process a GPU through nccl: on one GPU, and on two if they are there."""
    import torch

    data = _shapes(folder)
    for number in (1, 2)[: torch.cuda.device_count()]:
        command = [str(ROOT / "tools" / "dist_train.sh"), TINY, str(number)]
        options = [f"data_root={data}", "max_iters=20"]
        given = ["--work-dir", str(folder / f"nccl_{number}"), "--cfg-options", *options]
        environment = {**os.environ, "PYTHON": sys.executable, "NCCL_DEBUG": "VERSION"}
        start = time.perf_counter()
        _call([*command, *given], env=environment)
        note(processes=number, seconds=time.perf_counter() - start)


def memory(note: Note, folder: Path) -> None:
    """Measure the memory of a training step of every real config at its size and batch.

    What does not fit although docs/gpu.md states that it does is a fault, and so is a peak beyond
    :data:`MEMORY_RATIOS`.
    """
    import torch

    from mmpanoptic.apis.speed import StepTimer
    from tests.gpu.real_configs import real_configs, resolve, size_of

    usable = USABLE_MEMORY * torch.cuda.get_device_properties(0).total_memory
    bad = []
    for name, precision in itertools.product(real_configs(), (None, "bf16")):
        cfg = resolve(name)
        batch = cfg.train_dataloader.batch_size
        row = {"config": name, "precision": precision or "fp32", "batch": batch}
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        try:
            timer = StepTimer(cfg, batch, size_of(name), torch.device("cuda"), 1, 1)
            timer.measure(amp=precision)
            row["result"] = "fits"
        except torch.cuda.OutOfMemoryError:
            row["result"] = "does not fit"
        except ValueError as error:  # a training that is none of panoptic maps
            row["result"] = f"not measured: {error}"
        peak, stated = torch.cuda.max_memory_allocated(), stated_memory(name, row["precision"])
        ratio = peak / stated if stated and row["result"] == "fits" else ""
        wrong = memory_fault(row["result"], peak, stated, usable)
        bad += [f"{name}, {row['precision']}: {wrong}"] if wrong else []
        sizes = {"peak in MiB": peak >> 20, "stated in MiB": stated >> 20}
        note(**row, **sizes, ratio=ratio, fault=wrong)
    if bad:
        raise AssertionError("memory is not what docs/gpu.md states:\n" + "\n".join(bad))


def memory_fault(result: str, peak: int, stated: int, usable: float) -> str:
    """Say what is wrong with a measured peak; nothing where docs/gpu.md states none.

    Args:
        result (str): "fits", "does not fit" or why nothing was measured.
        peak (int): Bytes of ``max_memory_allocated``.
        stated (int): Bytes that the documentation states, 0 for none.
        usable (float): Bytes of the GPU that it counts on.
    """
    if result == "does not fit" and 0 < stated <= usable:
        return "should fit"
    low, high = MEMORY_RATIOS
    if result == "fits" and stated and not low <= peak / stated <= high:
        return f"peak is {peak / stated:.2f} of what is stated, allowed are {low} to {high}"
    return ""


def stated_memory(name: str, precision: str) -> int:
    """Return the bytes that the documentation states for a config's step, here with Adam.

    It states none, here 0, for guests of mmdet.
    """
    from tests.tools.load_tool import load_tool

    tool = load_tool("dev/training_memory.py")
    found = json.loads(tool.FIGURES.read_text(encoding="utf-8")).get(name)
    if found is None:
        return 0
    missing = 4 * found["trained"] * (2 - found["moments"])
    return int(tool.bytes_of(found, precision, found["batch"]) + missing)


VARIANTS: list[dict[str, Any]] = [
    {},
    {"amp": "fp16"},
    {"amp": "fp16", "channels_last": True},
    {"compile": True},
]


def latency(note: Note, folder: Path) -> None:
    """Time every real model at its test size, post-processing included."""
    from mmpanoptic.apis.speed import time_inference
    from tests.gpu.real_configs import real_configs

    for variant, name in itertools.product(VARIANTS, real_configs()):
        with _model(name, variant, folder) as (model, image):
            found = time_inference(model, str(image), 8, 3, amp=variant.get("amp"))
        figures = {
            f"{stage} {key}": row[key] for stage, row in found.items() for key in ("p50", "p95")
        }
        words = [k if v is True else str(v) for k, v in variant.items()]
        note(config=name, variant=" ".join(words) or "fp32", **figures)


@contextmanager
def _model(name: str, variant: dict[str, Any], folder: Path) -> Iterator[tuple[Any, Path]]:
    """Build a model with random weights for inference, and an image of its test size."""
    import cv2
    import numpy as np
    import torch

    from mmpanoptic.apis.model import init_model
    from mmpanoptic.commands.analysis_tools.benchmark import COMPILED
    from tests.gpu.real_configs import resolve, size_of

    height, width = size_of(name)
    image = folder / f"{height}x{width}.png"
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    cv2.imwrite(str(image), cv2.resize(noise, (width, height)))
    options = {"model.channels_last": True} if variant.get("channels_last") else {}
    model: Any = init_model(resolve(name), None, "cuda", options)
    for part in COMPILED if variant.get("compile") else ():
        if getattr(model, part, None) is not None:
            getattr(model, part).compile()
    try:
        yield model, image
    finally:
        torch.cuda.empty_cache()


def speed(note: Note, folder: Path) -> None:
    """Time training steps of every real config: images per second."""
    import torch

    from mmpanoptic.apis.speed import StepTimer
    from tests.gpu.real_configs import real_configs, resolve, size_of

    for switches, name in itertools.product(({}, {"amp": "bf16"}), real_configs()):
        cfg = resolve(name)
        batch = min(cfg.train_dataloader.batch_size, 4)
        try:
            timer = StepTimer(cfg, batch, size_of(name), torch.device("cuda"), 3, 1)
        except ValueError as error:  # a training that is none of panoptic maps
            note(config=name, skipped=str(error))
            continue
        note(config=name, **switches, batch=batch, **timer.measure(**switches))


PARTS = (
    versions,
    suite,
    systems,
    operators,
    training,
    resume,
    distributed,
    memory,
    latency,
    speed,
)


def main() -> None:
    """Run one part."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    figures: list[dict[str, Any]] = []

    def note(**figure: Any) -> None:
        figures.append(figure)
        write_json(folder / f"{name}.json", figures, indent=1)

    {part.__name__: part for part in PARTS}[name](note, folder)


if __name__ == "__main__":
    main()
