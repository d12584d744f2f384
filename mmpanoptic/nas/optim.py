"""Learning rates of a supernet: every weight by how often one optimizer step uses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.optim import OptimWrapper
from torch import nn

from ..models.layers import iter_choices
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS

_DEFAULTS = {"bias_lr_mult": 2.0, "bias_decay_mult": 0.0, "legacy_bias_lr": False}


def uses_per_step(model: nn.Module, passes: int) -> dict[str, int]:
    """Count how often one optimizer step uses every parameter of a supernet.

    Returns:
        dict[str, int]: ``passes``, the forward passes per step, for shared parameters, ``passes /
        choices`` for those of an alternative. With one pass there is nothing to share: 1 for all.

    Raises:
        ValueError: If the passes cannot be dealt out evenly.
    """
    alternatives = {f"{name}.": len(block) for name, block in iter_choices(model)}
    bad = {count for count in alternatives.values() if passes > 1 and passes % count}
    if bad:
        raise ValueError(
            f"accumulative_counts={passes} cannot be dealt out evenly to {sorted(bad)} choices; "
            "take the window of the search space, or 1"
        )
    return {
        name: max(1, passes // next((n for k, n in alternatives.items() if name.startswith(k)), 1))
        for name, _ in model.named_parameters()
    }


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class SupernetOptimWrapperConstructor:
    """Build the optimizer of a supernet that sums gradients over a window of paths.

    The published training sums the gradients of ``accumulative_counts`` passes and divides the
    learning rate of every weight by the number of passes that used it. mmengine averages over the
    passes instead, so learning rates are multiplied and weight decays divided by that number: with
    SGD the updates are the same. For a fixed network and one pass per step this is plain SGD with
    its own learning rate and decay for biases, the published setting of the final training.

    Args:
        optim_wrapper_cfg (dict): Config of the wrapper, with ``optimizer`` and
            ``accumulative_counts``.
        paramwise_cfg (dict | None): ``bias_lr_mult`` (2) and ``bias_decay_mult`` (0) for
            parameters whose name contains "bias"; ``legacy_bias_lr`` (False): the published
            code overwrote the scaled learning rate of biases, which so got ``bias_lr_mult``
            times the base rate regardless of their uses.
    """

    def __init__(
        self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None
    ) -> None:
        self.options = _DEFAULTS | dict(paramwise_cfg or {})
        if unknown := sorted(self.options.keys() - _DEFAULTS.keys()):
            raise TypeError(f"paramwise_cfg knows {', '.join(_DEFAULTS)}, got {unknown}")
        self.wrapper_cfg = {"type": "OptimWrapper"} | dict(optim_wrapper_cfg)
        self.optimizer_cfg = dict(self.wrapper_cfg.pop("optimizer"))
        self.passes = int(self.wrapper_cfg.get("accumulative_counts", 1))

    def summed_settings(self, model: nn.Module) -> dict[str, tuple[float, float]]:
        """Tell learning rate and weight decay for summed gradients, by name of the parameter."""
        base = self.optimizer_cfg["lr"]
        decay = self.optimizer_cfg.get("weight_decay", 0.0)
        bias, bias_decay = (
            base * self.options["bias_lr_mult"],
            decay * self.options["bias_decay_mult"],
        )
        legacy = self.options["legacy_bias_lr"]
        return {
            name: (bias / (1 if legacy else n), bias_decay) if "bias" in name else (base / n, decay)
            for name, n in uses_per_step(model, self.passes).items()
        }

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build optimizer and wrapper; one parameter group holds what has the same settings."""
        model = getattr(model, "module", model)
        parameters = dict(model.named_parameters())
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, settings in self.summed_settings(model).items():
            if parameters[name].requires_grad:
                groups.setdefault(settings, []).append(parameters[name])
        params = [
            {"params": members, "lr": lr * self.passes, "weight_decay": decay / self.passes}
            for (lr, decay), members in groups.items()
        ]
        optimizer = OPTIMIZERS.build(self.optimizer_cfg | {"params": params})
        return OPTIM_WRAPPERS.build(self.wrapper_cfg, default_args={"optimizer": optimizer})
