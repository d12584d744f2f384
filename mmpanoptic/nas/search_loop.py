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
from .auto_panoptic_cost import make_costs
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
        space (Sequence[dict]): The search space.
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
        heartbeat_seconds (int): Between a worker's signs of life; others take its candidate over
            after three to four times as long without one.
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
        space: Sequence[Mapping[str, Any]],
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
        self.space = SearchSpace(space)
        choices = [group.choices for group in self.space.groups for _ in range(group.size)]
        self.choices = dict(zip(self.space.decisions, choices, strict=True))
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
        home = Path(runner.cfg.filename or "").parent
        self.export_configs = {k: home / path for k, path in (export_configs or {}).items()}
        for name, path in self.export_configs.items():
            if not path.is_file():
                raise FileNotFoundError(f"there is no config {path} for export_configs[{name!r}]")
        # Random weights in a part of the supernet would make every evaluation worthless.
        runner._must_be_whole = True

    def propose(self, history: list[Generation]) -> list[Architecture] | None:
        """Name the next candidates, given all earlier ones; None ends the search."""
        raise NotImplementedError

    def choose(self, history: list[Generation]) -> tuple[list[Architecture], dict[str, Any]]:
        """Name the models to export.

        Returns:
            tuple[list[Architecture], dict]: At most ``top_k`` architectures, the best first; plain
            values for ``search.json``, of which ``scores`` (one list per decision) is drawn.
        """
        raise NotImplementedError

    @property
    def directions(self) -> list[str]:
        """Directions of the objectives: the fitness, then costs."""
        return ["maximize", *["minimize"] * len(self.objectives)]

    def run(self) -> nn.Module:
        """Search; return the supernet, unchanged."""
        require_optuna()
        self._prepare()
        if is_main_process():
            self.study = self._open_study()
            history = self.explore()
            models, details = self.choose(history)
            self._report(history, self.evaluate(models), details)
            self._agree("end")
        else:  # work on the candidates that the first process names
            while (message := self._agree(None)) != "end":
                if message != "wait":
                    self.evaluator(self.space.path(message), lambda *_: self._agree(None))
        barrier()
        return self.runner.model

    def explore(self) -> list[Generation]:
        """Evaluate generation after generation."""
        history: list[Generation] = []
        while (candidates := self.propose(history)) is not None:
            history.append(self.evaluate(candidates))
        return history

    def _prepare(self) -> None:
        runner = self.runner
        if not runner._has_loaded:
            raise ValueError("a search needs a trained supernet: --cfg-options load_from=FILE")
        if runner.val_loop is None:
            raise ValueError(
                "a search judges candidates by val_dataloader, val_evaluator and val_cfg of the "
                "config, which has none (--no-validate removes them)"
            )
        self.model = bare_model(runner.model)
        self.space.check_model(self.model)
        self.costs: CostTable | None = None
        if self.cost_cfg is not None:
            self.costs = make_costs(self.space, runner.cfg.model, **self.cost_cfg)
        for name in [*self.constraints, *self.objectives]:
            self.costs.split(name)  # type: ignore[union-attr] # an unknown name is an error now
        data = self.dataloader, runner.val_loop.dataloader, runner.val_loop.evaluator
        self.evaluator = CandidateEvaluator(
            self.model, *data, self.seed, **self.calibration, checks=self.pruning["checks"]
        )

    def _open_study(self) -> SharedStudy:
        old = self.folder / "records"
        if old.is_dir():
            raise ValueError(
                f"{old} holds evaluations of an earlier version of mmpanoptic, which this one does "
                "not go on from; take another folder=, or move them away. search.json of a "
                "finished search is read as before by tools/search/choose.py"
            )
        categorical = require_optuna().distributions.CategoricalDistribution
        study = SharedStudy(
            open_storage(self.storage, self.heartbeat_seconds),
            "search",
            {name: categorical(choices) for name, choices in self.choices.items()},
            self.directions,
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
        pairs = zip(self.choices.items(), arch, strict=True)
        return {decision: choices[choice] for (decision, choices), choice in pairs}

    def arch(self, params: Mapping[str, str]) -> Architecture:
        """Read the parameters of a trial; the inverse of :meth:`params`."""
        return tuple(choices.index(params[name]) for name, choices in self.choices.items())

    def _initial(self, params: Mapping[str, str]) -> dict[str, Any]:
        """Give the attributes that a trial has from the beginning."""
        arch = self.arch(params)
        cost = self.cost(arch)
        limits = {CONSTRAINTS: excess(cost, self.constraints)} if self.constraints else {}
        return {"digits": self.space.digits(arch), "cost": cost, **limits}

    def cost(self, arch: Architecture) -> dict[str, float]:
        """Tell the costs of an architecture by name; none if the search does not count any."""
        return self.costs.cost(arch) if self.costs else {}

    def allowed(self, arch: Architecture) -> bool:
        """Tell whether an architecture keeps the constraints."""
        return not self.constraints or within(self.cost(arch), self.constraints)

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
        costs = [self.cost(arch)[name] for name in self.objectives]
        values = [self._read_fitness(record["metrics"]), *costs]
        return Outcome(values, known, pruned=record["status"] == "pruned")

    def _judge(self, trial: Any) -> Callable[[int, Mapping[str, float]], bool]:
        """Ask the pruner about a candidate; all processes do what it says."""
        handle: Any = self.study.handle(trial) if self.pruning["checks"] else None
        lost = require_optuna().exceptions.UpdateFinishedTrialError  # it is another worker's now

        def judge(step: int, metrics: Mapping[str, float]) -> bool:
            given_up = True
            with suppress(lost):
                handle.report(self._read_fitness(metrics), step)
                given_up = handle.should_prune()
            return self._agree(given_up)

        return judge

    def _read_fitness(self, metrics: Mapping[str, float]) -> float:
        if self.fitness not in metrics:
            there = ", ".join(sorted(metrics))
            raise ValueError(
                f"no metric is called {self.fitness!r}; there are {there}. Set fitness="
            )
        return metrics[self.fitness]

    def _fitness_of(self, trial: Any) -> float | None:
        if trial.state.name != "COMPLETE":
            return None
        return trial.values[0] if math.isfinite(trial.values[0]) else None

    def _agree(self, value: Any) -> Any:
        values = [value]
        broadcast_object_list(values)
        return values[0]

    def _report(self, history: list[Generation], best: Generation, details: dict) -> None:
        trials, chosen = self.study.finished(), [arch for arch, _ in best]
        archs = dict.fromkeys(arch for generation in [*history, best] for arch, _ in generation)
        rows = [self._row(trials[self.study.fingerprint(self.params(arch))]) for arch in archs]
        settings = {"loop": type(self).__name__, "seed": self.seed, "constraints": self.constraints}
        write_report(self.folder, self.space, rows, chosen, settings | details, self.objectives)
        models = self.folder / "models"
        export_models(models, self.model, self.space, chosen, rows, self.export_configs)
        self.runner.logger.info(f"the report of the search is in {self.folder}", extra=ALWAYS)

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
