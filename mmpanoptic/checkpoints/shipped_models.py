"""Models that come with the package: small ones, by name, with their card."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .errors import CheckpointError

FOLDER = Path(__file__).resolve().parent / "shipped"
"""Holds a folder for each model: ``card.yml`` and ``weights.pth``."""


@dataclass(frozen=True)
class ShippedModel:
    """A model in the package.

    Attributes:
        name (str): What it is called by.
        config (str): Name of the shipped config.
        weights (Path): Sealed checkpoint with the label table.
        card (dict): What it was trained on and how, licence, figures and limits.
    """

    name: str
    config: str
    weights: Path
    card: dict[str, Any]

    def describe(self) -> str:
        """Say in a line what it is."""
        card = self.card
        return f"{self.name}: {card['task']} Data: {card['data']['licence']}."


def list_shipped_models() -> dict[str, ShippedModel]:
    """List the models that come with the package, by name."""
    found = {}
    for file in sorted(FOLDER.glob("*/card.yml")):
        card = yaml.safe_load(file.read_text(encoding="utf-8"))
        name = file.parent.name
        found[name] = ShippedModel(name, card["config"], file.parent / "weights.pth", card)
    return found


def get_shipped_model(name: str) -> ShippedModel:
    """Find a model that comes with the package.

    Args:
        name (str): One of :func:`list_shipped_models`.

    Returns:
        ShippedModel: The model.

    Raises:
        CheckpointError: If there is none of this name.
    """
    models = list_shipped_models()
    if name not in models:
        near = difflib.get_close_matches(name, models, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise CheckpointError(
            f"no model {name!r} comes with mmpanoptic{hint} There are: {', '.join(models)}"
        )
    return models[name]


def is_shipped_model(name: Any) -> bool:
    """Tell whether a word names such a model; a file or folder of this name comes first."""
    text = os.fspath(name) if isinstance(name, str | os.PathLike) else ""
    return not Path(text).exists() and text in list_shipped_models()
