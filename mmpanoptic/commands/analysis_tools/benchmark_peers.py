"""Time other packages and mmpanoptic in turn, on the same files, and compare their results.

hotcoco, panopticapi and mmdet evaluate PQ from PNG files, detectron2 makes Panoptic-DeepLab's
targets. They need not be installed beside mmpanoptic: --python names the interpreter of another
environment. What is not there is told. The ratio is theirs to ours: above 1, ours is faster.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmpanoptic import cli
from mmpanoptic.utils.jobs import usable_cpus

EXAMPLES = """
  python -m venv peers && peers/bin/pip install hotcoco
  %(prog)s --python peers/bin/python --images 200 --json peers.json
  %(prog)s panopticapi mmdet --repeats 5
"""
NUM_STUFF, NUM_THINGS = 20, 20
_INSTANCE_MAPS = ("center", "center_weights", "offset", "offset_weights")
STUFF_IN_IMAGE, THINGS_IN_IMAGE = 6, 15
SIGMA = 10
_AVERAGES = """
averages = {
    group: {key: float(value) for key, value in values.items() if key != "n"}
    for group, values in averages.items()
}
print(json.dumps({"result": averages}))
"""
_STAT = """
truth, found = (json.load(open(path)) for path in (truth, prediction))
categories = {category["id"]: category for category in truth["categories"]}
of = {entry["image_id"]: entry for entry in found["annotations"]}
pairs = [(entry, of[entry["image_id"]]) for entry in truth["annotations"]]
with contextlib.redirect_stdout(io.StringIO()):
    stat = pq_compute_single_core(0, pairs, truth_folder, prediction_folder, categories)
groups = {"All": None, "Things": True, "Stuff": False}
averages = {name: stat.pq_average(categories, isthing)[0] for name, isthing in groups.items()}
"""
_PQ_START = """
import contextlib, io, json, sys
truth, prediction, truth_folder, prediction_folder = sys.argv[1:]
"""
_TARGETS = """
import hashlib, json, sys, time
import numpy as np
folder, things, sigma = sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3])
from detectron2.projects.panoptic_deeplab.target_generator import PanopticDeepLabTargetGenerator
make = PanopticDeepLabTargetGenerator(
    ignore_label=255, thing_ids=things, sigma=int(sigma), ignore_stuff_in_offset=True,
    small_instance_area=4096, small_instance_weight=3)
entries = json.load(open(folder + "/targets.json"))
maps = [np.load(f"{folder}/{k}.npy") for k in range(len(entries))]
make(maps[0], entries[0])
start, cpu = time.perf_counter(), time.process_time()
made = [make(ids, segments) for ids, segments in zip(maps, entries)]
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
names = {"sem_seg": "int64", "sem_seg_weights": "float32", "center": "float32",
         "center_weights": "float32", "offset": "float32", "offset_weights": "float32"}
digests = {name: hashlib.sha256(b"".join(
    np.ascontiguousarray(np.asarray(one[name]), kind).tobytes() for one in made)).hexdigest()
    for name, kind in names.items()}
print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "result": digests}))
"""


class Peer(NamedTuple):
    """A package to compare with.

    Attributes:
        module: What is imported to find it.
        install: How it is installed.
        work: Key of :data:`WORKS`.
        script: Does the work in the environment of the peer, and prints JSON.
    """

    module: str
    install: str
    work: str
    script: str


PEERS = {
    "hotcoco": Peer(
        "hotcoco",
        "pip install hotcoco",
        "pq",
        _PQ_START
        + "from hotcoco.panoptic import pq_compute\n"
        + "with contextlib.redirect_stdout(io.StringIO()):\n"
        + "    found = pq_compute(truth, prediction, truth_folder, prediction_folder)\n"
        + 'averages = {group: found[group] for group in ("All", "Things", "Stuff")}\n'
        + _AVERAGES,
    ),
    "panopticapi": Peer(
        "panopticapi",
        "pip install --no-deps panopticapi-lite",
        "pq",
        _PQ_START
        + "from panopticapi.evaluation import pq_compute_single_core\n"
        + _STAT
        + _AVERAGES,
    ),
    "mmdet": Peer(
        "mmdet",
        "pip install mmdet mmcv, and panopticapi",
        "pq",
        _PQ_START
        + "with contextlib.suppress(ImportError):\n"
        + "    import mmpanoptic  # has what mmdet wants of mmcv where mmcv is not compiled\n"
        + "from mmdet.evaluation.functional.panoptic_utils import pq_compute_single_core\n"
        + _STAT
        + _AVERAGES,
    ),
    "detectron2": Peer("detectron2", "see its INSTALL.md; there is no wheel", "targets", _TARGETS),
}
WORKS = {
    "pq": "PQ of PNG files, whole process from its start",
    "targets": "Panoptic-DeepLab's targets, without the start",
}


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.add("peers", nargs="*", metavar="PEER", help=f"default: all, {', '.join(PEERS)}")
    parser.add(
        "--python", default=sys.executable, metavar="PATH", help="of the peers (default: this)"
    )
    parser.add("--images", type=cli.at_least(1), default=48, metavar="N", help="default 48")
    parser.take("size", default=[480, 640], help="of an image (default 480 640)")
    parser.add("--repeats", type=cli.at_least(1), default=3, metavar="N", help="default 3")
    parser.take("json")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Run peers and ours in turn; print a line for each, write JSON.

    Raises:
        UsageError: If a peer is unknown, or no peer is there.
        Failure: If results disagree or a peer fails.
    """
    unknown = [name for name in args.peers if name not in PEERS]
    if unknown:
        raise cli.UsageError(f"unknown peer {', '.join(unknown)}; there are {', '.join(PEERS)}")
    found = find_peers(args.python, args.peers or list(PEERS))
    for name, version in found.items():
        if version is None:
            yield f"{name}: not installed in {args.python} ({PEERS[name].install}); left out"
    present = {name: version for name, version in found.items() if version is not None}
    figures, failures = [], []
    with tempfile.TemporaryDirectory() as folder:
        if present:
            write_inputs(Path(folder), args.images, *args.size)
        for name, version in cli.track(list(present.items()), "peers"):
            try:
                figures.append(
                    {"version": version, **measure(name, args.python, Path(folder), args.repeats)}
                )
            except (cli.Failure, AssertionError) as error:
                failures.append(f"{name}: {error}")
    yield from map(describe, figures)
    height, width = args.size
    yield (
        f"{args.images} images of {height}x{width}, medians of {args.repeats}, "
        f"{usable_cpus()} usable processors"
    )
    settings = {"images": args.images, "size": args.size, "repeats": args.repeats}
    cli.save_json(args, {**settings, "processors": usable_cpus(), "peers": figures})
    if failures:
        raise cli.Failure("\n".join(failures))


def find_peers(python: str, names: Sequence[str]) -> dict[str, str | None]:
    """Ask an interpreter for the versions of the peers; None where one is absent.

    Raises:
        UsageError: If the interpreter cannot be run.
    """
    script = (
        "import importlib.metadata as m, importlib.util as u, json, sys\n"
        "owners = m.packages_distributions() if hasattr(m, 'packages_distributions') else {}\n"
        "def version(name):\n"
        "    if u.find_spec(name) is None: return None\n"
        "    return m.version(owners[name][0]) if name in owners else 'of unknown version'\n"
        "print(json.dumps([version(name) for name in sys.argv[1:]]))"
    )
    command = [python, "-c", script, *(PEERS[name].module for name in names)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        versions = json.loads(done.stdout.splitlines()[-1])
    except (OSError, ValueError, IndexError) as error:
        raise cli.UsageError(f"--python {python} is no Python interpreter ({error})") from error
    return dict(zip(names, versions, strict=True))


def write_inputs(folder: Path, images: int, height: int, width: int) -> None:
    """Draw scenes; write both files of PQ, and two maps for the targets."""
    from mmpanoptic.utils import write_json
    from mmpanoptic.utils.panoptic_png import encode_panoptic_png

    rng = np.random.default_rng(0)
    categories = [
        {"id": k, "name": f"class {k}", "isthing": int(k >= NUM_STUFF)}
        for k in range(1, NUM_STUFF + NUM_THINGS)
    ]
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    entries: list[list[dict[str, Any]]] = []
    for name in ("truth", "prediction"):
        (folder / name).mkdir()
    for number in range(images):
        ids, labels = draw_scene(rng, height, width)
        moved = np.roll(ids, rng.integers(1, 9, 2), (0, 1))
        areas, hits = (np.bincount(m.ravel(), minlength=len(labels) + 1) for m in (ids, moved))
        name = f"{number:06d}.png"
        segments = [
            {"id": k, "category_id": c, "area": int(areas[k]), "iscrowd": 0}
            for k, c in enumerate(labels, 1)
            if areas[k]
        ]
        guesses = [
            {"id": s["id"], "category_id": s["category_id"]} for s in segments if hits[s["id"]]
        ]
        for entry, info in ((truth, segments), (found, guesses)):
            entry.append({"image_id": number, "file_name": name, "segments_info": info})
        for part, drawn in (("truth", ids), ("prediction", moved)):
            (folder / part / name).write_bytes(encode_panoptic_png(drawn))
        if number < 2:
            np.save(folder / f"{number}.npy", ids)
            entries.append(segments)
    listed = [
        {"id": n, "file_name": f"{n:06d}.jpg", "height": height, "width": width}
        for n in range(images)
    ]
    write_json(
        folder / "truth.json", {"images": listed, "annotations": truth, "categories": categories}
    )
    write_json(folder / "prediction.json", {"annotations": found})
    write_json(folder / "targets.json", entries)


def draw_scene(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, list[int]]:
    """Draw wavy bands of stuff and ellipses of things.

    Returns:
        tuple: Ids ``(H, W)`` int32, 1 and up, and the category of each.
    """
    y, x = np.mgrid[:height, :width].astype(np.float32)
    phase, waves = rng.uniform(0, 6, 2)
    ids = ((y + height / 12 * np.sin(waves * x / width + phase)) * STUFF_IN_IMAGE / height).astype(
        np.int32
    )
    ids = ids.clip(0, STUFF_IN_IMAGE - 1) + 1
    labels = rng.permutation(np.arange(1, NUM_STUFF))[:STUFF_IN_IMAGE].tolist()
    for k in range(THINGS_IN_IMAGE):
        cy, cx, ry, rx = rng.uniform((0, 0, 0.03, 0.03), (1, 1, 0.2, 0.2))
        inside = ((y / height - cy) / ry) ** 2 + ((x / width - cx) / rx) ** 2 < 1
        ids[inside] = STUFF_IN_IMAGE + 1 + k
        labels.append(int(rng.integers(NUM_STUFF, NUM_STUFF + NUM_THINGS)))
    return ids, labels


def measure(name: str, python: str, folder: Path, repeats: int) -> dict[str, Any]:
    """Run a peer and ours in turn.

    Returns:
        dict: Names, medians of seconds and of processor time, and their ratios.

    Raises:
        Failure: If a process fails or the results disagree.
    """
    peer = PEERS[name]
    paths = [
        str(folder / part) for part in ("truth.json", "prediction.json", "truth", "prediction")
    ]
    things = json.dumps(list(range(NUM_STUFF, NUM_STUFF + NUM_THINGS)))
    arguments = paths if peer.work == "pq" else [str(folder), things, str(SIGMA)]
    runs: dict[str, list[dict[str, Any]]] = {"peer": [], "ours": []}
    for _ in range(repeats):
        runs["peer"].append(timed([python, "-c", peer.script, *arguments]))
        runs["ours"].append(OURS[peer.work](folder, paths))
    compare(runs["peer"][0]["result"], runs["ours"][0]["result"])
    medians = {
        who: {
            key: statistics.median(one[key] for one in some) for key in ("seconds", "cpu_seconds")
        }
        for who, some in runs.items()
    }
    ratios = {
        "ratio": medians["peer"]["seconds"] / medians["ours"]["seconds"],
        "cpu_ratio": medians["peer"]["cpu_seconds"] / medians["ours"]["cpu_seconds"],
    }
    return {"peer": name, "work": WORKS[peer.work], "medians": medians, **ratios}


def timed(command: Sequence[str]) -> dict[str, Any]:
    """Run a process that may print JSON in its last line; time it where it does not time itself.

    Raises:
        Failure: If it fails; with the last line of what it says.
    """
    import resource

    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise cli.Failure((done.stderr.strip().splitlines() or ["it failed in silence"])[-1])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    last = done.stdout.strip().splitlines()[-1]
    said = json.loads(last) if last.startswith("{") else {}
    return {"seconds": seconds, "cpu_seconds": cpu, **said}


def evaluate_ours(folder: Path, paths: Sequence[str]) -> dict[str, Any]:
    """Evaluate as a user does: ``mmpanoptic eval panoptic``."""
    options = ("--gt_json_file", "--pred_json_file", "--gt_folder", "--pred_folder")
    words = [word for pair in zip(options, paths, strict=True) for word in pair]
    out = folder / "ours.json"
    figures = timed(
        [sys.executable, "-m", "mmpanoptic", "eval", "panoptic", *words, "--json", str(out)]
    )
    averages = json.loads(out.read_text(encoding="utf-8"))
    result = {
        group: {key: averages[group][key] for key in ("pq", "sq", "rq")}
        for group in ("All", "Things", "Stuff")
    }
    return {**figures, "result": result}


def make_our_targets(folder: Path, paths: Sequence[str]) -> dict[str, Any]:
    """Make the targets of both heads in this process."""
    from mmdet.structures import DetDataSample

    from mmpanoptic.models.instance_heads import make_center_offset_targets
    from mmpanoptic.models.layers import collate_segments
    from mmpanoptic.models.semantic_heads.semantic_targets import make_semantic_targets
    from mmpanoptic.structures import SegmentInfo, make_panoptic_data

    samples = []
    for k, segments in enumerate(json.loads((folder / "targets.json").read_text(encoding="utf-8"))):
        ids = np.load(folder / f"{k}.npy")
        infos = [
            SegmentInfo(
                id=s["id"], label=s["category_id"], isthing=s["category_id"] >= NUM_STUFF, iscrowd=0
            )
            for s in segments
        ]
        index_of = np.zeros(int(ids.max()) + 1, np.uint8)
        index_of[[s["id"] for s in segments]] = np.arange(1, len(segments) + 1)
        sample = DetDataSample(metainfo={"img_shape": ids.shape})
        sample.gt_panoptic_seg = make_panoptic_data(index_of[ids], infos)
        samples.append(sample)

    def make() -> dict[str, Any]:
        segments = collate_segments(samples)
        semantic, weight = make_semantic_targets(segments)
        made = make_center_offset_targets(segments, SIGMA)
        instances = dict(zip(_INSTANCE_MAPS, made, strict=False))  # not the list of points
        return {"sem_seg": semantic, "sem_seg_weights": weight, **instances}

    make()
    start, cpu = time.perf_counter(), time.process_time()
    made = make()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    digests = {
        name: hashlib.sha256(np.ascontiguousarray(value.numpy()).tobytes()).hexdigest()
        for name, value in made.items()
    }
    return {"seconds": seconds, "cpu_seconds": cpu, "result": digests}


OURS = {"pq": evaluate_ours, "targets": make_our_targets}


def compare(theirs: Mapping[str, Any], ours: Mapping[str, Any], place: str = "") -> None:
    """Compare results: numbers to 1e-9, other values exactly.

    Raises:
        AssertionError: Naming the first difference.
    """
    for name, value in theirs.items():
        where = f"{place}{name}"
        if name not in ours:
            raise AssertionError(f"the results disagree: ours lack {where}")
        if isinstance(value, Mapping):
            compare(value, ours[name], f"{where} ")
            continue
        number = isinstance(value, float)
        if not (abs(value - ours[name]) <= 1e-9 if number else value == ours[name]):
            raise AssertionError(f"the results disagree: {where} is {value!r}, ours {ours[name]!r}")


def describe(figure: Mapping[str, Any]) -> str:
    """Write the figures of a peer in a line."""
    both = [
        f"{figure['medians'][who][key]:.3g}"
        for key in ("seconds", "cpu_seconds")
        for who in ("peer", "ours")
    ]
    return (
        f"{figure['peer']} {figure['version']}, {figure['work']}: {both[0]} s, ours {both[1]} s, "
        f"ratio {figure['ratio']:.2f}; processor time {both[2]} s, ours {both[3]} s, "
        f"ratio {figure['cpu_ratio']:.2f}; the results agree"
    )


main = cli.Command(build_parser, run)
