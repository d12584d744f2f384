"""Go on with an interrupted run: find the checkpoint, read it, take its states over."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, get_rank, is_main_process
from mmengine.runner.checkpoint import load_state_dict

from mmpanoptic.checkpoints.errors import CheckpointError
from mmpanoptic.checkpoints.integrity import verify_checkpoint
from mmpanoptic.checkpoints.loading import load_checkpoint
from mmpanoptic.checkpoints.published import load_for_model, needs_model
from mmpanoptic.checkpoints.run_folder import POINTER
from mmpanoptic.checkpoints.shares import verify_shares

from ..datasets.seeding import derive_seed
from ..utils.files import atomic_write
from .checkpoint_state import (
    bare_model,
    message_hub_from_plain,
    misfits,
    reopen_window,
    to_plain,
)
from .config import explained_build_errors, stored_label_table
from .fully_sharded import is_spread, share_optimizer, share_weights
from .non_finite import refuse_non_finite
from .random_state import restore_random_state
from .run_seed import change_seed
from .schedules import follow_config, note_schedules
from .workers import clear_worker_errors

VALIDATED = "last_validation"
"""File in a run's folder that holds the iteration of its last whole validation."""

_WEIGHTS_ONLY = re.compile(r"^(best_.*|.*-[0-9a-f]{8})\.pth$")


def find_checkpoint(work_dir: str | Path, report: Callable[[str], None]) -> Path | None:
    """Find the newest whole checkpoint of a run.

    First comes the one that ``last_checkpoint`` names, then the others from the newest to the
    oldest by time of writing. Best and published checkpoints hold no optimizer and do not count.

    Args:
        work_dir: Folder of the run.
        report (Callable): Told about every checkpoint that is missing or damaged.

    Returns:
        Path | None: The checkpoint; None if the run has not written any.

    Raises:
        CheckpointError: If there are checkpoints, but none is whole.
    """
    candidates = _candidates(Path(work_dir), report)
    for path in candidates:
        try:
            verify_checkpoint(path)
            verify_shares(path)
        except CheckpointError as error:
            report(f"{error}. Trying an older checkpoint of {work_dir}")
            continue
        return path
    if candidates:
        raise CheckpointError(
            f"none of the {len(candidates)} checkpoints of {work_dir} is whole "
            f"({', '.join(path.name for path in candidates)}); name one elsewhere with --resume "
            "FILE, or move them and last_checkpoint away to start from the beginning"
        )
    return None


def _candidates(work_dir: Path, report: Callable[[str], None]) -> list[Path]:
    """List what could be resumed from, the most wanted first."""
    named = _named_by_pointer(work_dir, report)
    folders = {work_dir, *([named.parent] if named else [])}
    others = {
        path
        for folder in folders
        if folder.is_dir()
        for path in folder.glob("*.pth")
        # Names with a dot are remains of writes that were killed.
        if not path.name.startswith(".") and not _WEIGHTS_ONLY.match(path.name)
    }
    if named:  # under this or another name: a pointer may be relative
        others = {path for path in others if path.resolve() != named.resolve()}
    newest_first = sorted(others, key=lambda p: (p.stat().st_mtime_ns, p.name), reverse=True)
    return [*([named] if named else []), *newest_first]


def _named_by_pointer(work_dir: Path, report: Callable[[str], None]) -> Path | None:
    pointer = work_dir / POINTER
    try:
        name = pointer.read_text(encoding="utf-8").strip()
        if not name or not name.isprintable():
            raise ValueError("it holds no path")
        path = Path(name)
        # A work folder may have been moved: the pointer holds an absolute path.
        return path if path.exists() else work_dir / path.name
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        report(f"{pointer} is damaged ({error}). Taking the newest checkpoint of {work_dir}")
        return None


class ResumeMixin:
    """The part of :class:`PanopticRunner` that reads checkpoints."""

    _must_be_whole = False
    """Whether the model needs all its weights from the checkpoint, as testing does."""
    _resumed: Mapping[str, Any] | None = None
    """Content of the checkpoint that is resumed, apart from weights."""

    _newest: tuple[str | None] | None = None
    """The checkpoint that a resume without a name takes, once it was looked for."""

    _loaded: tuple[str, dict[str, Any]] | None = None
    """Name and content of the checkpoint that was read before the model was built."""

    @staticmethod
    def _load_ahead(cfg: Config) -> tuple[str, dict[str, Any]] | None:
        """Read the checkpoint that a config names, whose label table numbers the classes."""
        path = cfg.get("load_from")
        if not path or needs_model(path):
            return None
        stage = re.match(r"work_dirs/([^/]+)/", str(path))
        if stage and not Path(path).exists():
            raise CheckpointError(
                f"there is no checkpoint {path}, which the config starts from: it is what "
                f"{stage[1]} writes. Train that first, or name other weights with --cfg-options "
                "load_from=FILE"
            )
        return path, load_checkpoint(path, trust=bool(cfg.get("trust_checkpoint", False)))

    def _init_model_weights(self: Any) -> None:
        """Leave out what a checkpoint replaces: a resumed run fetches no pretrained weights."""
        if is_spread(self.model):  # it was initialised while it was whole
            return
        if self._resume and (self._load_from is not None or self._newest_checkpoint()):
            return
        super()._init_model_weights()  # type: ignore[misc]

    def load_or_resume(self: Any) -> None:
        """Load or resume what the config asks for; ``resume`` alone takes the newest checkpoint.

        A run without checkpoints starts anew, from ``initial_weights`` of the config if given.
        """
        if self._has_loaded or not self._resume or self._load_from is not None:
            super().load_or_resume()  # type: ignore[misc]
            return
        path = self._newest_checkpoint()
        if path is not None:
            self.resume(path)
            return
        self.logger.info(f"{self.work_dir} holds no checkpoint: training starts from the beginning")
        self._resume = False
        if self.cfg.get("initial_weights"):
            self.load_checkpoint(self.cfg.initial_weights)

    def val(self: Any) -> dict[str, Any]:
        """Validate; a checkpoint without all of the model's weights is an error."""
        self._must_be_whole = True
        self.keep_config(replace=False)
        with self._watched(), explained_build_errors(), clear_worker_errors():
            return super().val()  # type: ignore[misc]

    def test(self: Any) -> dict[str, Any]:
        """Test; a checkpoint without all of the model's weights is an error."""
        self._must_be_whole = True
        self.keep_config(replace=False)
        with self._watched(), explained_build_errors(), clear_worker_errors():
            return super().test()  # type: ignore[misc]

    def _newest_checkpoint(self: Any) -> str | None:
        """Let the first process choose, so that all processes agree; once for a runner."""
        if self._newest is not None:
            return self._newest[0]
        choice: list[Any] = [None]
        if is_main_process():
            try:
                choice = [find_checkpoint(self.work_dir, self.logger.error)]
            except CheckpointError as error:
                choice = [error]
        broadcast_object_list(choice)
        if isinstance(choice[0], CheckpointError):
            raise choice[0]
        self._newest = (choice[0] and str(choice[0]),)
        return self._newest[0]

    def load_checkpoint(
        self: Any,
        filename: str,
        map_location: Any = "cpu",
        strict: bool = False,
        revise_keys: Sequence[tuple[str, str]] = ((r"^module\.", ""),),
    ) -> dict[str, Any]:
        """Load the model's weights.

        Args:
            filename (str): Path or address, see
                :func:`mmpanoptic.checkpoints.published.load_for_model`.
            map_location: As in :func:`torch.load`.
            strict (bool): Insist on equal names and shapes.
            revise_keys (Sequence): Regular expressions and replacements for the names.

        Returns:
            dict: The checkpoint.

        Raises:
            CheckpointError: If the file cannot be read or does not fit the model.
        """
        trust = bool(self.cfg.get("trust_checkpoint", False))
        ahead, self._loaded = self._loaded, None
        content = ahead[1] if ahead is not None and ahead[0] == filename else None
        starts = not (self._resume or self._must_be_whole)
        model = bare_model(self.model)
        checkpoint = load_for_model(model, filename, trust, starts, map_location, content)
        weights = checkpoint["state_dict"]
        metadata = getattr(weights, "_metadata", None)
        for pattern, replacement in revise_keys:
            weights = OrderedDict((re.sub(pattern, replacement, k), v) for k, v in weights.items())
        if metadata is not None:
            weights._metadata = metadata  # versions of layers, by which they convert old weights
        checkpoint["state_dict"] = weights
        self._check_fit(filename, weights, strict)
        self._check_classes(filename, checkpoint)
        if is_spread(model):
            share_weights(model, checkpoint)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        load_state_dict(model, checkpoint["state_dict"], strict=False)
        self._has_loaded = True
        self.logger.info(f"Load checkpoint from {filename}")
        if self._resume:
            self._prepare_resume(filename, checkpoint)
        return checkpoint

    def _check_fit(self: Any, filename: str, weights: Mapping[str, Any], strict: bool) -> None:
        """Refuse weights of another model; a new training run may take over a part of them."""
        model = bare_model(self.model)
        problems = misfits(model, weights, allow_extra=not (strict or self._resume))
        partial = not (strict or self._resume or self._must_be_whole)
        if not problems or (partial and model.state_dict().keys() & weights.keys()):
            return
        raise CheckpointError(
            f"{filename} does not fit {type(model).__name__}: {'; '.join(problems[:5])}"
            f"{f'; and {len(problems) - 5} more' if len(problems) > 5 else ''}. Use the config "
            "that the checkpoint was trained with"
        )

    def _check_classes(self: Any, filename: str, checkpoint: Mapping[str, Any]) -> None:
        """Compare the label table of a checkpoint with the run's.

        Weights that were trained for other classes give wrong results without any other sign. A
        new training run may start from them.
        """
        stored, own = stored_label_table(checkpoint), self.label_table
        if stored is None or own is None or stored.labels == own.labels:
            return
        difference = stored.difference(own)
        if not difference and stored.is_ordered_as(own):
            return  # another numbering of the files, such as Cityscapes' train ids
        what = f"{filename} was trained with other classes than those of the dataset"
        what += f" (only here means the checkpoint): {difference}" if difference else ""
        if not difference:
            what = f"{filename} was trained with the classes of the dataset in another order"
        if self._resume or self._must_be_whole:
            raise CheckpointError(f"{what}. Use the annotation files that it was trained with")
        self.logger.warning(f"{what}; its weights for classes are a start like any other")

    def _prepare_resume(self: Any, filename: str, checkpoint: dict[str, Any]) -> None:
        """Turn the content into what mmengine's ``resume`` expects."""
        if "optimizer" not in checkpoint or "meta" not in checkpoint:
            raise CheckpointError(
                f"{filename} holds no state of an optimizer, so training cannot go on from it; "
                "resume from a checkpoint of the series, or start a new run with "
                "--cfg-options load_from=FILE"
            )
        meta = checkpoint["meta"]
        refuse_non_finite(checkpoint["state_dict"], meta["iter"])
        meta.pop("config", None)  # mmengine would execute it as Python code
        metainfo = getattr(self.train_dataloader.dataset, "metainfo", None)
        if repr(to_plain(metainfo)) == repr(meta.get("dataset_meta")):
            meta["dataset_meta"] = metainfo  # mmengine compares the pickles
        checkpoint["message_hub"] = message_hub_from_plain(checkpoint.get("message_hub", {}))
        if is_spread(self.model):
            state = share_optimizer(self.optim_wrapper.optimizer, checkpoint["optimizer"])
            checkpoint["optimizer"] = state
        self._resumed = {
            "random_states": checkpoint.get("random_states"),
            "data_position": checkpoint.get("data_position"),
            "param_schedulers": checkpoint.get("param_schedulers"),
            "validated": meta.get("validated", False),
            "gradients": checkpoint.get("gradients"),
        }

    def resume(
        self: Any,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: Any = "cpu",
    ) -> None:
        """Go on with an interrupted run.

        Args:
            filename (str): The checkpoint.
            resume_optimizer (bool): Take over the optimizer's state.
            resume_param_scheduler (bool): Take over the schedulers' states.
            map_location: As in :func:`torch.load`; states move to their parameters' devices.
        """
        self._resume = True  # hooks ask for it
        seed = self.seed
        self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
        if self.param_schedulers is not None:
            self.param_schedulers = self.build_param_scheduler(self.param_schedulers)
        schedules = note_schedules(self)
        super().resume(filename, resume_optimizer, resume_param_scheduler, map_location)  # type: ignore[misc]
        if resume_optimizer and resume_param_scheduler:
            for note in follow_config(self, schedules, self._resumed["param_schedulers"]):
                self.logger.warning(note)
        if self.seed != seed:
            offset = get_rank() if self._randomness_cfg.get("diff_rank_seed") else 0
            change_seed(self.train_dataloader, seed - offset, self.seed - offset)
        if self._resumed["gradients"]:
            self._reopen_window(self._resumed["gradients"])
        if hasattr(self.train_loop, "resume_data"):
            self.train_loop.resume_data(self._resumed["data_position"], self._resumed["validated"])

    def _reopen_window(self: Any, window: Mapping[str, Any]) -> None:
        problem = reopen_window(bare_model(self.model), self.optim_wrapper, window)
        if problem is not None:
            self.logger.warning(problem)
        else:  # mmengine, which knows nothing of them, would say that they are lost
            lost = "Resumed iteration number is not divisible"
            self.logger.addFilter(lambda record: lost not in record.getMessage())

    def has_validated(self: Any, iteration: int) -> bool:
        """Tell whether a validation was finished at the iteration from which training goes on.

        Validations of later iterations, which the run will come to again, are forgotten.

        Args:
            iteration (int): Number of finished iterations.

        Returns:
            bool: The same in all processes.
        """
        answer = [False]
        if is_main_process():
            path = Path(self.work_dir, VALIDATED)
            text = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
            answer = [text.isdigit() and int(text) >= iteration]
            if answer[0]:
                self.note_validation(iteration)
        broadcast_object_list(answer)
        return answer[0]

    def note_validation(self: Any, iteration: int) -> None:
        """Write down that the validation of an iteration is over.

        Args:
            iteration (int): Number of finished iterations.
        """
        if is_main_process():
            with atomic_write(Path(self.work_dir, VALIDATED)) as temporary:
                temporary.write_text(f"{iteration}\n", encoding="utf-8")

    def resume_random_state(self: Any) -> None:
        """Go on with the random numbers of the checkpoint; without a resume, do nothing."""
        if self._resumed is None:
            return
        states, self._resumed = self._resumed["random_states"], None
        rank = get_rank()
        if states and rank < len(states):
            restore_random_state(states[rank])
            return
        torch.manual_seed(derive_seed(self.seed, self.iter, rank))
        self.logger.warning(
            f"The checkpoint holds no random state of process {rank} (another number of "
            "processes, or not written by this runner): the run goes on with new random numbers"
        )
