"""Write checkpoints at intervals, never at the expense of one that is still needed."""

from __future__ import annotations

import hashlib
import inspect
import operator
import os
import re
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.dist import is_main_process, master_only
from mmengine.evaluator import Evaluator
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook

from mmpanoptic.checkpoints.loading import load_checkpoint, save_checkpoint
from mmpanoptic.checkpoints.run_folder import BEST_POINTER, POINTER
from mmpanoptic.checkpoints.shares import remove_checkpoint
from mmpanoptic.registry import HOOKS, ConfigError

from ..utils.files import atomic_write
from .config_keys import did_you_mean

if TYPE_CHECKING:
    from .runner import PanopticRunner

INTERRUPTED = "interrupted_iter_{}.pth"
"""Name of the checkpoint that a stopped run leaves."""

_REMAINS = re.compile(r"^\.(epoch|iter|best|interrupted)_.*\.pth(\..*)?$")


_GREATER = re.compile(r"(PQ|SQ|RQ|m?AP|AR|m?IoU|[am]?Acc|top)(_|@|\d|$|/)", re.IGNORECASE)


def rule_of(metric: str) -> str | None:
    """Tell whether a metric is better when greater, by its name without prefix.

    Args:
        metric (str): Such as ``PQ``, ``coco_panoptic/PQ_th`` or ``coco_panoptic/PQ/person``.

    Returns:
        str | None: ``greater`` or ``less``; None if the name does not tell.
    """
    if any(_GREATER.match(part) for part in metric.split("/")):
        return "greater"
    return "less" if "loss" in metric.lower() else None


def find_metric(name: str, metrics: Iterable[str]) -> str:
    """Find a metric by its name with or without prefix.

    Args:
        name (str): ``PQ`` or ``coco_panoptic/PQ``.
        metrics (Iterable[str]): Whole names.

    Returns:
        str: The whole name.

    Raises:
        ConfigError: If there is none, or several have that name.
    """
    names = list(metrics)
    found = [name] if name in names else [one for one in names if one.endswith(f"/{name}")]
    if len(found) == 1:
        return found[0]
    what = "several metrics are called" if found else "validation gives no metric"
    raise ConfigError(f"{what} {name!r}; there are: {', '.join(found or names)}")


def known_metrics(evaluator: Any) -> list[str] | None:
    """List the names of an evaluator's results before there are any.

    Args:
        evaluator: mmengine's ``Evaluator``.

    Returns:
        list[str] | None: None if a metric does not tell in advance (attribute ``result_names``).
    """
    names: list[str] = []
    for metric in getattr(evaluator, "metrics", ()):
        if type(evaluator) is not Evaluator or not hasattr(metric, "result_names"):
            return None
        names += [f"{metric.prefix}/{n}" if metric.prefix else n for n in metric.result_names]
    return names


class _PatientBackend(LocalBackend):
    """Local files whose removal waits until :meth:`flush`."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: list[Path] = []

    def remove(self, filepath: str | Path) -> None:
        """Remember a file to be removed."""
        self.pending.append(Path(filepath))

    def flush(self, keep: Iterable[str | None]) -> None:
        """Remove the remembered files, except those in ``keep``."""
        kept = {Path(path) for path in keep if path}
        for path in self.pending:
            if path not in kept:
                remove_checkpoint(path)
        self.pending.clear()


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """Save checkpoints periodically; at every moment a whole one is on the disk.

    Differences from the original (``mmengine.hooks.CheckpointHook``): the pointer file
    ``last_checkpoint`` is written atomically, and ``best_checkpoint`` names the best one of the
    training; old and formerly best checkpoints are removed after the new ones are written, not
    before; two checkpoints are kept by default, so that a damaged
    newest one has a predecessor; published files are named by the SHA-256 of their content, as
    ``torch.hub`` checks it; ``save_best`` takes names without their prefix (``PQ``), knows which
    metrics are better when greater, and starts anew where a resumed run asks for another metric; of
    equal ones the later checkpoint is the best, since it has been trained for longer.

    Args:
        interval (int): Epochs or iterations between checkpoints; -1 for none.
        by_epoch (bool): Whether ``interval`` counts epochs.
        max_keep_ckpts (int): Number of checkpoints to keep; -1 for all. With 1 there is nothing
            to fall back on.
        **kwargs: As in the original, which ignores names that it does not know; here they are an
            error.

    Raises:
        ConfigError: If there is no such argument.
    """

    rule_map = {"greater": operator.ge, "less": operator.le}

    out_dir: str  # in the config perhaps None, from before_train on a folder

    def __init__(
        self, interval: int = -1, by_epoch: bool = True, max_keep_ckpts: int = 2, **kwargs: Any
    ) -> None:
        known = {*inspect.signature(CheckpointHook.__init__).parameters} - {"self", "kwargs"}
        for name in kwargs:
            if name not in known:
                hint = did_you_mean(name, known) or f"; known are {', '.join(sorted(known))}"
                raise ConfigError(f"AtomicCheckpointHook has no argument {name}{hint}")
        super().__init__(interval, by_epoch, max_keep_ckpts=max_keep_ckpts, **kwargs)

    def _init_rule(self, rules: list[str | None], key_indicators: list[str]) -> None:
        """Choose what is better for each metric where the config does not say."""
        rules = rules * len(key_indicators) if len(rules) == 1 else rules
        named = zip(rules, key_indicators, strict=True)
        super()._init_rule([rule or rule_of(name) for rule, name in named], key_indicators)

    def before_train(self, runner: PanopticRunner) -> None:
        """Take over what earlier runs kept, and clear away half-written files of killed ones.

        Args:
            runner (PanopticRunner): The runner.
        """
        name = os.path.basename(runner.work_dir.rstrip(os.sep))
        self.out_dir = os.path.join(self.out_dir, name) if self.out_dir else runner.work_dir
        self.file_backend = _PatientBackend()
        runner.logger.info(f"Checkpoints will be saved to {self.out_dir}")
        info = runner.message_hub.runtime_info
        kept = info.get("keep_ckpt_ids", []) if self.max_keep_ckpts > 0 else []
        self.keep_ckpt_ids = deque(kept[-self.max_keep_ckpts :], max(self.max_keep_ckpts, 0))
        if self.save_best:
            self._check_best(runner)
        if self.save_best and len(self.key_indicators) == 1:
            self.best_ckpt_path = info.get("best_ckpt")
        elif self.save_best:
            names = self.key_indicators
            self.best_ckpt_path_dict = {name: info.get(f"best_ckpt_{name}") for name in names}
        if is_main_process():
            self._point_to(runner, BEST_POINTER, self._best())  # not that of an earlier training
            outdated = (self._path_of(step) for step in kept[: -self.max_keep_ckpts])
            self._clear_away(outdated)

    def _check_best(self, runner: PanopticRunner) -> None:
        """Look whether validation can tell what is best, and what an earlier run called so."""
        info = runner.message_hub.runtime_info
        if info.get("best_keys", self.save_best) != self.save_best:
            for name in [name for name in info if name.startswith(("best_score", "best_ckpt"))]:
                info.pop(name)
        runner.message_hub.update_info("best_keys", self.save_best)
        if runner.val_loop is None:
            runner.logger.warning(f"save_best={self.save_best} does nothing: nothing is validated")
            return
        known = known_metrics(runner.val_loop.evaluator)
        if known is not None and self.save_best != ["auto"]:
            for name in self.save_best:
                find_metric(name, known)

    def after_train(self, runner: PanopticRunner) -> None:
        """Save the last state of a run that has ended early.

        Args:
            runner (PanopticRunner): The runner.
        """
        step = runner.epoch if self.by_epoch else runner.iter
        ended_early = runner.iter < runner.max_iters and runner.train_loop.stop_training
        if ended_early and self.last_ckpt != str(self._path_of(step)):
            meta = {"epoch": runner.epoch, "iter": runner.iter}
            self._save_checkpoint_with_step(runner, step, meta)
        super().after_train(runner)

    def _path_of(self, step: int) -> Path:
        return Path(self.out_dir, self.filename_tmpl.format(step))

    def _clear_away(self, outdated: Iterable[Path]) -> None:
        """Remove outdated checkpoints and half-written files."""
        folder = Path(self.out_dir)
        files = folder.iterdir() if folder.is_dir() else ()
        for path in [path for path in files if _REMAINS.match(path.name)]:
            path.unlink(missing_ok=True)
        for path in outdated:
            remove_checkpoint(path)

    def save_interrupted(self, runner: PanopticRunner, iteration: int) -> None:
        """Write a checkpoint, whatever the interval.

        It goes away as soon as there are two regular checkpoints after it.

        Args:
            runner (PanopticRunner): The runner.
            iteration (int): Number of finished iterations.
        """
        name = INTERRUPTED.format(iteration)
        meta = {"epoch": runner.epoch, "iter": iteration}
        runner.save_checkpoint(self.out_dir, name, meta=meta, by_epoch=False)
        self._point_to(runner, POINTER, os.path.join(self.out_dir, name))

    def _save_checkpoint_with_step(
        self, runner: PanopticRunner, step: int, meta: dict[str, Any]
    ) -> None:
        """Write the checkpoint, then the pointer, then remove what is outdated."""
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                self.file_backend.remove(self._path_of(self.keep_ckpt_ids.popleft()))
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info("keep_ckpt_ids", list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = os.path.join(self.out_dir, name)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            **self.args,
        )
        self._point_to(runner, POINTER, self.last_ckpt)
        self._remove_interrupted()
        self._flush()

    def _save_best_checkpoint(self, runner: PanopticRunner, metrics: dict[str, Any]) -> None:
        """Write the best checkpoint, then remove its predecessor."""
        if self.save_best and self.save_best != ["auto"]:
            asked = {name: metrics[find_metric(name, metrics)] for name in self.key_indicators}
            metrics = {**metrics, **asked}
        super()._save_best_checkpoint(runner, metrics)
        self._point_to(runner, BEST_POINTER, self._best())
        self._flush()

    def _best(self) -> str | None:
        """Return the best checkpoint of this training by the first of its metrics, if any."""
        if not self.save_best:
            return None
        if len(self.key_indicators) == 1:
            return getattr(self, "best_ckpt_path", None)
        return self.best_ckpt_path_dict.get(self.key_indicators[0])

    @master_only
    def _point_to(self, runner: PanopticRunner, pointer: str, path: str | None) -> None:
        """Name a checkpoint in a pointer file; without one, take the file away."""
        file = Path(runner.work_dir, pointer)
        if path is None:
            file.unlink(missing_ok=True)
            return
        with atomic_write(file) as temporary:
            temporary.write_text(path, encoding="utf-8")

    def _remove_interrupted(self) -> None:
        """Remove checkpoints of stopped runs if two newer ones can replace them."""
        if self.max_keep_ckpts < 2 or len(self.keep_ckpt_ids) < 2:
            return
        regular = [self._path_of(step) for step in self.keep_ckpt_ids]
        times = sorted(path.stat().st_mtime_ns for path in regular if path.exists())
        for path in Path(self.out_dir).glob(INTERRUPTED.format("*")):
            if len(times) >= 2 and path.stat().st_mtime_ns < times[-2]:
                self.file_backend.remove(path)

    def _flush(self) -> None:
        best = getattr(self, "best_ckpt_path_dict", None) or {}
        keep = [self.last_ckpt, getattr(self, "best_ckpt_path", None), *best.values()]
        if is_main_process():
            self.file_backend.flush(keep)
        else:
            self.file_backend.pending.clear()

    @master_only
    def _publish_model(self, runner: PanopticRunner, ckpt_path: str) -> None:
        """Write the published keys to a file that is named by its hash."""
        content = load_checkpoint(ckpt_path)
        published = {key: content[key] for key in content if key in self.published_keys}
        stem = Path(ckpt_path).with_suffix("")
        unnamed = stem.with_name(f".{stem.name}-unnamed.pth")
        save_checkpoint(published, unnamed)
        digest = hashlib.sha256(unnamed.read_bytes()).hexdigest()[:8]
        target = stem.with_name(f"{stem.name}-{digest}.pth")
        os.replace(unnamed, target)
        runner.logger.info(f"The checkpoint {ckpt_path} is published as {target}")
