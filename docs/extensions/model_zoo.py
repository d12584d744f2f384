"""The directive ``model-zoo``: the models of all metafiles as a table to sort and to filter.

Figures come from ``configs/*/metafile.yml``, costs from ``docs/model_costs.json``, weights from the
manifest; nothing is written down a second time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from mmpanoptic.checkpoints.shipped_models import get_shipped_model, list_shipped_models
from mmpanoptic.checkpoints.weights import manifest

ROOT = Path(__file__).parents[2]
METAFILES = sorted((ROOT / "configs").glob("*/metafile.yml"))
COSTS = ROOT / "docs" / "model_costs.json"
NONE = "—"
COLUMNS = (
    "model",
    "data",
    "PQ published",
    "PQ measured",
    "other figures",
    "parameters, M",
    "MACs, G",
    "memory, MB",
    "s, published",
    "s, CPU",
    "input",
    "weights",
)


def zoo_rows() -> Iterator[tuple[str, ...]]:
    """Yield the cells of each model, in the order of the metafiles."""
    costs = json.loads(COSTS.read_text(encoding="utf-8"))
    weights = _weights()
    for path in METAFILES:
        for model in yaml.safe_load(path.read_text(encoding="utf-8"))["Models"]:
            published = [e for e in model.get("Published", []) if "Variant" not in e]
            measured = [e for e in model.get("Results", []) if "Variant" not in e]
            data = dict.fromkeys(entry["Dataset"] for entry in (*published, *measured))
            cost = costs.get(model["Name"])
            yield (
                model["Name"],
                "; ".join(data) or NONE,
                _panoptic_quality(published),
                _panoptic_quality(measured),
                _others((*published, *measured)),
                *_cost_cells(cost),
                _seconds(published),
                str((cost or {}).get("seconds", NONE)),
                "x".join(map(str, cost["size"])) if cost and "size" in cost else NONE,
                ", ".join(weights.get(model["Name"], [])) or NONE,
            )


def _weights() -> dict[str, list[str]]:
    """Return the weights of each config, by the names that commands take."""
    found: dict[str, list[str]] = {}
    for name in list_shipped_models():
        found.setdefault(Path(get_shipped_model(name).config).stem, []).append(name)
    for entry in manifest().values():
        if entry.config:
            found.setdefault(entry.config, []).append(f"mmpanoptic://{entry.id}")
    return found


def _panoptic_quality(entries: Sequence[Mapping[str, Any]]) -> str:
    values = [str(entry["Metrics"]["PQ"]) for entry in entries if "PQ" in entry["Metrics"]]
    return values[0] if values else NONE


def _others(entries: Sequence[Mapping[str, Any]]) -> str:
    """List what the two columns of PQ leave out, of models without PQ."""
    metrics = {name: value for entry in entries for name, value in entry["Metrics"].items()}
    if "PQ" in metrics:
        names = [name for name in ("mIoU", "AP", "mask AP") if name in metrics]
    else:
        names = list(metrics)
    return ", ".join(f"{name} {metrics[name]}" for name in names) or NONE


def _cost_cells(cost: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if cost is None or "macs" not in cost:
        return NONE, NONE, NONE
    parameters, macs, memory = cost["parameters"] / 1e6, cost["macs"] / 1e9, cost["memory"] / 1e6
    return f"{parameters:.1f}", f"{macs:.1f}", f"{memory:.0f}"


def _seconds(published: Sequence[Mapping[str, Any]]) -> str:
    values = [str(e["Seconds per image"]) for e in published if "Seconds per image" in e]
    return values[0] if values else NONE


class ModelZoo(SphinxDirective):
    """Write the table; ``zoo.js`` adds the sorting and the filter."""

    def run(self) -> list[nodes.Node]:
        """Read the files, of which a change makes the page anew."""
        for path in (*METAFILES, COSTS):
            self.env.note_dependency(str(path))
        columns = ("model, weights", *COLUMNS[1:-1])
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
        body = "\n".join(f"<tr>{_cells(row)}</tr>" for row in zoo_rows())
        table = f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
        return [nodes.raw("", f'<div class="zoo">\n{table}\n</div>', format="html")]


def _cells(row: Sequence[str]) -> str:
    """Write a row; the weights stand below the name, since a column of theirs would be wide."""
    name, *others, weights = row
    below = [f"<br><small>{escape(one)}</small>" for one in weights.split(", ") if one != NONE]
    cells = "".join(f"<td>{escape(text)}</td>" for text in others)
    return f"<td><code>{escape(name)}</code>{''.join(below)}</td>{cells}"


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive."""
    app.add_directive("model-zoo", ModelZoo)
    return {"parallel_read_safe": True}
