"""Optuna's samplers and pruners by config."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from .storage import require_optuna

CONSTRAINTS = "constraints"
"""User attribute of a trial: numbers that are positive where it breaks a limit."""


def make_sampler(cfg: Mapping[str, Any], seed: int, constrained: bool = False) -> Any:
    """Build a sampler.

    Args:
        cfg (Mapping): ``type``, a class of ``optuna.samplers`` (``RandomSampler``,
            ``TPESampler``, ``NSGAIISampler``, ``NSGAIIISampler``, ...), and its arguments.
        seed (int): Its seed.
        constrained (bool): Tell it the trials' :data:`CONSTRAINTS`, if it takes them.

    Returns:
        BaseSampler: The sampler.

    Raises:
        ValueError: If there is no such class, or it has no such argument.
    """
    optuna = require_optuna()
    kind = _find(optuna.samplers, "Sampler", cfg)
    taken = inspect.signature(kind.__init__).parameters
    options = {key: value for key, value in cfg.items() if key != "type"}
    if "seed" in options:
        raise ValueError("the seed of a sampler is that of the search: set seed there")
    if "seed" in taken:
        options["seed"] = seed % 2**32
    if constrained and "constraints_func" in taken:
        options["constraints_func"] = lambda trial: trial.user_attrs[CONSTRAINTS]
    return _build(kind, options)


def make_pruner(cfg: Mapping[str, Any] | None) -> Any:
    """Build a pruner.

    Args:
        cfg (Mapping | None): ``type``, a class of ``optuna.pruners`` (``MedianPruner``,
            ``SuccessiveHalvingPruner``, ...), and its arguments; None for none.

    Returns:
        BasePruner | None: The pruner.

    Raises:
        ValueError: If there is no such class, or it has no such argument.
    """
    if cfg is None:
        return None
    kind = _find(require_optuna().pruners, "Pruner", cfg)
    return _build(kind, {key: value for key, value in cfg.items() if key != "type"})


def _find(module: Any, suffix: str, cfg: Mapping[str, Any]) -> Any:
    names = [n for n in dir(module) if n.endswith(suffix) and not n.startswith(("Base", "_"))]
    if cfg.get("type") not in names:
        raise ValueError(
            f"{suffix.lower()} needs type=, one of {', '.join(names)}; got {cfg.get('type')!r}"
        )
    return getattr(module, cfg["type"])


def _build(kind: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    try:
        return kind(**options)
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from error
