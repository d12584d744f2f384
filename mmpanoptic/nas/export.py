"""Write found architectures as configs with their weights cut out of the supernet."""

from __future__ import annotations

import os
import pprint
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from mmpanoptic.checkpoints.loading import save_checkpoint

from ..engine.checkpoint_state import to_plain
from ..utils.files import atomic_write, write_json
from .slicing import slice_supernet
from .space import Architecture, SearchSpace

TEMPLATE = '''"""Network {digits} of an architecture search.

Paper: -
Reproduces: nothing published
Published: -
Measured: {fitness} as a path of the supernet
Hardware: that of {base_name}
Command: python tools/train.py {name}
"""

_base_ = {base!r}

{model}
'''


def export_models(
    folder: str | os.PathLike[str],
    supernet: nn.Module,
    space: SearchSpace,
    archs: Sequence[Architecture],
    rows: Sequence[Mapping[str, Any]],
    base_configs: Mapping[str, str | os.PathLike[str]] | None = None,
) -> list[Path]:
    """Write ``model_0``, ``model_1``, ...: choices, weights and configs of each.

    Args:
        folder: Receives ``model_<k>.json`` (choices by section), ``model_<k>.pth`` (weights of
            the supernet's path, which fit a network of the supernet's widths) and
            ``model_<k>_<name>.py``.
        supernet (nn.Module): The supernet.
        space (SearchSpace): The space.
        archs (Sequence[Architecture]): The architectures, the best first.
        rows (Sequence[Mapping]): Evaluations, from which the configs quote the fitness.
        base_configs (Mapping | None): Configs that the written ones inherit, by name: that of
            the training, that of the backbone's pretraining.

    Returns:
        list[Path]: The written files without suffix.
    """
    folder = Path(folder)
    state = supernet.state_dict()
    fitness = {row["digits"]: row["fitness"] for row in rows}
    written = []
    for number, arch in enumerate(archs):
        stem = folder / f"model_{number}"
        write_json(stem.with_suffix(".json"), [space.to_json(arch)])
        weights = slice_supernet(supernet, state, space, arch)
        save_checkpoint(
            to_plain({"state_dict": weights, "meta": {"architecture": space.digits(arch)}}),
            stem.with_suffix(".pth"),
        )
        for name, base in (base_configs or {}).items():
            path = folder / f"{stem.name}_{name}.py"
            text = config_text(space, arch, base, path, fitness.get(space.digits(arch)))
            with atomic_write(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        written.append(stem)
    return written


def config_text(
    space: SearchSpace,
    arch: Architecture,
    base_config: str | os.PathLike[str],
    path: str | os.PathLike[str],
    fitness: float | None = None,
) -> str:
    """Write the config of an architecture.

    Args:
        space (SearchSpace): The space.
        arch (Architecture): The architecture.
        base_config: Config of a network of the space, whose choices are replaced. It may have a
            part of the components only, as a classifier has the backbone.
        path: Where the text will be stored; the base is named relative to it.
        fitness (float | None): Fitness as a path of the supernet.

    Returns:
        str: Python source.
    """
    parts = space.split(arch)
    base_model = Config.fromfile(base_config).model
    model: dict[str, Any] = {}
    for group in space.groups:
        *parents, last = group.key.split(".")
        if parents and parents[0] not in base_model:
            continue
        node = model
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = parts[group.name]
    path = Path(path)
    return TEMPLATE.format(
        digits=space.digits(arch),
        fitness="failed" if fitness is None else f"fitness {fitness:.6g}",
        base=Path(os.path.relpath(base_config, path.parent)).as_posix(),
        base_name=Path(base_config).name,
        name=path.name,
        model="model = " + pprint.pformat(model, width=96, sort_dicts=False, compact=True),
    )
