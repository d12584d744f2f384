"""Evaluated architectures as the report needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .space import Architecture, SearchSpace


@dataclass(frozen=True)
class Result:
    """One evaluated architecture.

    Attributes:
        arch (Architecture): The architecture.
        digits (str): Its code.
        fitness (float | None): The maximised metric; None if the evaluation failed.
        metrics (dict[str, float]): All metrics.
        cost (dict[str, float]): Costs by name; empty if the search counts none.
        seconds (float): Time of the evaluation.
        host (str): Machine of the evaluation.
    """

    arch: Architecture
    digits: str
    fitness: float | None
    metrics: dict[str, float]
    cost: dict[str, float]
    seconds: float
    host: str

    @classmethod
    def from_record(
        cls, space: SearchSpace, arch: Architecture, record: Mapping[str, Any], fitness: str
    ) -> Result:
        """Take what a record of the store says about an architecture."""
        return cls(
            arch=arch,
            digits=space.digits(arch),
            fitness=record["metrics"].get(fitness),
            metrics=dict(record["metrics"]),
            cost=dict(record["cost"]),
            seconds=record["seconds"],
            host=record["host"],
        )


def pareto_front(results: Sequence[Result], cost: str) -> list[Result]:
    """Select the results of which no other is both better and cheaper.

    Args:
        results (Sequence[Result]): Evaluated architectures; failed ones are left out.
        cost (str): Name of the cost.

    Returns:
        list[Result]: From cheap to dear, with rising fitness; of equal ones the first.
    """
    valid = [result for result in results if result.fitness is not None]
    front: list[Result] = []
    for result in sorted(valid, key=lambda r: (r.cost[cost], -r.fitness)):  # type: ignore[operator]
        if not front or result.fitness > front[-1].fitness:  # type: ignore[operator]
            front.append(result)
    return front
