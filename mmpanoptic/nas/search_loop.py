"""The frame of all searches: evaluate candidates together with other workers, report, export."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.dist import barrier, broadcast_object_list, get_world_size, is_main_process
from mmengine.runner import BaseLoop
from torch import nn
from torch.utils.data import DataLoader

from ..engine.checkpoint_state import bare_model, to_plain
from ..engine.console import ALWAYS
from .context import describe_data
from .cost import CostTable, check_ranges, within
from .evaluation import CandidateEvaluator
from .export import export_models
from .progress import Progress
from .report import write_report
from .results import Result
from .space import Architecture, SearchSpace
from .store import SearchStore, digest_of_weights

if TYPE_CHECKING:
    from ..engine.runner import PanopticRunner

Generation = list[tuple[Architecture, float | None]]
"""Candidates in their order with their fitness; None where the evaluation failed."""


class SearchLoop(BaseLoop):
    """Base of the search loops; it takes the place of a training loop.

    The config's training data are those for the recalibration of batch norms, its validation data
    and metrics those that judge a candidate, ``load_from`` is the trained supernet. Candidates
    depend on seed and earlier results alone. Every evaluation is kept in ``folder``, so that a
    search that is stopped at any moment and started again goes on, and several processes or
    machines that share the folder share the work: start the same command once on each. Started by
    ``tools/dist_train.sh``, all processes work on one candidate.

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
        folder (str | None): Folder of the evaluations. None stands for ``search`` in the run's.
        lease_seconds (float): See :class:`~mmpanoptic.nas.store.SearchStore`.
        poll_seconds (float): Pause before looking again whether other workers are done.
        top_k (int): Number of models to export.
        export_configs (dict | None): Configs that the exported ones inherit, by name; paths from
            the search's config file. None exports architectures and weights only.
    """

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
        lease_seconds: float = 600.0,
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
        self.lease_seconds, self.poll_seconds = lease_seconds, poll_seconds
        self.top_k = top_k
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

    def settings(self) -> dict[str, Any]:
        """Describe the search in plain values, for the report."""
        return {"loop": type(self).__name__, "seed": self.seed, "constraints": self.constraints}

    # ---- the frame ---------------------------------------------------------------------------

    def run(self) -> nn.Module:
        """Search.

        Returns:
            nn.Module: The supernet, unchanged.
        """
        self._prepare()
        history: list[Generation] = []
        while (candidates := self.propose(history)) is not None:
            history.append(self._evaluate(candidates))
        models, details = self.choose(history)
        best = self._evaluate(models)
        if is_main_process():
            self._report(history, best, details)
        barrier()
        return self.runner.model

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
        for name in self.constraints:
            self.costs.split(name)  # type: ignore[union-attr] # an unknown name is an error now
        val_loop = runner.val_loop
        self.evaluator = CandidateEvaluator(
            self.model,
            self.dataloader,
            val_loop.dataloader,
            val_loop.evaluator,
            self.seed,
            **self.calibration,
        )
        calibration = {k: v for k, v in self.calibration.items() if k != "cache"}
        context = {
            "weights": digest_of_weights(self.model.state_dict()),
            "space": [vars(group) for group in self.space.groups],
            "data": describe_data(runner.cfg),
            "model": to_plain(runner.cfg.model.to_dict()),
            "calibration": calibration,
            "seed": self.seed,
            "processes": get_world_size(),
        }
        self.store = SearchStore(self.folder, context, self.lease_seconds)
        self.store.describe_context()
        self.progress = Progress(runner.logger, self.fitness)

    def _build_costs(self) -> CostTable | None:
        if self.cost_cfg is None:
            return None
        from .auto_panoptic_cost import make_costs

        return make_costs(self.space, self.runner.cfg.model, **self.cost_cfg)

    def allowed(self, arch: Architecture) -> bool:
        """Tell whether an architecture keeps the constraints."""
        return not self.constraints or within(self.costs.cost(arch), self.constraints)  # type: ignore[union-attr]

    # ---- evaluations -------------------------------------------------------------------------

    def _evaluate(self, candidates: Sequence[Architecture]) -> Generation:
        """Evaluate candidates together with the other workers; wait until all are done."""
        wanted = list(dict.fromkeys(candidates))
        while True:
            records = self._read()
            todo = [arch for arch in wanted if self.store.key(arch) not in records]
            self.progress.show(records, len(todo), len(wanted))
            if not todo:
                break
            if not any(self._evaluate_if_free(arch) for arch in todo):
                time.sleep(self.poll_seconds)  # others work on all that is left
        return [(arch, self._fitness(records[self.store.key(arch)])) for arch in candidates]

    def _evaluate_if_free(self, arch: Architecture) -> bool:
        """Evaluate one candidate unless another worker does or did; tell whether it was free."""
        if not is_main_process():
            mine = self._agree(None)
            if mine:
                self.evaluator(self.space.path(arch))
            return bool(mine)
        if self.store.key(arch) in self.store.records():
            return bool(self._agree(False))
        with self.store.claim(arch) as mine:
            # The owner of an expired claim may have finished all the same.
            mine = mine and self.store.key(arch) not in self.store.records()
            if self._agree(mine):
                self._evaluate_and_record(arch)
        return mine

    def _evaluate_and_record(self, arch: Architecture) -> None:
        outcome = self.evaluator(self.space.path(arch))
        if outcome["status"] == "failed":
            self.runner.logger.error(
                f"the candidate {self.space.digits(arch)} failed and is left out "
                f"({outcome['traceback'].strip().splitlines()[-1]}); the records in {self.folder} "
                "hold the traceback"
            )
        cost = self.costs.cost(arch) if self.costs else {}
        now = time.time()
        record = {"digits": self.space.digits(arch), "cost": cost, "seed": self.seed}
        self.store.append(arch, outcome | record | {"finished": now})

    def _read(self) -> dict[str, dict[str, Any]]:
        """Read the records; all processes of this worker get the same ones."""
        return self._agree(self.store.records() if is_main_process() else None)

    def _agree(self, value: Any) -> Any:
        values = [value]
        broadcast_object_list(values)
        return values[0]

    def _fitness(self, record: Mapping[str, Any]) -> float | None:
        if record["status"] != "done":
            return None
        if self.fitness not in record["metrics"]:
            raise ValueError(
                f"no metric is called {self.fitness!r}; there are "
                f"{', '.join(sorted(record['metrics']))}. Set fitness= of the search loop"
            )
        value = record["metrics"][self.fitness]
        return value if math.isfinite(value) else None

    # ---- results -----------------------------------------------------------------------------

    def _report(self, history: list[Generation], best: Generation, details: dict) -> None:
        records = self.store.records()
        archs = dict.fromkeys(arch for generation in history for arch, _ in generation)
        results = [
            Result.from_record(self.space, arch, records[self.store.key(arch)], self.fitness)
            for arch in [*archs, *(arch for arch, _ in best if arch not in archs)]
        ]
        chosen = [arch for arch, _ in best]
        write_report(self.folder, self.space, results, chosen, self.settings() | details)
        export_models(
            self.folder / "models", self.model, self.space, chosen, results, self.export_configs
        )
        report = f"the report of the search is in {self.folder}"
        self.runner.logger.info(report, extra=ALWAYS)

    # ---- what the runner asks a training loop ------------------------------------------------

    @property
    def iter(self) -> int:
        """Iterations done: a search has none."""
        return 0

    @property
    def epoch(self) -> int:
        """Epochs done: a search has none."""
        return 0

    max_iters = max_epochs = 1


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
