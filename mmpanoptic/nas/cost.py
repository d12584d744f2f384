"""What an architecture costs: sums over its choices, and ranges that a search must keep."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ..utils.files import read_json
from .space import SearchSpace


class CostTable:
    """Costs that add up: a fixed share, and one share per decision that its choice sets.

    A quantity is named ``macs``, ``params`` or ``latency``; its share of one part of the model
    ``macs.backbone``. Wholes are sums over the parts.

    Args:
        space (SearchSpace): The space.

    Attributes:
        fixed (dict[str, Counter[str]]): Quantities of what is not searched, by part.
        parts (list[str]): For each decision the part of the model that it belongs to.
        choices (list[dict[str, np.ndarray]]): For each decision the quantities of its choices.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.fixed: dict[str, Counter[str]] = {}
        self.parts: list[str] = []
        self.choices: list[dict[str, np.ndarray]] = []

    def add_fixed(self, part: str, **quantities: float) -> None:
        """Add a cost that every architecture has."""
        self.fixed.setdefault(part, Counter()).update(quantities)  # type: ignore[arg-type]

    def add_decision(self, part: str, **quantities: Sequence[float]) -> None:
        """Add the costs of the next decision of the space, one value per choice."""
        self.parts.append(part)
        self.choices.append({name: np.asarray(values) for name, values in quantities.items()})

    def add_latencies(self, path: str | os.PathLike[str]) -> None:
        """Add ``latency`` (ms) from a file of tools/search/measure_latency.py.

        Raises:
            ValueError: If the file was measured in another space.
        """
        content = read_json(path)
        times = dict(zip(content["decisions"], content["choices_ms"], strict=False))
        counts = {name: len(row) for name, row in times.items()}
        if counts != dict(zip(self.space.decisions, self.space.num_choices, strict=True)):
            raise ValueError(
                f"{path} holds the latencies of another search space; measure this one with "
                "tools/search/measure_latency.py"
            )
        self.add_fixed("rest", latency=content["base_ms"])
        for costs, name in zip(self.choices, self.space.decisions, strict=True):
            costs["latency"] = np.asarray(times[name])

    def names(self) -> list[str]:
        """List the quantities: wholes first, then those of the parts."""
        everything: list[Mapping[str, object]] = [*self.fixed.values(), *self.choices]
        wholes = dict.fromkeys(name for costs in everything for name in costs)
        parts = dict.fromkeys([*self.fixed, *self.parts])
        return [*wholes, *(f"{name}.{part}" for name in wholes for part in parts)]

    def cost(self, arch: Sequence[int]) -> dict[str, float]:
        """Sum up all quantities of an architecture, by name."""
        total: dict[str, float] = dict.fromkeys(self.names(), 0)
        shares: list[tuple[str, Mapping[str, float]]] = list(self.fixed.items())
        for part, options, choice in zip(
            self.parts, self.choices, self.space.validate(arch), strict=True
        ):
            shares.append((part, {name: values[choice].item() for name, values in options.items()}))
        for part, quantities in shares:
            for name, value in quantities.items():
                total[name] += value
                total[f"{name}.{part}"] += value
        return total

    def split(self, name: str) -> tuple[float, list[np.ndarray]]:
        """Separate a quantity (``macs``, ``macs.backbone``) into what is fixed and the rest.

        Returns:
            tuple[float, list[np.ndarray]]: The fixed share, and for each decision one float64
            value per choice (zeros if the decision belongs to another part).

        Raises:
            ValueError: If there is no such quantity.
        """
        if name not in self.names():
            raise ValueError(f"there is no cost {name!r}; there are {', '.join(self.names())}")
        quantity, _, wanted = name.partition(".")
        fixed = sum(
            float(costs[quantity]) for part, costs in self.fixed.items() if wanted in ("", part)
        )
        shares = [np.zeros(count) for count in self.space.num_choices]
        for share, part, costs in zip(shares, self.parts, self.choices, strict=True):
            if wanted in ("", part):
                share += costs.get(quantity, 0)
        return fixed, shares


Ranges = Mapping[str, tuple[float | None, float | None]]
"""Least and greatest allowed value by quantity; None where there is no limit."""


def check_ranges(ranges: Mapping[str, Sequence[float | None]] | None) -> Ranges:
    """Read the ranges of a config; None is none.

    Raises:
        ValueError: If a range has not two ends, or they are in the wrong order.
    """
    checked = {}
    for name, ends in (ranges or {}).items():
        if len(ends) != 2:
            raise ValueError(f"constraint {name} needs (least, greatest), got {ends!r}")
        low, high = ends
        if low is not None and high is not None and low > high:
            raise ValueError(f"constraint {name}: the least value {low} is above {high}")
        checked[name] = (low, high)
    return checked


def excess(cost: Mapping[str, float], ranges: Ranges) -> list[float]:
    """Tell how far costs are outside of each end of the ranges: positive where it is passed."""
    lows = [low - cost[name] for name, (low, _) in ranges.items() if low is not None]
    return lows + [cost[name] - high for name, (_, high) in ranges.items() if high is not None]


def within(cost: Mapping[str, float], ranges: Ranges) -> bool:
    """Tell whether the costs of an architecture keep all ranges."""
    return all(value <= 0 for value in excess(cost, ranges))
