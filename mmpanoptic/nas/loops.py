"""The searches: path priority, evolution, random, and Optuna's samplers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..datasets.seeding import derive_seed
from ..engine.console import ALWAYS
from ..registry import LOOPS
from ..tuning.report import front_study
from ..tuning.samplers import make_pruner, make_sampler
from .sampling import fair_table
from .scoring import best_architectures, best_in_ranges, rank_scores, ridge_scores
from .search_loop import Generation, SearchLoop
from .space import Architecture

MAX_TRIES = 10_000  # in a row that break the constraints or repeat a candidate


def ranked(history: Sequence[Generation]) -> list[tuple[Architecture, float]]:
    """List the evaluated architectures, the fittest first; each once, failed ones left out.

    Raises:
        RuntimeError: If every evaluation failed.
    """
    found = {arch: value for generation in history for arch, value in generation}
    valid = [(arch, value) for arch, value in found.items() if value is not None]
    if not valid:
        raise RuntimeError("every candidate of the search failed; the log holds the reasons")
    return sorted(valid, key=lambda candidate: -candidate[1])


@LOOPS.register_module()
class PathPrioritySearchLoop(SearchLoop):
    """Path-priority search: score every choice by the candidates that it is part of.

    Auto-Panoptic (arXiv:2010.16119), section 3.3. Each cycle evaluates one fair window of
    candidates, which together use every choice equally often. The found network takes the best
    choice of every decision, the k-th exported one the k-th best. Under constraints the candidates
    are the same, and the network with the greatest sum of scores within the limits is taken; the
    other exported ones are the fittest candidates within them.

    Differences from the original: fitness is not rounded; an interrupted search goes on and scores
    all its cycles; a candidate that fails loses its points instead of ending the search.

    Args:
        cycles (int): Number of fair windows.
        scorer (str): ``rank`` gives points by the rank within the cycle, as published; ``ridge``
            fits an additive model of the fitness, which needs fewer candidates.
        ridge_penalty (float): See :func:`~mmpanoptic.nas.scoring.ridge_scores`.
        strict_legacy_ties (bool): See :func:`~mmpanoptic.nas.scoring.best_architectures`.
        **kwargs: As in :class:`SearchLoop`.
    """

    def __init__(
        self,
        *args: Any,
        cycles: int = 5,
        scorer: str = "rank",
        ridge_penalty: float = 1.0,
        strict_legacy_ties: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if scorer not in ("rank", "ridge") or cycles < 1:
            raise ValueError(
                f"scorer must be rank or ridge and cycles at least 1, got {scorer!r} and {cycles}"
            )
        self.cycles, self.scorer, self.ridge_penalty = cycles, scorer, ridge_penalty
        self.strict_legacy_ties = strict_legacy_ties

    def propose(self, history: list[Generation]) -> list[Architecture] | None:
        """Give the next cycle; all cycles follow from the seed."""
        if len(history) == self.cycles:
            return None
        rng = np.random.RandomState(self.seed % 2**32)
        tables = [fair_table(self.space, rng) for _ in range(len(history) + 1)]
        return [self.space.validate(row) for row in tables[-1].tolist()]

    def choose(self, history: list[Generation]) -> tuple[list[Architecture], dict[str, Any]]:
        """Combine the best choices, within the constraints if there are any."""
        valid = [[(a, f) for a, f in generation if f is not None] for generation in history]
        fittest = [arch for arch, _ in ranked(history)]
        if self.scorer == "rank":
            scores = rank_scores(self.space, valid)
        else:
            everything = [candidate for cycle in valid for candidate in cycle]
            scores = ridge_scores(self.space, everything, self.ridge_penalty)
        if self.constraints:
            first = best_in_ranges(self.costs, scores, self.constraints)  # type: ignore[arg-type]
            models = [first, *(arch for arch in fittest if self.allowed(arch) and arch != first)]
        else:
            models = best_architectures(self.space, scores, self.strict_legacy_ties)
        details = {"scorer": self.scorer, "scores": [values.tolist() for values in scores]}
        return models[: self.top_k], details


@LOOPS.register_module()
class EvolutionSearchLoop(SearchLoop):
    """Evolution as in DetNAS: the best candidates so far are mutated and crossed.

    DetNAS (arXiv:1903.10979), section 3.3. The first generation is random. Each next one holds
    ``mutations`` of random parents, of which every decision is drawn anew with probability
    ``mutation_prob``, ``crossovers`` that take every decision from one of two parents, and random
    candidates. Candidates outside of the constraints or known already are drawn again.

    Differences from the original: the search ends with an error instead of never when nothing new
    is allowed; candidates follow from seed and results, so that a search can be resumed.

    Args:
        generations (int): Number of generations.
        population (int): Candidates per generation.
        parents (int): Best candidates so far that have offspring.
        mutations (int): Mutated candidates per generation.
        crossovers (int): Crossed candidates per generation.
        mutation_prob (float): Probability that a decision mutates.
        **kwargs: As in :class:`SearchLoop`.
    """

    def __init__(
        self,
        *args: Any,
        generations: int = 20,
        population: int = 50,
        parents: int = 10,
        mutations: int = 20,
        crossovers: int = 20,
        mutation_prob: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if min(generations, population, parents) < 1 or mutations + crossovers > population:
            raise ValueError(
                "evolution needs generations, population and parents of at least 1 and mutations "
                f"+ crossovers <= population, got {generations}, {population}, {parents}, "
                f"{mutations} + {crossovers}"
            )
        self.generations, self.population, self.parents = generations, population, parents
        self.mutations, self.crossovers, self.mutation_prob = mutations, crossovers, mutation_prob

    def propose(self, history: list[Generation]) -> list[Architecture] | None:
        """Breed the next generation from all earlier ones."""
        if len(history) == self.generations:
            return None
        rng = np.random.RandomState([self.seed % 2**32, len(history)])
        known = {arch for generation in history for arch, _ in generation}
        born: list[Architecture] = []
        if history:
            parents = [arch for arch, _ in ranked(history)[: self.parents]]
            born += self.draw(rng, lambda: self._mutate(rng, parents), self.mutations, known)
            born += self.draw(rng, lambda: self._cross(rng, parents), self.crossovers, known)
        rest = self.population - len(born)
        return born + self.draw(rng, lambda: self.space.sample(rng), rest, known)

    def draw(
        self, rng: np.random.RandomState, one: Any, number: int, known: set[Architecture]
    ) -> list[Architecture]:
        """Draw new architectures with ``one`` within the constraints; ``known`` gets them too.

        Random ones take their place where it finds nothing new, as with equal parents; it is an
        error if they do not either.
        """
        found: list[Architecture] = []
        for source in (one, lambda: self.space.sample(rng)):
            tries = 0
            while len(found) < number and tries < MAX_TRIES:
                arch = source()
                tries += 1
                if arch not in known and self.allowed(arch):
                    known.add(arch)
                    found.append(arch)
                    tries = 0
        if len(found) < number:
            raise RuntimeError(
                f"{MAX_TRIES} random architectures in a row were known already or outside of the "
                f"constraints {self.constraints}; widen them or ask for fewer candidates"
            )
        return found

    def choose(self, history: list[Generation]) -> tuple[list[Architecture], dict[str, Any]]:
        """Take the fittest candidates of all generations."""
        return [arch for arch, _ in ranked(history)[: self.top_k]], {}

    def _mutate(self, rng: np.random.RandomState, parents: Sequence[Architecture]) -> Architecture:
        parent = parents[rng.randint(len(parents))]
        return tuple(
            int(rng.randint(count)) if rng.random_sample() < self.mutation_prob else choice
            for choice, count in zip(parent, self.space.num_choices, strict=True)
        )

    @staticmethod
    def _cross(rng: np.random.RandomState, parents: Sequence[Architecture]) -> Architecture:
        pairs = zip(*(parents[rng.randint(len(parents))] for _ in range(2)), strict=True)
        return tuple(a if rng.random_sample() < 0.5 else b for a, b in pairs)


@LOOPS.register_module()
class RandomSearchLoop(EvolutionSearchLoop):
    """Evaluate random architectures and keep the best: the baseline of every search.

    Args:
        candidates (int): Number of different architectures.
        **kwargs: As in :class:`SearchLoop`.
    """

    def __init__(self, *args: Any, candidates: int = 60, **kwargs: Any) -> None:
        if candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {candidates}")
        # The first generation of evolution is random.
        one = {"generations": 1, "population": candidates, "mutations": 0, "crossovers": 0}
        super().__init__(*args, **one, **kwargs)


@LOOPS.register_module()
class SamplerSearchLoop(SearchLoop):
    """Search with one of Optuna's samplers, for one objective or several.

    With one objective the fittest candidates are exported, with several those of the Pareto set,
    the fittest first. Candidates outside of the constraints are not evaluated.

    Args:
        sampler (dict): ``type``, a class of ``optuna.samplers``, and its arguments.
        candidates (int): Number of different architectures.
        objectives (Sequence[str]): Costs that are minimised while the fitness is maximised:
            ``("macs", "latency")``.
        pruner (dict | None): ``type``, a class of ``optuna.pruners``, and its arguments. It
            compares the fitness on a part of the validation data with that of other candidates and
            gives bad ones up. It needs a single objective.
        checks (Sequence[float]): Shares of the validation data after which it is asked.
        **kwargs: As in :class:`SearchLoop`.
    """

    def __init__(
        self,
        *args: Any,
        sampler: Mapping[str, Any],
        candidates: int = 60,
        objectives: Sequence[str] = (),
        pruner: Mapping[str, Any] | None = None,
        checks: Sequence[float] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {candidates}")
        if objectives and self.cost_cfg is None:
            raise ValueError("objectives need cost=dict(...), which says how to count")
        if bool(pruner) != bool(checks):
            raise ValueError("pruner and checks belong together: checks says when it is asked")
        if pruner and objectives:
            raise ValueError("Optuna's pruners compare one objective; leave pruner or objectives")
        make_sampler(sampler, 0)  # an unknown one is an error now
        self.sampler, self.candidates = dict(sampler), candidates
        self.objectives, self.pruner = list(objectives), make_pruner(pruner)
        self.pruning = {"pruner": dict(pruner or {}), "checks": [float(c) for c in checks]}

    def explore(self) -> list[Generation]:
        """Evaluate what the sampler names."""
        trials = self.study.sample(
            min(self.candidates, self.space.size),
            lambda n: make_sampler(self.sampler, derive_seed(self.seed, n), bool(self.constraints)),
            self.run_trial,
            lambda params: self.allowed(self.arch(params)),
        )
        if self.pruner:
            saved = sum(trial.state.name == "PRUNED" for trial in trials)
            batches = sum(trial.user_attrs["batches"] for trial in trials)
            whole = len(trials) * len(self.evaluator.val_loader)
            self.runner.logger.info(
                f"{saved} of {len(trials)} candidates were given up early: {batches} of {whole} "
                "batches of the validation data were run",
                extra=ALWAYS,
            )
        return [[(self.arch(trial.params), self._fitness_of(trial)) for trial in trials]]

    def choose(self, history: list[Generation]) -> tuple[list[Architecture], dict[str, Any]]:
        """Take the fittest candidates, with several objectives those of the Pareto set."""
        best = {self.space.digits(arch): fitness for arch, fitness in ranked(history)}
        if self.objectives:
            costs = {code: self.cost(self.space.parse(code)) for code in best}
            points = [(c, [f, *(costs[c][o] for o in self.objectives)]) for c, f in best.items()]
            front = front_study(points, self.directions)[1]
            best = {code: fitness for code, fitness in best.items() if code in front}
        details = {"sampler": self.sampler, "objectives": self.objectives, **self.pruning}
        return [self.space.parse(code) for code in [*best][: self.top_k]], details
