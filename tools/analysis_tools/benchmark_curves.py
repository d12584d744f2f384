#!/usr/bin/env python
"""Measure how cost grows with size: processor time of one thread, drawn as curves.

Each curve takes inputs of growing size. A point is the least processor time of several runs, which
work beside it moves little. The exponent is the slope of the last half of a curve in logarithms:
1 is linear, n log n about 1.1.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from mmpanoptic import cli

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = """
  %(prog)s --json docs/curves.json
  %(prog)s amwc pq --largest 0.1
"""
HD = (1024, 2048)
Work = Callable[[], object]


class Curve(NamedTuple):
    """A way to grow.

    Attributes:
        title: What is measured, and of what.
        axis: What grows.
        sizes: From small to large.
        make: Makes the work of a size.
    """

    title: str
    axis: str
    sizes: tuple[int, ...]
    make: Callable[[int], Work]


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, f"{EXAMPLES}\ncurves: {', '.join(CURVES)}")
    parser.add("curves", nargs="*", metavar="CURVE", help="default: all")
    parser.take("threads", default=1, help="default: 1")
    parser.add("--repeats", type=cli.at_least(1), default=3, metavar="N", help="default: 3")
    parser.add(
        "--largest",
        type=cli.at_least(0, float),
        default=1.0,
        metavar="SHARE",
        help="leave out sizes above this share of the largest (default: 1, none)",
    )
    parser.take("json")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Measure the curves, print a table for each, write JSON.

    Raises:
        UsageError: If a curve is unknown.
    """
    unknown = [name for name in args.curves if name not in CURVES]
    if unknown:
        raise cli.UsageError(f"unknown curve {', '.join(unknown)}; there are {', '.join(CURVES)}")
    sys.path.insert(0, str(ROOT))  # inputs are drawn by tests/reference
    found = {}
    for name in cli.track(args.curves or list(CURVES), "curves"):
        curve = CURVES[name]
        sizes = [n for n in curve.sizes if n <= args.largest * curve.sizes[-1]] or curve.sizes[:1]
        points = [measure(curve.make, size, args.repeats) for size in sizes]
        found[name] = {
            "title": curve.title,
            "axis": curve.axis,
            "points": points,
            "exponent": exponent([(p["size"], p["cpu_seconds"]) for p in points]),
        }
        yield from describe(name, found[name])
    cli.save_json(args, {"threads": args.threads, "repeats": args.repeats, "curves": found})


def measure(make: Callable[[int], Work], size: int, repeats: int) -> dict[str, Any]:
    """Run the work of a size.

    Returns:
        dict: ``size``, the least ``cpu_seconds`` and, on Linux, ``peak_mib``, the growth of the
        process during a run.
    """
    peak_memory = import_module("tools.analysis_tools.benchmark_parts").peak_memory
    work = make(size)
    peak = peak_memory(lambda _: work(), None)  # the warm-up
    seconds = []
    for _ in range(repeats):
        gc.collect()
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    size = getattr(work, "size", size)  # where it comes from what was drawn
    return {"size": size, "cpu_seconds": min(seconds), "peak_mib": peak}


def exponent(points: list[tuple[int, float]]) -> float | None:
    """Fit a power to the last half of the points; None for a single one."""
    last = [(math.log(n), math.log(max(s, 1e-9))) for n, s in points[len(points) // 2 - 1 :]]
    if len(last) < 2:
        return None
    x, y = (sum(values) / len(last) for values in zip(*last, strict=True))
    return sum((a - x) * (b - y) for a, b in last) / sum((a - x) ** 2 for a, _ in last)


def describe(name: str, found: Mapping[str, Any]) -> Iterator[str]:
    """Write a curve as lines."""
    power = "" if found["exponent"] is None else f"; grows as n^{found['exponent']:.2f}"
    yield f"{name}: {found['title']}{power}"
    for point in found["points"]:
        memory = "" if point["peak_mib"] is None else f"{point['peak_mib']:10.1f} MiB more"
        yield f"{point['size']:>12,} {found['axis']:12} {point['cpu_seconds']:10.4f} s{memory}"


# ---- what grows -------------------------------------------------------------------------------


def pq_files(count: int) -> Work:
    """Evaluate files: 24 pairs of PNGs, under as many names as there are images."""
    from mmpanoptic.evaluation import evaluate_files
    from mmpanoptic.utils import read_json, write_json
    from tests.reference.panoptic_files import write_files

    drawn = 24
    files = write_files("default", 120, 160, num_stuff=7, num_things=7, num_images=drawn)
    for path, folder in zip(files.paths[:2], ("gt", "pred"), strict=True):
        content = read_json(path)
        entries = content["annotations"]
        content["annotations"] = [
            {**entries[k % drawn], "image_id": k, "file_name": f"{k}.png"} for k in range(count)
        ]
        write_json(path, content)
        for k, entry in enumerate(content["annotations"]):
            source = files.folder / folder / f"{k % drawn:012d}.png"
            os.symlink(source, files.folder / folder / entry["file_name"])
    # A work of its own keeps the folder as long as it lives.
    return lambda: evaluate_files(*files.paths, workers=1)


def panoptic_deeplab(shape: tuple[int, int], things: int) -> Work:
    """From the outputs at stride 4 to segments."""
    import torch

    from mmpanoptic.models.fusion_heads import CenterGroupingHead
    from mmpanoptic.models.instance_heads import CenterOffsetOutputs
    from tests.data.golden.panoptic_deeplab.crafted_inputs import (
        CITYSCAPES_THINGS,
        make_logits,
        make_postprocess_inputs,
    )

    scale = 0.25 / math.sqrt(max(things, 16))
    arrays = make_postprocess_inputs(0, *shape, things, scale=scale)
    logits = torch.from_numpy(make_logits(0, arrays["sem"][::4, ::4]))[None]
    center = torch.from_numpy(arrays["center"])[None, :, ::4, ::4].contiguous()
    offset = torch.from_numpy(arrays["offset"])[None, :, ::4, ::4] / 4
    head = CenterGroupingHead(19, CITYSCAPES_THINGS, stuff_area=2048, nms_kernel=7, top_k=things)
    outputs = CenterOffsetOutputs(center, offset)
    return lambda: head.predict(logits, outputs, [{"img_shape": shape}])


def ordered_fusion(kind: str, shape: tuple[int, int], things: int) -> Work:
    """Order, paste and paint detections."""
    import torch

    from mmpanoptic.models.fusion_heads import ordered_fusion as heads
    from mmpanoptic.models.layers import PairQuery
    from tests.reference.rap_scene import NUM_STUFF, NUM_THINGS, draw_detections

    inputs = draw_detections(0, things, *shape)
    labels: dict[str, Any] = {
        "thing_labels": range(NUM_THINGS),
        "stuff_labels": range(NUM_THINGS, NUM_THINGS + NUM_STUFF),
    }
    options: dict[str, Any] = {"score_thr": 0.0, "stuff_area": 4096, "mask_mode": "legacy"}
    if kind == "relation":
        head: Any = heads.RelationFusionHead(**labels, **options, overlap_thr=0.6)
    elif kind == "occlusion":
        head = heads.OcclusionFusionHead(**labels, **options, overlap_thr=0.5, pair_thr=0.2)
        table = inputs["occlusion"].float()
        inputs["found"].occlusion = PairQuery(
            torch.arange(things), lambda own, pairs: table[own[pairs[:, 0]], own[pairs[:, 1]]]
        )
    elif kind == "area":
        labels["stuff_labels"] = tuple(labels["stuff_labels"])
        head = heads.LabelResizeFusionHead(
            **labels, **options, overlap_thr=0.5, order="area", area_order_thr=0.725
        )
    else:
        head = heads.HeuristicFusionHead(**labels, **options, overlap_thr=0.5)
    return lambda: head.predict_single(inputs["channels"], inputs["found"])


def efficientps(shape: tuple[int, int], things: int) -> Work:
    """Fuse instances with the semantic logits."""
    import torch

    from mmpanoptic.models.fusion_heads import AdaptiveLogitFusionHead
    from tests.reference.rap_scene import draw_detections

    found = draw_detections(0, things, *shape)["found"]
    found.labels = found.labels % 8
    logits = torch.randn(1, 19, shape[0] // 4, shape[1] // 4, generator=torch.manual_seed(0))
    head = AdaptiveLogitFusionHead(19, range(11, 19), stuff_area=2048)
    return lambda: head.predict(logits, [found], [{"img_shape": shape}])


def solov2(shape: tuple[int, int], things: int) -> Work:
    """Select candidates and enlarge masks, 64 channels of features; the limits follow the scene."""
    import numpy as np
    import torch

    from mmpanoptic.models.fusion_heads import SOLOv2FusionHead

    part = import_module("tools.analysis_tools.parts.solov2_post")
    rng = np.random.default_rng(0)
    cells = np.concatenate([part._centers(side) for side in part.GRIDS])
    objects = rng.uniform(0.03, 0.97, (things, 2))
    radius = rng.uniform(0.1, 0.4, things) / math.sqrt(things)
    distance = np.linalg.norm(cells[:, None] - objects, axis=2)
    owner = distance.argmin(1)
    scores = (0.95 - 0.6 * distance.min(1) / radius[owner]).clip(0.001, 0.999)
    cls = np.full((1, part.NUM_CLASSES, len(cells)), -6.0, np.float32)
    cls[0, owner % part.NUM_CLASSES, np.arange(len(cells))] = np.log(scores / (1 - scores))
    feats = part._features(shape[0] // 4, shape[1] // 4, 64, rng)
    kernels = part._discs(objects[owner], radius[owner], 64, rng)
    maps = [torch.from_numpy(array.astype(np.float32)) for array in (kernels, feats)]
    head = SOLOv2FusionHead(
        range(part.NUM_CLASSES),
        part.GRIDS,
        part.STRIDES,
        nms_pre=max(500, 2 * things),
        max_per_img=max(100, things),
    )
    outputs = (torch.from_numpy(cls), maps[0][None], maps[1][None])
    return lambda: head.predict(None, outputs, [{"img_shape": shape, "ori_shape": shape}])


def cops(shape: tuple[int, int], things: int) -> Work:
    """Everything behind the solver, whose labels and components are drawn."""
    import torch

    from mmpanoptic.models.fusion_heads import MulticutHead
    from mmpanoptic.models.multicut.layer import CutProblem
    from tests.data.golden.cops.synthetic_scenes import scene

    distances, labels = (1, 4, 16), tuple(range(11, 19))
    cells = (shape[0] // 4, shape[1] // 4)
    nodes, edges, *_ = scene(7, *cells, 19, labels, distances, num_things=things)
    costs = torch.from_numpy(nodes), [torch.from_numpy(array) for array in edges]
    head: Any = MulticutHead(19, labels, distances, stuff_area=2048, num_threads=1)
    (cut,) = head.solve_asymmetric([CutProblem(*costs)])
    edge_logits = [-part for part in costs[1]]
    return lambda: head.predict_single(cut, -costs[0], edge_logits, {"img_shape": shape})


def amwc(edges: int) -> Work:
    """Solve a scene of Cityscapes' kind with about this many edges."""
    from mmpanoptic.ops.amwc import solve_grid
    from tests.reference.amwc_baseline import make_scene

    height = max(32, round(math.sqrt(edges / 2 / 10) / 8) * 8)  # ten edges a cell
    things = max(4, height * height // 1024)
    scene = make_scene("cityscapes", 2, height, 2 * height, min(things, 60), 3.0)
    keys = ("nodes", "edges", "distances", "things")
    work: Any = partial(solve_grid, *(scene[key] for key in keys))
    work.size = len(scene["pairs"])
    return work


def opening(count: int) -> Work:
    """Open an annotation file for the first time."""
    import json

    from mmpanoptic.datasets import PanopticDataset

    draw = import_module("tools.analysis_tools.parts.open_annotations").draw
    temporary = tempfile.TemporaryDirectory()
    file = Path(temporary.name, "panoptic.json")
    file.write_text(json.dumps(draw(count)))
    folder = {"keeps": temporary}  # as long as the work lives
    return lambda: folder and PanopticDataset(str(file), use_cache=False)


def training_step(pixels: int) -> Work:
    """Make a training step of the demo's model: two square images, forward, losses, backward."""
    import torch

    from mmpanoptic.apis import get_config
    from mmpanoptic.apis.speed import StepTimer, make_table
    from mmpanoptic.engine.config import resolve_config
    from mmpanoptic.registry import MODELS

    cfg = get_config("panoptic-deeplab_r18-tiny_1xb8-500_shapes")
    cfg = resolve_config(cfg, dataset_meta=make_table().to_metainfo())
    side = math.isqrt(pixels)
    batch = StepTimer(cfg, 2, (side, side), torch.device("cpu"), 1, 0).batch
    model: Any = MODELS.build(cfg.model).train()
    batch = model.data_preprocessor(batch, training=True)
    return lambda: model.parse_losses(model(**batch, mode="loss"))[0].backward()


INSTANCES = (10, 30, 100, 300, 1000)
MEGAPIXELS = (1, 2, 4, 8)
POST: dict[str, tuple[str, Callable[[tuple[int, int], int], Work]]] = {
    "panoptic_deeplab": ("Panoptic-DeepLab", panoptic_deeplab),
    "panoptic_fpn": ("Panoptic FPN", partial(ordered_fusion, "heuristic")),
    "rap": ("RAP", partial(ordered_fusion, "relation")),
    "ocfusion": ("OCFusion", partial(ordered_fusion, "occlusion")),
    "auto_panoptic": ("Auto-Panoptic", partial(ordered_fusion, "area")),
    "efficientps": ("EfficientPS", efficientps),
    "solov2": ("SOLOv2", solov2),
    "cops": ("COPS behind the solver", cops),
}


def _of_instances(make: Callable[[tuple[int, int], int], Work], count: int) -> Work:
    return make(HD, count)


def _of_pixels(make: Callable[[tuple[int, int], int], Work], pixels: int) -> Work:
    height = math.isqrt(pixels // 2) // 32 * 32
    return make((height, 2 * height), 40)


CURVES = {
    "pq": Curve("PQ of pairs of files of 120x160", "images", (500, 2000, 8000, 50_000), pq_files),
    **{
        f"{name}_instances": Curve(
            f"{title}, post-processing at 1024x2048",
            "instances",
            INSTANCES,
            partial(_of_instances, make),
        )
        for name, (title, make) in POST.items()
    },
    **{
        f"{name}_pixels": Curve(
            f"{title}, post-processing of 40 instances",
            "pixels",
            tuple(n << 20 for n in MEGAPIXELS),
            partial(_of_pixels, make),
        )
        for name, (title, make) in POST.items()
    },
    "amwc": Curve("asymmetric multiway cut", "edges", (20_000, 80_000, 320_000, 1_280_000), amwc),
    "opening": Curve(
        "opening an annotation file", "images", (1000, 4000, 16_000, 64_000, 118_000), opening
    ),
    "training": Curve(
        "a training step of the demo's model, 2 images",
        "pixels",
        tuple(side**2 for side in (64, 128, 256, 512)),
        training_step,
    ),
}

main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
