"""From the weights of a supernet to those of one of its networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmengine.config import ConfigDict
from torch import nn

from ..models.layers import iter_choices
from ..registry import MODELS
from .space import SearchSpace


def slice_supernet(
    model: nn.Module,
    state: Mapping[str, torch.Tensor],
    space: SearchSpace,
    arch: Sequence[int],
) -> dict[str, torch.Tensor]:
    """Take the weights of one architecture out of those of a supernet.

    Args:
        model (nn.Module): The supernet; only its structure is used, it may live on ``meta``.
        state (Mapping): State dict of the supernet.
        space (SearchSpace): Its space.
        arch (Sequence[int]): The architecture.

    Returns:
        dict[str, Tensor]: State dict of the fixed network; the tensors are not copied.

    Raises:
        ValueError: If the model is no supernet of the space.
        KeyError: If ``state`` is not that of the supernet.
    """
    space.check_model(model)
    path = space.path(arch)
    prefixes = {f"{name}.": path[block.decision] for name, block in iter_choices(model)}
    missing = model.state_dict().keys() - state.keys()
    if missing:
        raise KeyError(
            f"the weights are not those of the supernet: without {', '.join(sorted(missing)[:3])}"
        )
    chosen = {}
    for name in model.state_dict():
        prefix = next((p for p in prefixes if name.startswith(p)), None)
        if prefix is None:
            chosen[name] = state[name]
            continue
        index, rest = name.removeprefix(prefix).split(".", 1)
        if int(index) == prefixes[prefix]:
            chosen[prefix + rest] = state[name]
    return chosen


def build_subnet(
    model_cfg: ConfigDict,
    space: SearchSpace,
    arch: Sequence[int],
    supernet_state: Mapping[str, torch.Tensor] | None = None,
) -> nn.Module:
    """Build the fixed network of an architecture.

    Args:
        model_cfg (ConfigDict): Config of the supernet, or of any network of the space.
        space (SearchSpace): The space.
        arch (Sequence[int]): The architecture.
        supernet_state (Mapping | None): State dict of the supernet that ``model_cfg`` describes;
            its weights are copied bit for bit. None leaves them as initialised.

    Returns:
        nn.Module: The network, without any alternative in it.

    Raises:
        ValueError: If the config or the weights do not fit the space.
    """
    subnet = MODELS.build(space.fix(model_cfg, arch))
    open_decisions = [block.decision for _, block in iter_choices(subnet)]
    if open_decisions:
        raise ValueError(
            f"the search space leaves decisions of the model open: {', '.join(open_decisions[:5])}"
        )
    if supernet_state is not None:
        with torch.device("meta"):
            supernet = MODELS.build(model_cfg)
        subnet.load_state_dict(slice_supernet(supernet, supernet_state, space, arch))
    return subnet
