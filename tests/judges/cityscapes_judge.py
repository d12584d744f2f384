"""cityscapesScripts 2.3.0 called from Python, where it no longer runs by itself.

- numpy 2.4 has no ``np.in1d`` any more, which the pixel and the instance level call: ``np.isin``
  of flat arrays is the same function under its other name.
- The instance level ends with a file that holds ``numpy.int64``, which ``json`` refuses; nothing is
  written here, and the numbers are taken from what the functions return.
- It keeps the ground truth in a file beside its own code, which a later call with other data would
  read again; here the file is one of the test's folder.
- The panoptic level starts as many processes as the machine has CPUs, and the last bit of its
  sums depends on their number; here its computation for one process is called.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

PIXEL, INSTANCE, PANOPTIC = (
    f"cityscapesscripts.evaluation.eval{level}SemanticLabeling"
    for level in ("PixelLevel", "InstanceLevel", "Panoptic")
)


@contextlib.contextmanager
def _module(name: str) -> Iterator[Any]:
    """Import a module of cityscapesScripts, quiet, with what numpy took away."""
    added = not hasattr(np, "in1d")
    if added:
        np.in1d = np.isin
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield importlib.import_module(name)
    finally:
        if added:
            del np.in1d


def pixel_level(gt: Path, predictions: Path) -> dict[str, Any]:
    """Result of the pixel level for ``gt/<city>/*_gtFine_labelIds.png``."""
    truth = sorted(map(str, gt.glob("*/*_gtFine_labelIds.png")))
    with _module(PIXEL) as module:
        args = copy.copy(module.args)
        args.quiet, args.JSONOutput = True, False
        args.predictionPath, args.predictionWalk = str(predictions), None
        found = [module.getPrediction(args, file) for file in truth]
        return module.evaluateImgLists(found, truth, args)


def instance_level(gt: Path, predictions: Path, folder: Path) -> tuple[dict[str, Any], set[str]]:
    """Result of the instance level for ``gt/<city>/*_gtFine_instanceIds.png``.

    It stops with an IndexError at a class of which there is ground truth, while all predictions
    lie in regions that are ignored. Such classes are returned as well, and count as 0 here: nothing
    was found of them.
    """
    truth = sorted(map(str, gt.glob("*/*_gtFine_instanceIds.png")))
    with _module(INSTANCE) as module:
        args = copy.copy(module.args)
        args.quiet, args.JSONOutput = True, False
        args.predictionPath, args.predictionWalk = str(predictions.resolve()), None
        args.gtInstancesFile = str(folder / "gtInstances.json")
        found = [module.getPrediction(file, args) for file in truth]
        write, module.writeDict2JSON = module.writeDict2JSON, lambda *_: None
        try:
            module.setInstanceLabels(args)
            instances = module.getGtInstances(truth, args)
            matches = module.matchGtWithPreds(found, truth, instances, args)
            return _average(module, matches, args)
        finally:
            module.writeDict2JSON = write


def _average(module: Any, matches: Any, args: Any) -> tuple[dict[str, Any], set[str]]:
    rows, stopped, names = [], set(), args.instLabels
    for name in names:
        args.instLabels = [name]
        try:
            rows.append(module.evaluateMatches(matches, args))
        except IndexError:
            stopped.add(name)
            rows.append(np.zeros((1, 1, len(args.overlaps))))
    args.instLabels = names
    return module.computeAverages(np.concatenate(rows, 1), args), stopped


def panoptic_level(gt: Path, prediction: Path) -> dict[str, Any]:
    """Result of the panoptic level for two JSONs with their PNG folders beside them."""
    truth, found = (json.loads(path.read_text()) for path in (gt, prediction))
    categories = {category["id"]: category for category in truth["categories"]}
    predictions = {entry["image_id"]: entry for entry in found["annotations"]}
    pairs = [(entry, predictions[entry["image_id"]]) for entry in truth["annotations"]]
    folders = (str(gt.with_suffix("")), str(prediction.with_suffix("")))
    with _module(PANOPTIC) as module:
        stat = module.pq_compute_single_core(0, pairs, *folders, categories)
        return module.average_pq(stat, categories)


def make_panoptic(gt: Path, out: Path, train_ids: bool) -> None:
    """Run ``createPanopticImgs`` for the split val."""
    out.mkdir(parents=True, exist_ok=True)
    with _module("cityscapesscripts.preparation.createPanopticImgs") as module:
        module.convert2panoptic(str(gt), str(out), train_ids, ["val"])


def draw_train_ids(polygons: Path, out: Path) -> None:
    """Run ``json2labelImg`` as ``createTrainIdLabelImgs`` does."""
    with _module("cityscapesscripts.preparation.json2labelImg") as module:
        module.json2labelImg(str(polygons), str(out), "trainIds")
