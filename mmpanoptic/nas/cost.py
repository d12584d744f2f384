"""What an architecture costs: sums over its choices, and ranges that a search must keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .space import SearchSpace


@dataclass
class CostTable:
    """Costs that add up: a fixed share, and one share per decision that its choice sets.

    A quantity is named ``macs``, ``params`` or ``latency``; its share of one part of the model
    ``macs.backbone``. Wholes are sums over the parts.

    Attributes:
        space (SearchSpace): The space.
        fixed (dict[str, dict[str, float]]): Quantities of what is not searched, by part.
        parts (list[str]): For each decision the part of the model that it belongs to.
        choices (list[dict[str, np.ndarray]]): For each decision the quantities of its choices.
    """

    space: SearchSpace
    fixed: dict[str, dict[str, float]] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)
    choices: list[dict[str, np.ndarray]] = field(default_factory=list)

    def add_fixed(self, part: str, **quantities: float) -> None:
        """Add a cost that every architecture has."""
        own = self.fixed.setdefault(part, {})
        for name, value in quantities.items():
            own[name] = own.get(name, 0) + value

    def add_decision(self, part: str, **quantities: Sequence[float]) -> None:
        """Add the costs of the next decision of the space, one value per choice."""
        self.parts.append(part)
        self.choices.append({name: np.asarray(values) for name, values in quantities.items()})

    def names(self) -> list[str]:
        """List the quantities: wholes first, then those of the parts."""
        wholes = dict.fromkeys(name for costs in self._all_costs() for name in costs)
        parts = dict.fromkeys([*self.fixed, *self.parts])
        return [*wholes, *(f"{name}.{part}" for name in wholes for part in parts)]

    def cost(self, arch: Sequence[int]) -> dict[str, float]:
        """Sum up all quantities of an architecture.

        Args:
            arch (Sequence[int]): The architecture.

        Returns:
            dict[str, float]: By name, see the class.
        """
        arch = self.space.validate(arch)
        total: dict[str, float] = dict.fromkeys(self.names(), 0)
        shares = [(part, costs) for part, costs in self.fixed.items()]
        for part, options, choice in zip(self.parts, self.choices, arch, strict=True):
            shares.append((part, {name: values[choice].item() for name, values in options.items()}))
        for part, quantities in shares:
            for name, value in quantities.items():
                total[name] += value
                total[f"{name}.{part}"] += value
        return total

    def split(self, name: str) -> tuple[float, list[np.ndarray]]:
        """Separate a quantity into what is fixed and what the choices add.

        Args:
            name (str): Name of the quantity: ``macs`` or ``macs.backbone``.

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
            float(costs.get(quantity, 0))
            for part, costs in self.fixed.items()
            if not wanted or part == wanted
        )
        shares = []
        for part, costs, count in zip(
            self.parts, self.choices, self.space.num_choices, strict=True
        ):
            mine = not wanted or part == wanted
            values = costs.get(quantity) if mine else None
            shares.append(np.zeros(count) if values is None else values.astype(np.float64))
        return fixed, shares

    def _all_costs(self) -> list[Mapping[str, object]]:
        return [*self.fixed.values(), *self.choices]


Ranges = Mapping[str, tuple[float | None, float | None]]
"""Least and greatest allowed value by quantity; None where there is no limit."""


def check_ranges(ranges: Mapping[str, Sequence[float | None]] | None) -> Ranges:
    """Check the ranges of a config.

    Args:
        ranges (Mapping | None): Two numbers or None by name of the quantity.

    Returns:
        Ranges: As tuples; empty for None.

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
    """Tell how far the costs of an architecture are outside of each end of the ranges.

    Args:
        cost (Mapping[str, float]): From :meth:`CostTable.cost`.
        ranges (Ranges): The ranges.

    Returns:
        list[float]: Positive where an end is passed; limits themselves are allowed.
    """
    lows = [low - cost[name] for name, (low, _) in ranges.items() if low is not None]
    return lows + [cost[name] - high for name, (_, high) in ranges.items() if high is not None]


def within(cost: Mapping[str, float], ranges: Ranges) -> bool:
    """Tell whether the costs of an architecture keep all ranges."""
    return all(value <= 0 for value in excess(cost, ranges))
