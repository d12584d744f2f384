"""Write found architectures as configs with their weights cut out of the supernet."""

from __future__ import annotations

import os
import pprint
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from ..checkpoints.loading import save_checkpoint
from ..engine.checkpoint_state import to_plain
from ..models.layers import slice_path
from ..utils.files import atomic_write, write_json
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
    base_configs: Mapping[str, str | os.PathLike[str]],
) -> None:
    """Write choices, weights and configs of found networks.

    Args:
        folder: Receives ``model_<k>.json`` (choices by section), ``model_<k>.pth`` (weights of
            the supernet's path, which fit a network of the supernet's widths) and
            ``model_<k>_<name>.py``.
        supernet (nn.Module): The supernet.
        space (SearchSpace): The space.
        archs (Sequence[Architecture]): The architectures, the best first.
        rows (Sequence[Mapping]): Evaluations, from which the configs quote the fitness.
        base_configs (Mapping): Configs that the written ones inherit, by name: that of the
            training, that of the backbone's pretraining.
    """
    folder, state = Path(folder), supernet.state_dict()
    fitness = {row["digits"]: row["fitness"] for row in rows}
    for number, arch in enumerate(archs):
        digits, stem = space.digits(arch), folder / f"model_{number}"
        write_json(stem.with_suffix(".json"), [space.to_json(arch)])
        weights = slice_path(supernet, state, space.path(arch))
        content = {"state_dict": weights, "meta": {"architecture": digits}}
        save_checkpoint(to_plain(content), stem.with_suffix(".pth"))
        for name, base in base_configs.items():
            write_config(folder / f"{stem.name}_{name}.py", space, arch, base, fitness.get(digits))


def write_config(
    path: str | os.PathLike[str],
    space: SearchSpace,
    arch: Architecture,
    base_config: str | os.PathLike[str],
    fitness: float | None = None,
) -> None:
    """Write the config of an architecture.

    Args:
        path: The file; it names the base relative to itself.
        space (SearchSpace): The space.
        arch (Architecture): The architecture.
        base_config: Config of a network of the space, whose choices are replaced. It may have a
            part of the components only, as a classifier has the backbone.
        fitness (float | None): Fitness as a path of the supernet.
    """
    path, parts, model = Path(path), space.split(arch), Config()
    base_model = Config.fromfile(base_config).model
    places = [(*group.key.split("."), group.name) for group in space.groups]
    known = [place for place in places if len(place) == 2 or place[0] in base_model]
    model.merge_from_dict({".".join(place): parts[name] for *place, name in known})
    text = TEMPLATE.format(
        digits=space.digits(arch),
        fitness="failed" if fitness is None else f"fitness {fitness:.6g}",
        base=Path(os.path.relpath(base_config, path.parent)).as_posix(),
        base_name=Path(base_config).name,
        name=path.name,
        model="model = "
        + pprint.pformat(model.to_dict(), width=96, sort_dicts=False, compact=True),
    )
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
