"""EoMT learns to do without the masks that its queries' attention begins with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmengine.hooks import Hook

from mmpanoptic.registry import HOOKS, ConfigError

from .checkpoint_state import bare_model

if TYPE_CHECKING:
    from .runner import PanopticRunner


@HOOKS.register_module()
class MaskAnnealingHook(Hook):
    """Lower the share of queries with masked attention from 1 to 0, block by block.

    EoMT (arXiv:2503.19108), section 3.3: each of the last blocks has a share of its own, 1 until
    its start, ``(1 - progress) ** power`` until its end, and 0 from then on, where the network
    needs neither masks nor intermediate predictions. The share depends on the number of the
    iteration alone, so a resumed training goes on exactly.

    Args:
        start (Sequence[float]): Of each block, the share of the training at which it starts to
            fall; by default k / (blocks + 2) for block k of 1, 2, ..., which for four blocks is
            1/6, 1/3, 1/2, 2/3 as published.
        end (Sequence[float]): The share of the training at which it is 0; by default
            (k + 1) / (blocks + 2).
        power (float): Of the fall.

    Raises:
        ConfigError: If the model has no such blocks, or not as many, or one ends before it starts.
    """

    def __init__(
        self, start: Sequence[float] = (), end: Sequence[float] = (), power: float = 0.9
    ) -> None:
        self.start, self.end = tuple(start), tuple(end)
        self.power = power
        pairs = list(zip(self.start, self.end, strict=False))
        if len(self.start) != len(self.end) or not all(0 <= a < b <= 1 for a, b in pairs):
            raise ConfigError(
                "MaskAnnealingHook: start and end need one number for each block, each start "
                f"smaller than its end, both in [0, 1], got start={self.start}, end={self.end}"
            )

    def before_train(self, runner: PanopticRunner) -> None:
        """Set the shares of the first iteration, or of the one a training is resumed at.

        Args:
            runner (PanopticRunner): The runner.
        """
        model: Any = bare_model(runner.model)
        if not getattr(model, "anneals", False):
            raise ConfigError(
                "MaskAnnealingHook: the model has no masked attention to anneal; only EoMT has, as "
                "TransformersPanopticSegmentor with network.model_type eomt or eomt_dinov3"
            )
        blocks = len(model.attn_mask_probs)
        if self.start and len(self.start) != blocks:
            raise ConfigError(
                f"MaskAnnealingHook: the model has network.num_blocks={blocks}, but start has "
                f"{len(self.start)} numbers"
            )
        self._set(runner, model)

    def after_train_iter(
        self,
        runner: PanopticRunner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Set the shares of the next iteration.

        Args:
            runner (PanopticRunner): The runner.
            batch_idx (int): Not used.
            data_batch (dict | None): Not used.
            outputs (dict | None): Not used.
        """
        self._set(runner, bare_model(runner.model), done=1)

    def _set(self, runner: PanopticRunner, model: Any, done: int = 0) -> None:
        progress = (runner.iter + done) / runner.max_iters
        shares = self.shares(progress, len(model.attn_mask_probs))
        model.attn_mask_probs.copy_(model.attn_mask_probs.new_tensor(shares))
        model.note_probabilities()

    def shares(self, progress: float, blocks: int) -> list[float]:
        """Compute the shares of masked queries.

        Args:
            progress (float): Share of the training that is done.
            blocks (int): Number of blocks.

        Returns:
            list[float]: Of each block.
        """
        start = self.start or [(k + 1) / (blocks + 2) for k in range(blocks)]
        end = self.end or [(k + 2) / (blocks + 2) for k in range(blocks)]
        return [
            (1 - min(max((progress - first) / (last - first), 0), 1)) ** self.power
            for first, last in zip(start, end, strict=True)
        ]
