"""Set the path of a supernet before every training iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmengine.dist import broadcast_object_list
from mmengine.hooks import CheckpointHook, Hook

from ..engine.checkpoint_state import bare_model
from ..models.layers import set_path
from ..registry import HOOKS
from .sampling import FairPaths, UniformPaths
from .space import SearchSpace

if TYPE_CHECKING:
    from ..engine.runner import PanopticRunner


@HOOKS.register_module()
class SupernetPathHook(Hook):
    """Train another path of a supernet in every iteration.

    All processes take the same path; a resumed run takes those that an undisturbed one takes.

    Args:
        space (Sequence[dict]): The search space, see :class:`~mmpanoptic.nas.space.SearchSpace`.
        sampler (str): ``fair`` uses every choice equally often within each optimizer step, which
            must sum up as many iterations as the window of the space has; ``uniform`` draws
            independent paths.
        seed (int | None): Seed of the paths. None takes the run's.
        strict_legacy_windows (bool): Fair windows that are one iteration late, see
            :class:`~mmpanoptic.nas.sampling.FairPaths`.
    """

    def __init__(
        self,
        space: Sequence[Mapping[str, Any]],
        sampler: str = "fair",
        seed: int | None = None,
        strict_legacy_windows: bool = False,
    ) -> None:
        if sampler not in ("fair", "uniform"):
            raise ValueError(f"sampler must be fair or uniform, got {sampler!r}")
        if strict_legacy_windows and sampler != "fair":
            raise ValueError("strict_legacy_windows belongs to sampler='fair'")
        self.space = SearchSpace(space)
        self.sampler, self.seed = sampler, seed
        self.strict_legacy_windows = strict_legacy_windows

    def before_train(self, runner: PanopticRunner) -> None:
        """Check that model, optimizer and checkpoints fit; prepare the sampler."""
        self.space.check_model(bare_model(runner.model))
        seed = [runner.seed if self.seed is None else self.seed]
        broadcast_object_list(seed)
        self._paths: FairPaths | UniformPaths = UniformPaths(self.space, seed[0])
        if self.sampler == "fair":
            self._paths = FairPaths(self.space, seed[0], self.strict_legacy_windows)
            self._check_windows(runner)

    def before_train_iter(
        self, runner: PanopticRunner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Set the path."""
        set_path(bare_model(runner.model), self.space.path(self._paths(runner.iter)))

    def _check_windows(self, runner: PanopticRunner) -> None:
        """Make sure that a window is an optimizer step and is never cut by a checkpoint."""
        window = self.space.window
        steps = runner.optim_wrapper._accumulative_counts
        if steps != window:
            raise ValueError(
                f"fair paths need optim_wrapper.accumulative_counts={window}, the window of the "
                f"search space, got {steps}; or take sampler='uniform'"
            )
        if runner.iter % window:
            raise ValueError(
                f"the checkpoint of iteration {runner.iter} is from inside a window of {window} "
                f"iterations and lacks its gradients; resume from a multiple of {window}"
            )
        for hook in runner.hooks:
            interval = getattr(hook, "interval", 0) if isinstance(hook, CheckpointHook) else 0
            if interval > 0 and not hook.by_epoch and interval % window:
                raise ValueError(
                    f"checkpoints every {interval} iterations would cut windows of {window}; "
                    f"take a checkpoint interval that is a multiple of {window}"
                )
