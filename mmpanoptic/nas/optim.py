"""Learning rates of a supernet: every weight by how often one optimizer step uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.optim import OptimWrapper
from torch import nn

from ..models.layers import iter_choices
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS

_KNOWN = {"bias_lr_mult", "bias_decay_mult", "legacy_bias_lr"}


def uses_per_step(model: nn.Module, passes: int) -> dict[str, int]:
    """Count how often one optimizer step uses every parameter of a supernet.

    Args:
        model (nn.Module): The supernet, or a fixed network.
        passes (int): Forward passes per optimizer step.

    Returns:
        dict[str, int]: ``passes`` for shared parameters, ``passes / choices`` for those of an
        alternative. With one pass per step there is nothing to share: 1 for all.

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
    uses = {}
    for name, _ in model.named_parameters():
        count = next((n for prefix, n in alternatives.items() if name.startswith(prefix)), 1)
        uses[name] = max(1, passes // count)
    return uses


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

    Raises:
        TypeError: If ``paramwise_cfg`` has another key.
    """

    def __init__(
        self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None
    ) -> None:
        options = dict(paramwise_cfg or {})
        if set(options) - _KNOWN:
            raise TypeError(
                f"paramwise_cfg knows {', '.join(sorted(_KNOWN))}, got "
                f"{', '.join(sorted(set(options) - _KNOWN))}"
            )
        self.wrapper_cfg = dict(optim_wrapper_cfg)
        self.optimizer_cfg = dict(self.wrapper_cfg.pop("optimizer"))
        self.bias_lr_mult = float(options.get("bias_lr_mult", 2.0))
        self.bias_decay_mult = float(options.get("bias_decay_mult", 0.0))
        self.legacy_bias_lr = bool(options.get("legacy_bias_lr", False))

    @property
    def passes(self) -> int:
        """Forward passes per optimizer step."""
        return int(self.wrapper_cfg.get("accumulative_counts", 1))

    def summed_settings(self, model: nn.Module) -> dict[str, tuple[float, float]]:
        """Tell learning rate and weight decay for summed gradients, as they were published.

        Args:
            model (nn.Module): The model.

        Returns:
            dict[str, tuple[float, float]]: By name of the parameter.
        """
        base = self.optimizer_cfg["lr"]
        decay = self.optimizer_cfg.get("weight_decay", 0.0)
        settings = {}
        for name, count in uses_per_step(model, self.passes).items():
            if "bias" in name:
                lr = base * self.bias_lr_mult / (1 if self.legacy_bias_lr else count)
                settings[name] = (lr, decay * self.bias_decay_mult)
            else:
                settings[name] = (base / count, decay)
        return settings

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer and its wrapper.

        Args:
            model (nn.Module): The model, also wrapped for distributed training.

        Returns:
            OptimWrapper: With one parameter group per pair of settings.
        """
        model = getattr(model, "module", model)
        parameters = dict(model.named_parameters())
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, settings in self.summed_settings(model).items():
            if parameters[name].requires_grad:
                groups.setdefault(settings, []).append(parameters[name])
        params: Sequence[dict[str, Any]] = [
            {"params": members, "lr": lr * self.passes, "weight_decay": decay / self.passes}
            for (lr, decay), members in groups.items()
        ]
        optimizer = OPTIMIZERS.build(self.optimizer_cfg | {"params": params})
        wrapper_cfg = {"type": "OptimWrapper"} | self.wrapper_cfg
        return OPTIM_WRAPPERS.build(wrapper_cfg, default_args={"optimizer": optimizer})
