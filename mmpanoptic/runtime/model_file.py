"""The two files of an exported model: its graph, and what the graph does not say."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpanoptic.structures import LabelTable
from mmpanoptic.utils import read_json

FORMAT = 1
"""Of the JSON; others are refused."""
DEFAULT_NAME = "model.onnx"
KINDS = ("panoptic", "multicut")


class ModelFileError(ValueError):
    """The files of an exported model are incomplete, or of another kind."""


@dataclass(frozen=True)
class ModelFile:
    """An exported model on disk.

    Attributes:
        graph (Path): The ``.onnx`` file.
        table (LabelTable): The classes.
        kind (str): "panoptic" where the graph gives the map, "multicut" where the solver does.
        score_thr (float): Things of lower score are left out.
        multicut (Mapping): What COPS's solver needs, else empty.
        facts (Mapping): The whole JSON.
    """

    graph: Path
    table: LabelTable
    kind: str
    score_thr: float
    multicut: Mapping[str, Any]
    facts: Mapping[str, Any]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> ModelFile:
        """Read the JSON beside a graph.

        Args:
            path: The folder or the ``.onnx`` file that ``mmpanoptic export --end-to-end`` wrote.

        Returns:
            ModelFile: See there.

        Raises:
            FileNotFoundError: If one of the two files is missing.
            ModelFileError: If the JSON is of another format or lacks a field.
        """
        graph = find_graph(Path(path).expanduser())
        beside = graph.with_suffix(".json")
        if not beside.is_file():
            raise FileNotFoundError(
                f"{beside} is missing: it holds the classes of {graph.name}, and "
                "`mmpanoptic export MODEL OUT.onnx --end-to-end` writes both"
            )
        facts = read_json(beside)
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            found = facts.get("format") if isinstance(facts, dict) else type(facts).__name__
            raise ModelFileError(
                f"{beside} has the format {found!r}, this version reads {FORMAT}; export again"
            )
        missing = [key for key in ("categories", "kind", "score_thr") if key not in facts]
        if missing or facts["kind"] not in KINDS:
            wrong = ", ".join(missing) if missing else f"kind={facts['kind']!r}"
            raise ModelFileError(f"{beside}: {wrong} is missing or unknown; export again")
        return cls(
            graph,
            LabelTable.from_categories(facts["categories"]),
            facts["kind"],
            float(facts["score_thr"]),
            facts.get("multicut", {}),
            facts,
        )


def find_graph(path: Path) -> Path:
    """Find the ``.onnx`` file of a folder, or take the file itself.

    Raises:
        FileNotFoundError: If there is none, or several in a folder.
    """
    if not path.is_dir():
        if not path.is_file():
            raise FileNotFoundError(f"there is no exported model {path}")
        return path
    found = sorted(path.glob("*.onnx"))
    if len(found) == 1:
        return found[0]
    if path / DEFAULT_NAME in found:
        return path / DEFAULT_NAME
    what = "no .onnx file" if not found else f"{len(found)} .onnx files; name one of them"
    raise FileNotFoundError(f"{path} holds {what}")


def facts_text(facts: Mapping[str, Any]) -> str:
    """Write the JSON of a model as text."""
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
