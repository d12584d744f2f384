"""Work out on paper what training on 8, 64 and 512 GPUs takes, and what breaks first.

The constants are in docs/scale_constants.json, each with its unit and where it is from: measured on
this machine (``--measure`` does that again), counted, or assumed. ``--page`` writes the tables into
docs/scale.md. Nothing was run on a GPU: the seconds of a step are multiplications over an assumed
rate, so that the table tells orders of magnitude and which resource ends first.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmpanoptic import cli
from mmpanoptic.utils import atomic_write, read_json, write_json

DOCS = Path(__file__).resolve().parents[2] / "docs"
CONSTANTS, COSTS, PAGE = (
    DOCS / name for name in ("scale_constants.json", "model_costs.json", "scale.md")
)
BEGIN, END = "<!-- scale_model.py: begin -->", "<!-- scale_model.py: end -->"
GPUS = (8, 64, 512)
STEPS = 400
"""Iterations that are simulated; the rest of a schedule is like them."""
EXAMPLES = """
  %(prog)s
  %(prog)s --gpus 16 --set network_gbps=25
  %(prog)s --measure data/coco/annotations/panoptic_val2017.json data/coco/val2017 --page
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.add("--constants", type=Path, default=CONSTANTS, metavar="FILE")
    parser.add("--gpus", type=cli.at_least(1), nargs="+", default=list(GPUS), metavar="N")
    parser.add("--set", nargs="+", default=[], metavar="NAME=VALUE", help="other constants")
    parser.add(
        "--measure",
        type=Path,
        nargs=2,
        metavar=("PANOPTIC_JSON", "IMAGES"),
        help="time the loading pipelines on 40 images of COCO, and write the constants' file",
    )
    parser.add("--page", action="store_true", help=f"write the tables into {PAGE.name}")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Print the tables."""
    content = read_json(args.constants)
    if args.measure:
        measure(content, *args.measure)
        write_json(args.constants, content, indent=1)
    constants = read_constants(content, args.set)
    models = [model_of(entry, read_json(COSTS)) for entry in content["schedules"]]
    text = tables(models, constants, args.gpus)
    if args.page:
        write_page(text)
    yield text


def read_constants(content: Mapping[str, Any], changes: Sequence[str] = ()) -> dict[str, float]:
    """Return the constants by name, with those of the command line.

    Raises:
        UsageError: If a change is no number of a known constant.
    """
    constants = {name: entry["value"] for name, entry in content["constants"].items()}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in constants:
            raise cli.UsageError(f"--set {change}: the constants are {', '.join(constants)}")
        try:
            constants[name] = float(value)
        except ValueError:
            raise cli.UsageError(f"--set {change}: {value!r} is no number") from None
    return constants


class Model(NamedTuple):
    """A schedule and what an image of it costs.

    Attributes:
        name (str): Of the config.
        images (int): Of the whole training: iterations times images of an iteration.
        flop (float): Of forward and backward pass of an image.
        parameters (int): Numbers whose gradients are exchanged.
        loader_seconds (float): Processor time of loading and transforming an image.
    """

    name: str
    images: int
    flop: float
    parameters: int
    loader_seconds: float


def model_of(entry: Mapping[str, Any], costs: Mapping[str, Any]) -> Model:
    """Put together what is known of a schedule.

    The backward pass takes twice the multiplications of the forward pass; those grow with pixels.
    """
    cost = costs[entry["config"]]
    pixels = entry["train_size"][0] * entry["train_size"][1]
    share = pixels / (cost["size"][0] * cost["size"][1])
    flop = 3 * 2 * cost["macs"] * share
    images = entry["iterations"] * entry["batch"]
    return Model(entry["config"], images, flop, cost["parameters"], entry["loader_seconds"])


class Outcome(NamedTuple):
    """What a training on some GPUs takes.

    Attributes:
        hours (float): From the start to the end, with restarts.
        dollars (float): For all GPUs.
        loaders (float): Processors that a GPU needs so that it never waits for data.
        network_share (float): Part of a step's time in which GPUs wait for gradients.
        data_share (float): Part in which they wait for images.
        straggler_share (float): Part in which they wait for the slowest of them.
        read_gbps (float): Gigabits a second that all GPUs together read.
        limit (str): What costs most beside the network itself.
    """

    hours: float
    dollars: float
    loaders: float
    network_share: float
    data_share: float
    straggler_share: float
    read_gbps: float
    limit: str


def outcome(model: Model, constants: Mapping[str, float], gpus: int) -> Outcome:
    """Work out a training.

    Args:
        model (Model): What is trained; ``images_per_gpu`` of the constants is the batch of a GPU.
        constants (Mapping): By name.
        gpus (int): Number of them.
    """
    per_gpu = constants["images_per_gpu"]
    compute = model.flop * per_gpu / (constants["gpu_tflops"] * 1e12 * constants["gpu_utilisation"])
    exchange = exposed_exchange(model, constants, gpus, compute)
    step, waits = simulate_steps(model, constants, gpus, compute, exchange)
    images_per_second = gpus * per_gpu / step
    read = images_per_second * constants["image_bytes"] * 8 / 1e9
    slowed = max(1.0, read / constants["storage_gbps"])
    hours = model.images / images_per_second * slowed / 3600
    hours *= restart_factor(model, constants, gpus)
    shares = {
        "images (loaders)": waits["data"] / step,
        "gradients (network)": waits["exchange"] / step,
        "the slowest GPU": waits["straggler"] / step,
        "storage": 1 - 1 / slowed,
    }
    worst = max(shares, key=lambda name: shares[name])
    return Outcome(
        hours,
        hours * gpus * constants["dollars_per_gpu_hour"],
        model.loader_seconds * per_gpu / compute,
        waits["exchange"] / step,
        waits["data"] / step,
        waits["straggler"] / step,
        read,
        worst if shares[worst] > 0.05 else "nothing above 5 %",
    )


def exposed_exchange(
    model: Model, constants: Mapping[str, float], gpus: int, compute: float
) -> float:
    """Return the seconds of the gradients' exchange that the backward pass does not hide.

    A ring sends each byte of the gradients out of a node nearly twice; inside a node it goes over
    the faster links. Two thirds of a step are the backward pass, of which all but the first bucket
    hides it.
    """
    nodes = max(1, round(gpus / constants["gpus_per_node"]))
    sent = 4 * model.parameters * 2
    inside = sent * (1 - 1 / min(gpus, constants["gpus_per_node"])) * 8
    between = sent * (1 - 1 / nodes) * 8
    seconds = inside / (constants["node_gbps"] * 1e9) + between / (constants["network_gbps"] * 1e9)
    hops = 2 * (nodes - 1) * constants["hop_microseconds"] * 1e-6
    bucket = min(1.0, constants["bucket_megabytes"] * 1e6 / (4 * model.parameters))
    return max(bucket * seconds, seconds + hops - 2 / 3 * compute)


def simulate_steps(
    model: Model,
    constants: Mapping[str, float],
    gpus: int,
    compute: float,
    exchange: float,
    seed: int = 0,
) -> tuple[float, dict[str, float]]:
    """Play iterations: loaders fill queues, GPUs wait for a batch, then for each other.

    Args:
        model (Model): Its ``loader_seconds``.
        constants (Mapping): ``loaders_per_gpu``, ``prefetch``, ``images_per_gpu`` and the spreads.
        gpus (int): Number of GPUs.
        compute (float): Seconds of a step on a GPU.
        exchange (float): Seconds that all wait for gradients.
        seed (int): Of the spreads.

    Returns:
        tuple: Seconds of an iteration, and those of it that are waits: ``data``, ``straggler``,
        ``exchange``.
    """
    rng = np.random.default_rng(seed)
    loaders, per_gpu = int(constants["loaders_per_gpu"]), int(constants["images_per_gpu"])
    ahead = loaders * int(constants["prefetch"])
    ready = np.zeros((STEPS, gpus))  # when a batch is there
    begun = np.zeros((STEPS, gpus))  # when it was taken
    free = np.zeros((loaders, gpus))
    waits = {"data": 0.0, "straggler": 0.0, "exchange": exchange}
    now = 0.0
    warm = STEPS // 4  # the queues are empty at first
    for step in range(STEPS):
        worker = free[step % loaders]
        room = begun[step - ahead] if step >= ahead else 0.0
        spread = rng.lognormal(0.0, constants["loader_spread"], (per_gpu, gpus)).mean(0)
        ready[step] = np.maximum(worker, room) + per_gpu * model.loader_seconds * spread
        free[step % loaders] = ready[step]
        begun[step] = np.maximum(now, ready[step])
        drawn = compute * rng.lognormal(0.0, constants["step_spread"], gpus)
        ends = begun[step] + drawn
        if step == warm:
            start = now
        if step >= warm:  # what is longer than with all images there is a wait for images
            waits["data"] += float(ends.max() - (now + drawn).max()) / (STEPS - warm)
            waits["straggler"] += float(drawn.max() - drawn.mean()) / (STEPS - warm)
        now = float(ends.max()) + exchange
    return (now - start) / (STEPS - warm), waits


def restart_factor(model: Model, constants: Mapping[str, float], gpus: int) -> float:
    """Return by how much checkpoints and failures lengthen a training.

    The interval between checkpoints is Young's, the root of twice the seconds of writing one times
    the seconds between failures; a failure costs half an interval and a restart.
    """
    failures_apart = constants["gpu_hours_between_failures"] * 3600 / gpus
    write = 12 * model.parameters / (constants["disk_megabytes_per_second"] * 1e6)
    interval = (2 * write * failures_apart) ** 0.5
    lost = (interval / 2 + constants["restart_seconds"]) / failures_apart
    return 1 + write / interval + lost


def tables(models: Sequence[Model], constants: Mapping[str, float], gpus: Sequence[int]) -> str:
    """Write the tables as Markdown."""
    columns = (
        *("schedule", "GPUs", "hours", "dollars", "loaders a GPU"),
        *("waits for images / the slowest / gradients", "read, Gbit/s", "breaks first"),
    )
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for model in models:
        for count in gpus:
            found = outcome(model, constants, count)
            waits = (found.data_share, found.straggler_share, found.network_share)
            shares = " / ".join(f"{share:.0%}" for share in waits)
            lines.append(
                f"| `{model.name}` | {count} | {found.hours:.2f} | {found.dollars:,.0f} | "
                f"{found.loaders:.1f} | {shares} | {found.read_gbps:.1f} | {found.limit} |"
            )
    return "\n".join(lines)


def write_page(text: str) -> None:
    """Replace the tables of the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    with atomic_write(PAGE) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def measure(content: dict[str, Any], annotations: Path, images: Path) -> None:
    """Time the training pipelines of the schedules; the least of three passes over 40 images."""
    from mmpanoptic.apis import get_config
    from mmpanoptic.datasets import PanopticDataset
    from mmpanoptic.engine.config import resolve_config
    from mmpanoptic.registry import register_all_modules

    register_all_modules()
    files: dict[str, Any] = {
        "ann_file": str(annotations),
        "data_prefix": {"img": str(images), "seg": str(annotations.with_suffix(""))},
    }
    meta = PanopticDataset(**files).metainfo
    for entry in cli.track(content["schedules"], "pipelines"):
        cfg = resolve_config(get_config(entry["config"]), dataset_meta=meta)
        dataset = PanopticDataset(**files, pipeline=cfg.train_dataloader.dataset.pipeline)
        entry["loader_seconds"] = round(_seconds(dataset), 4)
    sizes = [Path(dataset.get_data_info(i)["img_path"]).stat().st_size for i in range(40)]
    content["constants"]["image_bytes"]["value"] = round(statistics.mean(sizes))


def _seconds(dataset: Any) -> float:
    passes = []
    for _ in range(3):
        begin = time.process_time()
        for index in range(40):
            dataset[index]
        passes.append((time.process_time() - begin) / 40)
    return min(passes)


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
