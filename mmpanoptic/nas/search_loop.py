"""The frame of all searches: evaluate candidates together with other workers, report, export."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.dist import barrier, broadcast_object_list, get_world_size, is_main_process
from mmengine.runner import BaseLoop
from torch import nn
from torch.utils.data import DataLoader

from ..engine.checkpoint_state import bare_model, to_plain
from ..engine.console import ALWAYS
from ..tuning import Outcome, SharedStudy, open_storage, require_optuna
from ..tuning.report import Progress
from ..tuning.samplers import CONSTRAINTS
from ..tuning.storage import WORKER
from .context import describe_data, digest_of_weights
from .cost import CostTable, check_ranges, excess, within
from .evaluation import CandidateEvaluator
from .export import export_models
from .report import write_report
from .space import Architecture, SearchSpace

if TYPE_CHECKING:
    from ..engine.runner import PanopticRunner

Generation = list[tuple[Architecture, float | None]]
"""Candidates in their order with their fitness; None where the evaluation failed."""


class SearchLoop(BaseLoop):
    """Base of the search loops; it takes the place of a training loop.

    The config's training data are those for the recalibration of batch norms, its validation data
    and metrics those that judge a candidate, ``load_from`` is the trained supernet. Candidates
    depend on seed and earlier results alone. Every evaluation is a trial of an Optuna study in
    ``storage``, so that a search that is stopped at any moment and started again goes on, and
    several processes or machines that share the storage share the work: start the same command
    once on each. Started by ``tools/dist_train.sh``, all processes work on one candidate.

    Args:
        runner (PanopticRunner): The runner.
        dataloader (DataLoader | dict): Training data.
        space (Sequence[dict] | dict): The search space.
        fitness (str): Name of the metric that is maximised.
        calibration (dict | None): ``num_batches``, ``mode``, ``backbone_only`` and ``cache`` of
            :class:`~mmpanoptic.nas.evaluation.CandidateEvaluator`.
        cost (dict | None): Arguments of :func:`~mmpanoptic.nas.auto_panoptic_cost.make_costs`.
        constraints (dict | None): Least and greatest allowed value by quantity:
            ``dict(macs=(None, 2e11), latency=(None, 50))``.
        seed (int | None): Seed of the candidates. None takes the run's.
        folder (str | None): Folder of the results. None stands for ``search`` in the run's.
        storage (str | None): Where the trials are kept, see
            :func:`~mmpanoptic.tuning.open_storage`. None stands for ``sqlite`` in ``folder``.
        heartbeat_seconds (int): A worker gives a sign of life as often; after three to four
            times as long without one others take its candidate over.
        poll_seconds (float): Pause before looking again whether other workers are done.
        top_k (int): Number of models to export.
        export_configs (dict | None): Configs that the exported ones inherit, by name; paths from
            the search's config file. None exports architectures and weights only.
    """

    iter = epoch = 0  # the runner asks a training loop: a search has none done
    max_iters = max_epochs = 1

    def __init__(
        self,
        runner: PanopticRunner,
        dataloader: DataLoader | dict[str, Any],
        space: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        fitness: str = "coco_panoptic/PQ",
        calibration: Mapping[str, Any] | None = None,
        cost: Mapping[str, Any] | None = None,
        constraints: Mapping[str, Sequence[float | None]] | None = None,
        seed: int | None = None,
        folder: str | None = None,
        storage: str | None = None,
        heartbeat_seconds: int = 10,
        poll_seconds: float = 5.0,
        top_k: int = 3,
        export_configs: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(runner, dataloader)
        self.space = SearchSpace.from_config(space)
        self.fitness = fitness
        self.calibration = dict(calibration or {})
        self.cost_cfg = dict(cost) if cost else None
        self.constraints = check_ranges(constraints)
        if self.constraints and cost is None:
            raise ValueError("constraints need cost=dict(...), which says how to count")
        self.seed = runner.seed if seed is None else seed
        self.folder = Path(folder or Path(runner.work_dir) / "search")
        self.storage = storage or f"sqlite:///{self.folder.resolve() / 'study.db'}"
        self.heartbeat_seconds, self.poll_seconds = heartbeat_seconds, poll_seconds
        self.top_k = top_k
        self.objectives: list[str] = []
        self.pruner: Any = None
        self.pruning: dict[str, Any] = {"checks": []}
        self.export_configs = _find_configs(export_configs or {}, runner.cfg.filename)
        # Random weights in a part of the supernet would make every evaluation worthless.
        runner._must_be_whole = True

    # ---- what subclasses define --------------------------------------------------------------

    def propose(self, history: list[Generation]) -> list[Architecture] | None:
        """Name the next candidates.

        Args:
            history (list[Generation]): All earlier generations with their results.

        Returns:
            list[Architecture] | None: The next generation; None ends the search.
        """
        raise NotImplementedError

    def choose(self, history: list[Generation]) -> tuple[list[Architecture], dict[str, Any]]:
        """Name the models to export, the best first, and what the report shows of the choice.

        Args:
            history (list[Generation]): All generations.

        Returns:
            tuple[list[Architecture], dict]: At most ``top_k`` architectures; plain values for
            ``search.json``, of which ``scores`` (one list per decision) is drawn.
        """
        raise NotImplementedError

    # ---- the frame ---------------------------------------------------------------------------

    def run(self) -> nn.Module:
        """Search.

        Returns:
            nn.Module: The supernet, unchanged.
        """
        require_optuna()
        self._prepare()
        if is_main_process():
            self._search()
            self._agree("end")
        else:
            self._follow()
        barrier()
        return self.runner.model

    def _search(self) -> None:
        self.study = self._open_study()
        history = self.explore()
        models, details = self.choose(history)
        best = self.evaluate(models)
        self._report(history, best, details)

    def explore(self) -> list[Generation]:
        """Evaluate generation after generation."""
        history: list[Generation] = []
        while (candidates := self.propose(history)) is not None:
            history.append(self.evaluate(candidates))
        return history

    def _follow(self) -> None:
        """Work on the candidates that the first process names."""
        while (message := self._agree(None)) != "end":
            if message != "wait":
                self.evaluator(self.space.path(message), lambda *_: self._agree(None))

    def _prepare(self) -> None:
        runner = self.runner
        if not runner._has_loaded:
            raise ValueError(
                "a search needs the weights of a trained supernet: --cfg-options load_from=FILE"
            )
        if runner.val_loop is None:
            raise ValueError(
                "a search judges candidates by val_dataloader, val_evaluator and val_cfg of the "
                "config, which has none (--no-validate removes them)"
            )
        self.model = bare_model(runner.model)
        self.space.check_model(self.model)
        self.costs = self._build_costs()
        for name in [*self.constraints, *self.objectives]:
            self.costs.split(name)  # type: ignore[union-attr] # an unknown name is an error now
        val_loop = runner.val_loop
        self.evaluator = CandidateEvaluator(
            self.model,
            self.dataloader,
            val_loop.dataloader,
            val_loop.evaluator,
            self.seed,
            **self.calibration,
            checks=self.pruning["checks"],
        )

    def _open_study(self) -> SharedStudy:
        old = self.folder / "records"
        if old.is_dir():
            raise ValueError(
                f"{old} holds evaluations of an earlier version of mmpanoptic, which this one does "
                "not go on from; take another folder=, or move them away. search.json of a "
                "finished search is read as before by tools/search/choose.py"
            )
        distributions = require_optuna().distributions
        names = [group.choices for group in self.space.groups for _ in range(group.size)]
        study = SharedStudy(
            open_storage(self.storage, self.heartbeat_seconds),
            "search",
            {
                decision: distributions.CategoricalDistribution(choices)
                for decision, choices in zip(self.space.decisions, names, strict=True)
            },
            ["maximize", *["minimize"] * len(self.objectives)],
            self._context(),
            self.poll_seconds,
            lambda: self._agree("wait"),
            self.pruner,
            self._initial,
        )
        study.progress = Progress(self.runner.logger, self.fitness, extra=ALWAYS)
        self.runner.logger.info(f"trials: study {study.study.study_name} in {self.storage}")
        return study

    def _context(self) -> dict[str, Any]:
        return {
            "weights": digest_of_weights(self.model.state_dict()),
            "space": [vars(group) for group in self.space.groups],
            "data": describe_data(self.runner.cfg),
            "model": to_plain(self.runner.cfg.model.to_dict()),
            "calibration": {k: v for k, v in self.calibration.items() if k != "cache"},
            "objectives": [self.fitness, *self.objectives],
            "pruning": self.pruning,
            "seed": self.seed,
            "processes": get_world_size(),
        }

    def params(self, arch: Architecture) -> dict[str, str]:
        """Name the choices of an architecture as the parameters of a trial."""
        flat = [name for names in self.space.describe(arch).values() for name in names]
        return dict(zip(self.space.decisions, flat, strict=True))

    def arch(self, params: Mapping[str, str]) -> Architecture:
        """Read the parameters of a trial; the inverse of :meth:`params`."""
        groups = [group for group in self.space.groups for _ in range(group.size)]
        names = zip(groups, self.space.decisions, strict=True)
        return tuple(group.choices.index(params[decision]) for group, decision in names)

    def _initial(self, params: Mapping[str, str]) -> dict[str, Any]:
        """Give the attributes that a trial has from the beginning."""
        arch = self.arch(params)
        cost = self.costs.cost(arch) if self.costs else {}
        found: dict[str, Any] = {"digits": self.space.digits(arch), "cost": cost}
        if self.constraints:
            found[CONSTRAINTS] = excess(cost, self.constraints)
        return found

    def _build_costs(self) -> CostTable | None:
        if self.cost_cfg is None:
            return None
        from .auto_panoptic_cost import make_costs

        return make_costs(self.space, self.runner.cfg.model, **self.cost_cfg)

    def allowed(self, arch: Architecture) -> bool:
        """Tell whether an architecture keeps the constraints."""
        return not self.constraints or within(self.costs.cost(arch), self.constraints)  # type: ignore[union-attr]

    # ---- evaluations -------------------------------------------------------------------------

    def evaluate(self, candidates: Sequence[Architecture]) -> Generation:
        """Evaluate candidates together with the other workers; wait until all are done."""
        trials = self.study.evaluate([self.params(arch) for arch in candidates], self.run_trial)
        return [(a, self._fitness_of(trial)) for a, trial in zip(candidates, trials, strict=True)]

    def run_trial(self, trial: Any, params: Mapping[str, str]) -> Outcome:
        """Evaluate the candidate of a trial with all processes of this worker."""
        arch = self._agree(self.arch(params))
        record = self.evaluator(self.space.path(arch), self._judge(trial))
        known = {name: record[name] for name in ("metrics", "seconds", "batches")}
        if record["status"] == "failed":
            self.runner.logger.error(
                f"the candidate {self.space.digits(arch)} failed and is left out "
                f"({record['traceback'].strip().splitlines()[-1]}); its trial holds the traceback"
            )
            return Outcome((), known, record["traceback"])
        cost = self.costs.cost(arch) if self.costs else {}
        values = [self._read_fitness(record["metrics"]), *(cost[n] for n in self.objectives)]
        return Outcome(values, known, pruned=record["status"] == "pruned")

    def _judge(self, trial: Any) -> Callable[[int, Mapping[str, float]], bool]:
        """Ask the pruner about a candidate; all processes do what it says."""
        handle = self.study.handle(trial) if self.pruning["checks"] else None

        def judge(step: int, metrics: Mapping[str, float]) -> bool:
            given_up = True
            with suppress(
                require_optuna().exceptions.UpdateFinishedTrialError
            ):  # it is another worker's now
                handle.report(self._read_fitness(metrics), step)  # type: ignore[union-attr]
                given_up = handle.should_prune()  # type: ignore[union-attr]
            return self._agree(given_up)

        return judge

    def _read_fitness(self, metrics: Mapping[str, float]) -> float:
        if self.fitness not in metrics:
            raise ValueError(
                f"no metric is called {self.fitness!r}; there are {', '.join(sorted(metrics))}. "
                "Set fitness= of the search loop"
            )
        return metrics[self.fitness]

    def _fitness_of(self, trial: Any) -> float | None:
        if trial.state.name != "COMPLETE":
            return None
        value = trial.user_attrs["metrics"][self.fitness]
        return value if math.isfinite(value) else None

    def _agree(self, value: Any) -> Any:
        values = [value]
        broadcast_object_list(values)
        return values[0]

    # ---- results -----------------------------------------------------------------------------

    def _report(self, history: list[Generation], best: Generation, details: dict) -> None:
        trials = self.study.finished()
        archs = [arch for generation in [*history, best] for arch, _ in generation]
        keys = {arch: self.study.fingerprint(self.params(arch)) for arch in archs}
        rows = [self._row(trials[key]) for key in keys.values()]
        chosen = [arch for arch, _ in best]
        settings = {"loop": type(self).__name__, "seed": self.seed, "constraints": self.constraints}
        write_report(self.folder, self.space, rows, chosen, settings | details, self.objectives)
        export_models(
            self.folder / "models", self.model, self.space, chosen, rows, self.export_configs
        )
        report = f"the report of the search is in {self.folder}"
        self.runner.logger.info(report, extra=ALWAYS)

    def _row(self, trial: Any) -> dict[str, Any]:
        known = trial.user_attrs
        return {
            "digits": known["digits"],
            "fitness": self._fitness_of(trial),
            "metrics": known.get("metrics", {}) if trial.state.name == "COMPLETE" else {},
            "cost": known["cost"],
            "seconds": known.get("seconds", 0.0),
            "host": known[WORKER]["host"],
        }


def _find_configs(names: Mapping[str, str], config_file: str | None) -> dict[str, Path]:
    """Locate the configs to inherit before the search begins.

    Raises:
        FileNotFoundError: If one is not there.
    """
    folder = Path(config_file).parent if config_file else Path()
    paths = {name: folder / path for name, path in names.items()}
    for name, path in paths.items():
        if not path.is_file():
            raise FileNotFoundError(f"there is no config {path} for export_configs[{name!r}]")
    return paths
