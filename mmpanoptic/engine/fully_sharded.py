"""Models whose weights, gradients and optimizer states are spread over the processes (FSDP)."""

from __future__ import annotations

import copy
import inspect
import math
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist
from mmengine.device import get_device
from mmengine.dist import all_gather_object, broadcast_object_list
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from mmpanoptic.checkpoints.loading import save_checkpoint
from mmpanoptic.checkpoints.shares import SHARES, placeholder, share_path
from mmpanoptic.registry import MODEL_WRAPPERS, ConfigError

if TYPE_CHECKING:
    from mmengine.config import Config

    from .runner import PanopticRunner

CONDITIONAL = ("roi_head",)
"""Parts that a process without proposals may leave out; the others would wait for it for ever."""

_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)
_PRECISIONS = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@MODEL_WRAPPERS.register_module()
class FullyShardedModel(nn.Module):
    """Spread weights, gradients and optimizer states over the processes: torch's ``fully_shard``.

    ``model_wrapper_cfg = dict(type="FullyShardedModel")`` in a config. A process holds its share of
    each weight; the blocks of the model, the units, are put together in front of their pass and
    taken apart behind it. Losses and steps are those of ``MMDistributedDataParallel`` up to
    rounding. Checkpoints hold the whole model and load without this wrapper, and into it; buffers
    (running means) are each process's own, as there.

    Units are the innermost members of ``ModuleList``, ``ModuleDict`` and ``Sequential`` that have
    parts and enough parameters, :data:`CONDITIONAL` parts left out; the rest is one unit.

    Source: Zhao et al., PyTorch FSDP (arXiv:2304.11277).

    Args:
        module (nn.Module): The model, in which the weights are initialised. It is changed in place.
        min_unit_params (int): Parameters of the smallest unit. Smaller units need less memory and
            more messages.
        reshard_after_forward (bool): Take units apart between forward and backward pass.
        mixed_precision (dict | None): ``param_dtype``, in which weights travel and layers compute,
            and ``reduce_dtype``, in which gradients are averaged: ``bfloat16`` or ``float32``. The
            optimizer keeps float32.
        sharded_checkpoints (bool): Let each process write its share into a file beside the
            checkpoint (:mod:`mmpanoptic.checkpoints.shares`), for models that the memory of one
            host does not hold several times. They load everywhere, as those in one file.

    Raises:
        ConfigError: If a setting is wrong or the model cannot be spread.
    """

    def __init__(
        self,
        module: nn.Module,
        min_unit_params: int = 1_000_000,
        reshard_after_forward: bool = True,
        mixed_precision: Mapping[str, str] | None = None,
        sharded_checkpoints: bool = False,
    ) -> None:
        super().__init__()
        self.sharded_checkpoints = sharded_checkpoints
        if "ignored_params" not in inspect.signature(fully_shard).parameters:
            raise ConfigError(f"FullyShardedModel needs torch 2.7, this is {torch.__version__}")
        _refuse_model(module)
        self.module: Any = module
        # torch spreads weights in plain order only; of channels_last the images keep theirs.
        cast("Any", module).to(memory_format=torch.contiguous_format)
        policy = _policy(mixed_precision or {})
        device = torch.device(get_device())
        whole = _kept_whole(module, policy)
        for weight in whole:
            weight.data = weight.data.to(device)
        blueprint = _blueprint(module)
        options: dict[str, Any] = {
            "mesh": init_device_mesh(device.type, (dist.get_world_size(),)),
            "mp_policy": policy,
            "ignored_params": whole,
            "shard_placement_fn": partial(_choose_dimension, dist.get_world_size()),
        }
        units = choose_units(module, min_unit_params)
        self.unit_names = [name for name, _ in units]
        for _, unit in units:
            fully_shard(unit, reshard_after_forward=reshard_after_forward, **options)
        fully_shard(module, **options)
        for weight in filter(attrgetter("requires_grad"), whole):
            weight.register_post_accumulate_grad_hook(_average_gradient)
        # Of the instance: fully_shard's own refuses, but averaged models begin as copies.
        cast("Any", module).__deepcopy__ = partial(_copy, module, blueprint)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model."""
        return self.module(*args, **kwargs)

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        """Take a step, see ``mmengine.model.BaseModel.train_step``."""
        return self.module.train_step(data, optim_wrapper)

    def val_step(self, data: Any) -> list:
        """Predict; every process has to call this equally often."""
        return self._predict(self.module.val_step, data)

    def test_step(self, data: Any) -> list:
        """Predict; every process has to call this equally often."""
        return self._predict(self.module.test_step, data)

    def _predict(self, step: Callable[[Any], list], data: Any) -> list:
        try:
            return step(data)
        finally:
            self.module.reshard()  # averaged weights change places with the shares, not the whole


class InStepHook(Hook):
    """Let processes with fewer batches of a validation or test keep step with the others.

    Every forward pass puts units together, for which all are needed: the last batch is predicted
    again, and the result dropped.
    """

    def __init__(self) -> None:
        self._missing = (0, 0)  # number of own batches, and what they lack

    def _count(self, loader: Any) -> None:
        lengths = all_gather_object(len(loader))
        if not min(lengths):
            raise ConfigError(
                f"the validation or test has fewer batches than the {len(lengths)} processes, and "
                "FullyShardedModel needs one for each; use fewer processes or a smaller batch_size"
            )
        self._missing = (len(loader), max(lengths) - len(loader))

    def before_val_epoch(self, runner: PanopticRunner) -> None:
        """Find out how many batches the others have."""
        self._count(runner.val_dataloader)

    def before_test_epoch(self, runner: PanopticRunner) -> None:
        """Find out how many batches the others have."""
        self._count(runner.test_dataloader)

    def _keep_step(self, step: Callable[[Any], Any], index: int, data_batch: Any) -> None:
        own, missing = self._missing
        if index + 1 == own:
            for _ in range(missing):
                with torch.no_grad():
                    step(data_batch)

    def after_val_iter(
        self, runner: PanopticRunner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Predict the last batch as often as the others have more."""
        self._keep_step(cast("Any", runner.model).val_step, batch_idx, data_batch)

    def after_test_iter(
        self, runner: PanopticRunner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Predict the last batch as often as the others have more."""
        self._keep_step(cast("Any", runner.model).test_step, batch_idx, data_batch)


# ---- what is spread ---------------------------------------------------------------------------


def choose_units(model: nn.Module, least: int) -> list[tuple[str, nn.Module]]:
    """Choose what is put together and taken apart as one.

    Args:
        model (nn.Module): The whole model, which is the last unit and not listed.
        least (int): Parameters of the smallest unit.

    Returns:
        list[tuple[str, nn.Module]]: Names and modules; none lies inside another one.
    """

    def walk(name: str, module: nn.Module, is_member: bool) -> Iterator[tuple[str, nn.Module]]:
        parts = dict(module.named_children())
        inner = [
            unit
            for key, part in parts.items()
            if key not in CONDITIONAL
            for unit in walk(f"{name}.{key}", part, isinstance(module, _CONTAINERS))
        ]
        size = sum(weight.numel() for weight in module.parameters())
        is_block = is_member and bool(parts) and not isinstance(module, _CONTAINERS)
        if not inner and is_block and size >= least:
            inner = [(name.lstrip("."), module)]
        yield from inner

    return list(walk("", model, is_member=False))


def is_fully_sharded(wrapper_cfg: Any) -> bool:
    """Tell whether a config's ``model_wrapper_cfg`` asks for :class:`FullyShardedModel`."""
    kind = (wrapper_cfg or {}).get("type")
    return (MODEL_WRAPPERS.get(kind) if isinstance(kind, str) else kind) is FullyShardedModel


def refuse_settings(cfg: Config) -> None:
    """Refuse settings of a config that fully sharded models cannot have.

    Args:
        cfg (Config): The run's.

    Raises:
        ConfigError: Naming the setting, and what to take instead.
    """
    advice = {}
    if cfg.get("find_unused_parameters"):
        advice["find_unused_parameters"] = (
            "it is for MMDistributedDataParallel; here weights may go without a gradient as long "
            "as they do so in all processes. Leave it out"
        )
    if cfg.get("compile"):
        advice["compile"] = (
            "it cannot follow weights that are put together and taken apart. Leave one of them out"
        )
    optim = cfg.get("optim_wrapper")
    if optim and "optimizer" not in optim:
        advice["optim_wrapper"] = "it holds several optimizers. Take one"
    elif optim and (optim.get("dtype") == "float16" or str(optim.get("type")) == "AmpOptimWrapper"):
        advice["optim_wrapper"] = (
            "it scales losses for float16. Take AutocastOptimWrapper(dtype='bfloat16'), or "
            "mixed_precision=dict(param_dtype='bfloat16') of FullyShardedModel"
        )
    for name, why in advice.items():
        raise ConfigError(f"FullyShardedModel does not go with {name}={cfg[name]!r}: {why}")


def _refuse_model(model: nn.Module) -> None:
    if isinstance(model, BaseTTAModel):
        raise ConfigError(
            "FullyShardedModel does not go with test-time augmentation, whose passes differ "
            "between images; test without it: --cfg-options model_wrapper_cfg=None"
        )


def _policy(given: Mapping[str, str]) -> MixedPrecisionPolicy:
    unknown = sorted(given.keys() - {"param_dtype", "reduce_dtype"})
    if unknown or not set(given.values()) <= set(_PRECISIONS):
        raise ConfigError(
            "mixed_precision of FullyShardedModel takes param_dtype and reduce_dtype, each one of "
            f"{', '.join(_PRECISIONS)}; got {dict(given)}"
        )
    types: dict[str, Any] = {name: _PRECISIONS[value] for name, value in given.items()}
    return MixedPrecisionPolicy(**types)


def _kept_whole(model: nn.Module, policy: MixedPrecisionPolicy) -> set[Tensor]:
    """List small weights that each process keeps, and whose gradients are averaged as in DDP.

    Scalars cannot be cut. Norms with running means take weights of the means' precision only.
    """
    whole: set[Tensor] = {weight for weight in model.parameters() if not weight.dim()}
    if policy.param_dtype not in (None, torch.float32):
        for part in model.modules():
            if getattr(part, "running_mean", None) is not None:
                whole.update(part.parameters(recurse=False))
    return whole


def _choose_dimension(parts: int, weight: Tensor) -> Shard | None:
    """Choose the first dimension that can be cut evenly; without one torch cuts the first."""
    return next((Shard(dim) for dim, n in enumerate(weight.shape) if n % parts == 0), None)


def _average_gradient(weight: Tensor) -> None:
    if weight.grad is not None:
        dist.all_reduce(weight.grad)
        weight.grad /= dist.get_world_size()


def _blueprint(model: nn.Module) -> nn.Module:
    """Copy a model without the memory of its weights."""
    memo: dict[int, Any] = {
        id(weight): nn.Parameter(torch.empty_like(weight, device="meta"), weight.requires_grad)
        for weight in model.parameters()
    }
    return copy.deepcopy(model, memo)


def _copy(model: nn.Module, blueprint: nn.Module, memo: Any) -> nn.Module:
    """Copy a spread model; the copy holds the same shares, and cannot be called."""
    result = copy.deepcopy(blueprint)
    for name, weight in model.named_parameters():
        owner, _, key = name.rpartition(".")
        value = nn.Parameter(weight.detach().clone(), weight.requires_grad)
        result.get_submodule(owner)._parameters[key] = value
    for own, buffer in zip(result.buffers(), model.buffers(), strict=True):
        own.data = buffer.detach().clone()
    return result


# ---- whole tensors and shares -----------------------------------------------------------------


def is_spread(model: nn.Module) -> bool:
    """Tell whether the weights of a model, out of its wrapper, are spread over the processes."""
    return any(isinstance(weight, DTensor) for weight in model.parameters())


def local_part(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gather(value: Any, keep: bool) -> Any:
    """Put the tensors of a nested value together; to be called by all processes.

    Args:
        value: Mappings and lists of tensors and anything else.
        keep (bool): Whether this process needs the result; else tensors are dropped one by one.

    Returns:
        Any: The same with whole tensors on the CPU; of use only with ``keep``.
    """
    if isinstance(value, DTensor):
        whole = value.full_tensor()
        return whole.detach().cpu() if keep else None
    if isinstance(value, Mapping):
        return _rebuilt(value, {key: gather(part, keep) for key, part in value.items()})
    if isinstance(value, list | tuple):
        return type(value)(gather(part, keep) for part in value)
    return value


def write_share(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    """Write this process's share of a checkpoint; to be called by all processes.

    Args:
        checkpoint (dict): With tensors that are spread.
        path (Path): Of the checkpoint, which the first process writes afterwards.

    Returns:
        dict: The checkpoint with placeholders.

    Raises:
        OSError: In all processes, if one of them could not write.
    """
    tensors: list[Tensor] = []

    def split(value: Any) -> Any:
        if isinstance(value, DTensor):
            (placement,) = value.placements
            tensors.append(value.to_local().detach().cpu())
            return placeholder(len(tensors) - 1, cast("Shard", placement).dim)
        if isinstance(value, Mapping):
            return _rebuilt(value, {key: split(part) for key, part in value.items()})
        if isinstance(value, list | tuple):
            return type(value)(map(split, value))
        return value

    whole = split(checkpoint)
    mark, rank, count = [secrets.token_hex(8)], dist.get_rank(), dist.get_world_size()
    broadcast_object_list(mark)
    error: OSError | None = None
    try:
        content = {"id": mark[0], "tensors": tensors}
        save_checkpoint(content, share_path(path, mark[0], rank, count))
    except OSError as caught:
        error = caught
    errors = [one for one in all_gather_object(error) if one is not None]
    if errors:
        raise errors[0]
    return {**whole, SHARES: {"id": mark[0], "count": count}}


def share_like(value: Any, own: Any) -> Any:
    """Take this process's share of a whole tensor where its own one is spread.

    Args:
        value (Tensor): The same in all processes.
        own (Tensor | None): What it is for.

    Returns:
        Tensor: Spread like ``own``.
    """
    if not isinstance(own, DTensor) or isinstance(value, DTensor):
        return value
    value = value.to(own.device)
    return distribute_tensor(value, own.device_mesh, own.placements, src_data_rank=None)


def share_weights(model: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Take this process's shares of the weights of a checkpoint.

    Args:
        model (nn.Module): Out of its wrapper.
        checkpoint (dict): ``state_dict`` and ``ema_state_dict`` are replaced.
    """
    own = model.state_dict()
    for part, prefix in (("state_dict", ""), ("ema_state_dict", "module.")):
        if part in checkpoint:
            shares = {
                name: share_like(value, own.get(name.removeprefix(prefix)))
                for name, value in checkpoint[part].items()
            }
            checkpoint[part] = _rebuilt(checkpoint[part], shares)


def share_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Take this process's shares of an optimizer's state.

    Args:
        optimizer (Optimizer): Of the spread model.
        state (dict): Its state dict with whole tensors.

    Returns:
        dict: For ``optimizer.load_state_dict``.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    shares = {
        index: {
            name: share_like(value, weights[index])
            if torch.is_tensor(value) and value.shape == weights[index].shape
            else value
            for name, value in values.items()
        }
        for index, values in state["state"].items()
    }
    return {**state, "state": shares}


def clip_norm(
    weights: Iterable[Tensor], max_norm: float, norm_type: float = 2.0, **_: Any
) -> Tensor:
    """Clip gradients by their norm over all processes, as ``torch.nn.utils.clip_grad_norm_``.

    Differences from the original: whole and spread weights may stand side by side.

    Args:
        weights (Iterable[Tensor]): Parameters with gradients.
        max_norm (float): Largest norm.
        norm_type (float): Which one; may be infinite.

    Returns:
        Tensor: The norm before, ``()``, the same in all processes.
    """
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    spread = [one.to_local() for one in gradients if isinstance(one, DTensor)]
    whole = [one for one in gradients if not isinstance(one, DTensor)]
    infinite = math.isinf(norm_type)

    def measure(parts: list[Tensor]) -> Tensor:
        parts = [one.detach() for one in parts if one.numel()]
        norm = torch.nn.utils.get_total_norm(parts, norm_type).float()
        return norm if infinite else norm**norm_type

    total = measure(spread).to(gradients[0].device)
    dist.all_reduce(total, dist.ReduceOp.MAX if infinite else dist.ReduceOp.SUM)
    rest = measure(whole).to(total)
    total = torch.maximum(total, rest) if infinite else (total + rest) ** (1 / norm_type)
    factor = (max_norm / (total + 1e-6)).clamp(max=1.0)
    for one in [*spread, *whole]:
        one.mul_(factor.to(one.device))
    return total


def _rebuilt(old: Mapping[Any, Any], new: dict[Any, Any]) -> Any:
    """Give new content the kind of an old state dict, with the versions of its layers."""
    if not isinstance(old, OrderedDict):
        return new
    result = OrderedDict(new)
    if hasattr(old, "_metadata"):
        result._metadata = old._metadata  # type: ignore[attr-defined]
    return result
