"""Fill a config's placeholders ``$size_...`` from the sizes of the training data's objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mmengine.config import Config

from mmpanoptic.registry import ConfigError, placeholders

from ..datasets.label_tables import annotation_file
from ..datasets.object_sizes import (
    SIZE_SETTINGS,
    USUAL_SETTINGS,
    ObjectSizes,
    measure_object_sizes,
)
from ..utils.format_errors import PanopticFormatError


class SizeChoice(NamedTuple):
    """What the placeholders of a config stand for.

    Attributes:
        settings (dict): Values of those that the config uses.
        reason (str): What they come from.
        known (bool): Whether they come from anything: measured, stored or written in the config.
    """

    settings: dict[str, Any]
    reason: str
    known: bool

    def __str__(self) -> str:
        values = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        return f"{values}: {self.reason}"


def choose_sizes(
    cfg: Config,
    leaf: Mapping[str, Any] | None,
    stored: Mapping[str, Any] | None,
    prefer_stored: bool,
) -> SizeChoice | None:
    """Choose values for the ``$size_...`` of a config.

    A top-level variable of such a name wins. Where the variable ``short_edge`` is another one than
    the suggestion, the other values follow it.

    Args:
        cfg (Config): Whole config, whose own variables are filled in.
        leaf (Mapping | None): Config of the training's dataset, with ``ann_file``.
        stored (Mapping | None): Values that a checkpoint keeps.
        prefer_stored (bool): Take them before the annotation file is looked for; otherwise they
            hold where it is not there.

    Returns:
        SizeChoice | None: None if the config uses no such placeholder.

    Raises:
        ConfigError: If ``short_edge`` is no length.
        PanopticFormatError: If the annotation file is there and cannot be read.
    """
    used = {match[1] for match in placeholders(dict(cfg.items()))} & set(SIZE_SETTINGS)
    if not used:
        return None
    given = {name: cfg[name] for name in SIZE_SETTINGS if name in cfg}
    found, reason, known = _find(cfg, leaf, stored, used - given.keys(), prefer_stored)
    if used & given.keys():
        reason += f"; {', '.join(sorted(used & given.keys()))} as the config says"
    values = {**found, **given}
    settings = {name: values[name] for name in SIZE_SETTINGS if name in used}
    return SizeChoice(settings, reason, known)


def _find(
    cfg: Config,
    leaf: Mapping[str, Any] | None,
    stored: Mapping[str, Any] | None,
    needed: set[str],
    prefer_stored: bool,
) -> tuple[dict[str, Any], str, bool]:
    if not needed:
        return {}, "nothing is measured", True
    keeps = stored is not None and needed <= stored.keys()
    sizes = None if leaf is None or (keeps and prefer_stored) else _measure(leaf)
    if sizes is not None:
        suggested = sizes.suggested_edge()
        edge = _edge(cfg, cfg.get("size_short_edge", suggested))
        return sizes.settings(edge), sizes.describe(), True
    if stored is not None and keeps:
        return dict(stored), "from the checkpoint", True
    return dict(USUAL_SETTINGS), "the training's annotation file is not there to measure", False


def _measure(leaf: Mapping[str, Any]) -> ObjectSizes | None:
    """Measure the dataset's annotation file; None if it is not there."""
    try:
        file = annotation_file(leaf)
        return measure_object_sizes(file) if file else None
    except PanopticFormatError as error:
        if error.kind != "missing_file":
            raise
        return None


def _edge(cfg: Config, suggested: int) -> int:
    """Read the short edge that the config resizes to: a number, several, or a share."""
    value = cfg.get("short_edge", suggested)
    match = next(placeholders([value] if isinstance(value, str) else ()), None)
    if match is not None and match[1] == "size_short_edge":
        share = suggested * int(match[2]) // int(match[3]) if match[2] else suggested
        return share + int(match[4] or 0)
    edges = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not edges or not all(isinstance(edge, int) and edge > 0 for edge in edges):
        raise ConfigError(f"short_edge must be a length in pixels or a list of them, got {value!r}")
    return round(sum(edges) / len(edges))
