"""Go on with an interrupted run: find the checkpoint, read it, take its states over."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast_object_list, get_rank, is_main_process
from mmengine.runner.checkpoint import load_state_dict

from mmpanoptic.checkpoints.errors import CheckpointError
from mmpanoptic.checkpoints.loading import POINTER
from mmpanoptic.checkpoints.published import load_for_model
from mmpanoptic.checkpoints.reading import verify_checkpoint

from ..datasets.seeding import derive_seed
from .checkpoint_state import bare_model, message_hub_from_plain, misfits, to_plain
from .random_state import restore_random_state
from .run_seed import change_seed

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
    candidates = _candidates(Path(work_dir))
    for path in candidates:
        try:
            verify_checkpoint(path)
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


def _candidates(work_dir: Path) -> list[Path]:
    """List what could be resumed from, the most wanted first."""
    named = _named_by_pointer(work_dir)
    folders = {work_dir, *([named.parent] if named else [])}
    others = {
        path
        for folder in folders
        if folder.is_dir()
        for path in folder.glob("*.pth")
        # Names with a dot are remains of writes that were killed.
        if not path.name.startswith(".") and not _WEIGHTS_ONLY.match(path.name)
    }
    others -= {named}
    newest_first = sorted(others, key=lambda p: (p.stat().st_mtime_ns, p.name), reverse=True)
    return [*([named] if named else []), *newest_first]


def _named_by_pointer(work_dir: Path) -> Path | None:
    try:
        name = (work_dir / POINTER).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    if not name:
        return None
    path = Path(name)
    # A work folder may have been moved: the pointer holds an absolute path.
    return work_dir / path.name if not path.exists() else path


class ResumeMixin:
    """The part of :class:`PanopticRunner` that reads checkpoints."""

    _must_be_whole = False
    """Whether the model needs all its weights from the checkpoint, as testing does."""
    _resumed: Mapping[str, Any] | None = None
    """Content of the checkpoint that is resumed, apart from weights."""

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
        return super().val()  # type: ignore[misc]

    def test(self: Any) -> dict[str, Any]:
        """Test; a checkpoint without all of the model's weights is an error."""
        self._must_be_whole = True
        return super().test()  # type: ignore[misc]

    def _newest_checkpoint(self: Any) -> str | None:
        """Let the first process choose, so that all processes agree."""
        choice: list[Any] = [None]
        if is_main_process():
            try:
                choice = [find_checkpoint(self.work_dir, self.logger.error)]
            except CheckpointError as error:
                choice = [error]
        broadcast_object_list(choice)
        if isinstance(choice[0], CheckpointError):
            raise choice[0]
        return choice[0] and str(choice[0])

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
        starts = not (self._resume or self._must_be_whole)
        model = bare_model(self.model)
        checkpoint = load_for_model(model, filename, trust, starts, map_location)
        weights = checkpoint["state_dict"]
        metadata = getattr(weights, "_metadata", None)
        for pattern, replacement in revise_keys:
            weights = OrderedDict((re.sub(pattern, replacement, k), v) for k, v in weights.items())
        if metadata is not None:
            weights._metadata = metadata  # versions of layers, by which they convert old weights
        checkpoint["state_dict"] = weights
        self._check_fit(filename, weights, strict)
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

    def _prepare_resume(self: Any, filename: str, checkpoint: dict[str, Any]) -> None:
        """Turn the content into what mmengine's ``resume`` expects."""
        if "optimizer" not in checkpoint or "meta" not in checkpoint:
            raise CheckpointError(
                f"{filename} holds no state of an optimizer, so training cannot go on from it; "
                "resume from a checkpoint of the series, or start a new run with "
                "--cfg-options load_from=FILE"
            )
        meta = checkpoint["meta"]
        meta.pop("config", None)  # mmengine would execute it as Python code
        metainfo = getattr(self.train_dataloader.dataset, "metainfo", None)
        if repr(to_plain(metainfo)) == repr(meta.get("dataset_meta")):
            meta["dataset_meta"] = metainfo  # mmengine compares the pickles
        checkpoint["message_hub"] = message_hub_from_plain(checkpoint.get("message_hub", {}))
        self._resumed = {
            "random_states": checkpoint.get("random_states"),
            "data_position": checkpoint.get("data_position"),
            "validated": meta.get("validated", False),
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
        super().resume(filename, resume_optimizer, resume_param_scheduler, map_location)  # type: ignore[misc]
        if self.seed != seed:
            offset = get_rank() if self._randomness_cfg.get("diff_rank_seed") else 0
            change_seed(self.train_dataloader, seed - offset, self.seed - offset)
        if hasattr(self.train_loop, "resume_data"):
            self.train_loop.resume_data(self._resumed["data_position"], self._resumed["validated"])

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
