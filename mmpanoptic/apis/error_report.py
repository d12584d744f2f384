"""The report of errors as a folder: ``index.html``, ``report.json`` and pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmpanoptic.evaluation.panoptic_errors import KINDS, RIGHT
from mmpanoptic.evaluation.panoptic_report import (
    SURE,
    ImageReport,
    PanopticReport,
    Segments,
    compare,
)
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils import jobs, read_json, write_json
from mmpanoptic.utils.panoptic_png import read_panoptic_png
from mmpanoptic.visualization import (
    DrawStyle,
    difference_map,
    draw_difference,
    draw_panoptic,
    index_of_ids,
    write_picture,
)
from mmpanoptic.visualization.charts import bar_chart, line_chart
from mmpanoptic.visualization.draw import fit_to_view
from mmpanoptic.visualization.pages import list_runs, write_page

KIND_NAMES = {
    "imprecise": "imprecise mask",
    "missed": "missed",
    "invented": "invented",
    "wrong_class": "wrong class",
    "split": "split",
    "merged": "merged",
    "boundary": "poor boundary",
    "void": "left void",
}
_THUMB = 220
_PAIRS = 20
_LISTED = 500


@dataclass(frozen=True)
class ReportInputs:
    """Where the pictures of a report come from.

    Attributes:
        gt_json (str | os.PathLike): Ground truth, for classes and names of images.
        gt_folder (Path): Its PNGs.
        pred_folder (Path): PNGs of the predictions.
        images (Path | None): Folder of the images; without it they are grey.
        palette (str): See :class:`mmpanoptic.visualization.DrawStyle`.
        drawn (int): Images to draw, those with the greatest loss; 0 for all.
        nproc (int): Processes that draw.
        title (str): Of the page.
        notes (Sequence[str]): Added to the page's first line.
        samples (int): Draws of the bootstrap.
        other (tuple): Name and report of a run to compare with, or nothing.
    """

    gt_json: str | os.PathLike[str]
    gt_folder: Path
    pred_folder: Path
    images: Path | None = None
    palette: str = DrawStyle.palette
    drawn: int = 500
    nproc: int = 1
    title: str = "Errors"
    notes: Sequence[str] = ()
    samples: int = 1000
    other: tuple[str, PanopticReport] | None = field(default=None, repr=False)


def write_report(
    folder: str | os.PathLike[str], report: PanopticReport, inputs: ReportInputs
) -> dict[str, Any]:
    """Write the report.

    Args:
        folder: Made if missing; files of an older report are replaced.
        report (PanopticReport): The analysis.
        inputs (ReportInputs): Pictures and texts.

    Returns:
        dict: What ``report.json`` holds.

    Raises:
        ValueError: If an image is not listed, or its size is not that of its map.
    """
    folder = Path(folder)
    truth = read_json(inputs.gt_json)
    table = LabelTable.from_categories(truth["categories"])
    files = {image["id"]: image["file_name"] for image in truth.get("images", ())}
    names = [_image_name(files, key, inputs) for key, _, _ in report.result.images]
    figures = report.to_dict(inputs.samples)
    figures["comparison"] = None
    if inputs.other is not None:
        figures["comparison"] = compare(inputs.other[1], report, inputs.samples)
    order = np.argsort(-report.loss, kind="stable")[: inputs.drawn or None]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    items = [(k, names[i], report.images[i]) for k, i in enumerate(order.tolist())]
    draw = partial(_draw_image, folder=folder / "images", table=table, inputs=inputs)
    for _ in jobs.run(draw, items, inputs.nproc, "images"):
        pass
    figures["per_image"] = [
        {"image_id": row["image_id"], "file_name": name, "pq": row["pq"] if row["n"] else None,
         "loss": loss}
        for row, name, loss in zip(
            report.result.per_image, names, figures.pop("loss"), strict=True
        )
    ]  # fmt: skip
    figures["classes"] = [label.name for label in table]
    write_json(folder / "report.json", figures, indent=1)
    _write_index(folder, report, inputs, figures, order, table)
    return figures


def _image_name(files: Mapping[Any, str], key: Any, inputs: ReportInputs) -> str:
    if key in files:
        return files[key]
    if inputs.images is None:
        return str(key)
    raise ValueError(
        f"{inputs.gt_json}: images lists no entry with the id {key!r}, so its file below "
        f"{inputs.images} is unknown"
    )


def _draw_image(
    item: tuple[int, str, ImageReport], folder: Path, table: LabelTable, inputs: ReportInputs
) -> None:
    """Write the four pictures, the thumbnail and the segments of one image."""
    number, name, report = item
    sides = []
    for segments, png in (
        (report.truth, inputs.gt_folder / report.files[0]),
        (report.found, inputs.pred_folder / report.files[1]),
    ):
        # Of the ground truth only crowds are not counted.
        crowd = ~segments.counted if segments is report.truth else np.zeros_like(segments.counted)
        info = [
            {"id": int(key), "label": int(label), "iscrowd": int(is_crowd)}
            for key, label, is_crowd in zip(segments.ids, segments.category, crowd, strict=True)
            if label < len(table)
        ]
        sides.append((index_of_ids(read_panoptic_png(png), info), info))
    shape = sides[0][0].shape
    image = np.full((*shape, 3), 128, np.uint8)
    if inputs.images is not None:
        image = _load(inputs.images / name)
        if image.shape[:2] != shape:
            raise ValueError(
                f"{inputs.images / name} is {image.shape[0]}x{image.shape[1]}, its map "
                f"{report.files[0]} {shape[0]}x{shape[1]}; --images must name the folder of the "
                "annotated images"
            )
    image, maps = fit_to_view(image, [index for index, _ in sides])
    style = DrawStyle(palette=inputs.palette)
    pictures = {"image": image}
    for title, index, (_, info) in zip(("truth", "prediction"), maps, sides, strict=True):
        pictures[title] = draw_panoptic(image, index, info, table, style)
    wrong = difference_map(maps[0], sides[0][1], maps[1], sides[1][1])
    pictures["difference"] = draw_difference(image, wrong)
    for title, picture in pictures.items():
        write_picture(folder / f"{number:05d}_{title}.jpg", picture)
    factor = min(1.0, _THUMB / max(shape := image.shape[:2]))
    size = [max(1, round(side * factor)) for side in shape[::-1]]
    thumb = cv2.resize(pictures["prediction"], size, interpolation=cv2.INTER_AREA)
    write_picture(folder / f"{number:05d}_thumb.jpg", thumb)
    _write_segments(folder / f"{number:05d}.js", maps, report, table)


def _load(path: Path) -> np.ndarray:
    from mmpanoptic.datasets.transforms import LoadImage

    loaded = LoadImage().transform({"img_path": str(path)})["img"]
    return np.ascontiguousarray(loaded[..., ::-1])


def _write_segments(
    path: Path, maps: list[np.ndarray], report: ImageReport, table: LabelTable
) -> None:
    """Write what the page tells about segments, as a script that it can load from a folder."""
    sides = []
    for name, index, segments in zip(
        ("truth", "prediction"), maps, (report.truth, report.found), strict=True
    ):
        rows = _describe_segments(segments, table)
        sides.append({"name": name, "runs": list_runs(index), "segments": rows})
    height, width = maps[0].shape
    content = {"width": width, "height": height, "sides": sides}
    # JSON is a part of JavaScript; "<" cannot end a script, which a file is anyway.
    text = json.dumps(content, separators=(",", ":"))
    jobs.write_file(path, f'segmentMaps("images/{path.name}", {text});\n'.encode())


def _describe_segments(segments: Segments, table: LabelTable) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for k, label in enumerate(segments.category.tolist()):
        if label >= len(table):
            continue
        kind = "" if segments.kind[k] == RIGHT else KIND_NAMES[KINDS[segments.kind[k]]]
        if not segments.counted[k]:
            kind = "not counted"
        score = None if np.isnan(segments.score[k]) else round(float(segments.score[k]), 4)
        rows.append([table[label].name, int(segments.ids[k]), int(segments.area[k]), score, kind])
    return rows


def _write_index(
    folder: Path,
    report: PanopticReport,
    inputs: ReportInputs,
    figures: dict[str, Any],
    order: np.ndarray,
    table: LabelTable,
) -> None:
    rows = figures["per_image"]
    place = {int(i): k for k, i in enumerate(order)}
    suspects = [
        {**row, "name": rows[row["image"]]["file_name"], "shown": place.get(row["image"])}
        for row in figures["suspects"][:_LISTED]
    ]
    inner = report.size_edges(4)[1:-1]
    images = []
    for i in order.tolist():
        pq = rows[i]["pq"]
        images.append(
            [
                rows[i]["file_name"],
                round(100 * rows[i]["loss"], 4),
                None if pq is None else round(100 * pq, 2),
                _codes(report.images[i], inner, len(table)),
            ]
        )
    other, verdict = "", ""
    if inputs.other is not None:
        other = inputs.other[0]
        verdict = describe_comparison(figures["comparison"], other)
    write_page(
        folder / "index.html",
        "report.html",
        title=inputs.title,
        notes=inputs.notes,
        figures=figures,
        classes=figures["classes"],
        table=table,
        kinds=KIND_NAMES,
        charts=_charts(figures),
        confused_segments=_most_confused(figures["confusion"], "segments"),
        confused_pixels=_most_confused(figures["confusion"], "pixels"),
        suspects=suspects,
        sure=SURE,
        drawn=len(order),
        other=other,
        verdict=verdict,
        data={
            "images": images,
            "classes": len(table),
            "sizes": len(figures["size"]),
            "suspects": suspects,
        },
    )


def _codes(image: ImageReport, inner: np.ndarray, classes: int) -> list[int]:
    """Code the errors of an image: ``(kind * classes + class) * sizes + size``, each once."""
    codes: set[int] = set()
    for segments in (image.truth, image.found):
        wrong = (segments.kind != RIGHT) & (segments.category < classes)
        size = np.searchsorted(inner, segments.area[wrong], "right")
        kind = segments.kind[wrong].astype(np.int64)
        code = (kind * classes + segments.category[wrong]) * (len(inner) + 1) + size
        codes.update(code.tolist())
    return sorted(codes)


def describe_comparison(comparison: Mapping[str, Any], other: str) -> str:
    """Say in a line who is better, as in ``PQ is better than base by 1.2, 95 % 0.4 to 2.0``."""
    row = comparison["groups"]["All"]
    if row["difference"] is None:
        return f"PQ cannot be compared with {other}: no class occurs"
    if row["difference"] == 0:
        return f"PQ equals that of {other}"
    sign = -1 if row["difference"] < 0 else 1
    ends = sorted(100 * sign * end for end in row["interval"])
    word = "better" if sign > 0 else "worse"
    doubt = "; this may be chance" if ends[0] <= 0 else ""
    return (
        f"PQ is {word} than {other} by {100 * abs(row['difference']):.1f}, "
        f"95 % {ends[0]:.1f} to {ends[1]:.1f}{doubt}"
    )


def _most_confused(confusion: Mapping[str, Any], what: str) -> list[dict[str, Any]]:
    counts, names = np.array(confusion[what]), confusion["names"]
    others = counts.copy()
    np.fill_diagonal(others, 0)
    rows = []
    for flat in np.argsort(-others, axis=None, kind="stable")[:_PAIRS].tolist():
        truth, found = divmod(flat, len(names))
        n = int(others[truth, found])
        if n:
            share = n / int(counts[truth].sum())
            rows.append({"truth": names[truth], "found": names[found], "n": n, "share": share})
    return rows


def _charts(figures: Mapping[str, Any]) -> dict[str, Any]:
    quality, kinds = figures["quality"], figures["errors"]["kinds"]

    def percent(value: float | None) -> float | None:
        return None if value is None else 100 * value

    def row(name: str, values: Mapping[str, Any], measure: str) -> Any:
        ends = [percent(end) for end in values["intervals"][measure]]
        return name, percent(values[measure]), ends

    groups = [
        row(f"{measure.upper()} {name}", group, measure)
        for name, group in quality["groups"].items()
        for measure in ("pq", "sq", "rq")
    ]
    classes = [row(c["name"], c, "pq") for c in quality["classes"] if c["pq"] is not None]
    own = percent(quality["groups"]["All"]["pq"])
    lost = [(KIND_NAMES[k], percent(v["lost"]["All"]), None) for k, v in kinds.items()]
    mended = [(KIND_NAMES[k], percent(v["mended"]["All"]), None) for k, v in kinds.items()]
    charts = {
        "groups": bar_chart("PQ, SQ and RQ of groups", groups, top=100),
        "classes": bar_chart("PQ of classes", classes, top=100),
        "lost": bar_chart("Lost PQ by kind of error", lost),
        "mended": bar_chart(
            "PQ after mending one kind", [("as it is", own, None), *mended], top=100
        ),
    }
    bins = figures["calibration"]["bins"]
    points = [(b["score"], percent(b["right"])) for b in bins if b["score"] is not None]
    diagonal = [(0.0, 0.0), (1.0, 100.0)]
    charts["calibration"] = line_chart(
        "Calibration", [("matches", points), ("ideal", diagonal)], "mean score", "matches in %"
    )
    if figures["threshold"]:
        charts["threshold"] = _threshold_chart(figures["threshold"])
    return charts


def _threshold_chart(threshold: Mapping[str, Any]) -> Any:
    curve = threshold["curve"]
    lines = [
        (name, [(t, None if pq[k] is None else 100 * pq[k]) for t, *pq in curve])
        for k, name in enumerate(("chosen on this half", "shown on the other"))
    ]
    top = max([y for _, points in lines for _, y in points if y is not None], default=1.0)
    return line_chart(
        "PQ over the threshold",
        lines,
        "threshold",
        "PQ",
        (curve[0][0], curve[-1][0]),
        (0.0, 1.1 * top),
        [threshold["threshold"]],
    )
