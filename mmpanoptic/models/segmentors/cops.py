"""COPS: class logits and affinities, joined by an asymmetric multiway cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.structures import DetDataSample
from torch import Tensor

from mmpanoptic.models.layers import checkpoint_backbone
from mmpanoptic.models.layers.norms import batch_norms, keep_statistics
from mmpanoptic.registry import MODELS, ConfigError

from .panoptic_segmentor import HeadOutputs, PanopticSegmentor


@MODELS.register_module()
class COPS(PanopticSegmentor):
    """Predict classes and boundaries between cells; a solver makes segments of them.

    COPS (arXiv:2106.03188). The instance head also reads the semantic head's logits. Training has
    two stages: first each head learns from its own loss; then ``multicut_loss``, a surrogate of
    panoptic quality, is sent back through the solver into the costs. A head whose loss has weight 0
    contributes no loss of its own.

    Args:
        multicut_loss (dict | None): Config of the loss through the solver; None in the first
            stage. It needs ``instance_head.learn_costs=True``.
        frozen (Sequence[str]): Names of the parts that are not trained, such as "backbone" or
            "semantic_head.decoder".
        frozen_norm (bool): Neither the statistics nor the weights of batch norm layers change.
        activation_checkpointing (bool): See :class:`PanopticSegmentor`; a frozen backbone has none.
        **parts: Arguments of :class:`PanopticSegmentor`; the heads are ``DeepLabHead``,
            ``AffinityHead`` and ``MulticutHead``.

    Raises:
        ValueError: If ``frozen`` names a part that the model lacks, or ``multicut_loss`` and
            ``learn_costs`` disagree.
    """

    HEAD_INPUTS = frozenset({"features", "class logits"})

    def __init__(
        self,
        multicut_loss: dict | None = None,
        frozen: Sequence[str] = (),
        frozen_norm: bool = False,
        activation_checkpointing: bool = False,
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        if "edge costs" not in getattr(self.instance_head, "GIVES", ()):
            raise ConfigError(
                f"COPS: the instance head must be an AffinityHead, whose edges are cut, got "
                f"{type(self.instance_head).__name__}"
            )
        self.multicut_loss: Any = None if multicut_loss is None else MODELS.build(multicut_loss)
        if (multicut_loss is None) == self.instance_head.learn_costs:
            raise ValueError(
                "COPS: multicut_loss and instance_head.learn_costs=True go together; the first "
                "stage of training has neither, the second both"
            )
        self.frozen_norm = frozen_norm
        self._freeze(frozen)
        if activation_checkpointing:
            checkpoint_backbone(self.backbone)

    def _freeze(self, names: Sequence[str]) -> None:
        modules = dict(self.named_modules())
        unknown = [name for name in names if name not in modules]
        if unknown:
            raise ValueError(
                f"COPS: there is no {', '.join(unknown)} to be frozen; the parts are "
                f"{', '.join(name for name in modules if name and name.count('.') < 2)}"
            )
        frozen = [modules[name] for name in names]
        if self.frozen_norm:
            frozen += batch_norms(self)
        for module in frozen:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> COPS:
        """Switch modes; with ``frozen_norm`` batch norm layers stay in evaluation mode."""
        super().train(mode)
        if mode and self.frozen_norm:
            keep_statistics(self)
        return self

    def forward_heads(
        self, inputs: Tensor, data_samples: Sequence[DetDataSample] | None = None
    ) -> HeadOutputs:
        """Run the network without solver and post-processing.

        Args:
            inputs (Tensor): Normalised images ``(N, 3, H, W)``.
            data_samples (Sequence[DetDataSample] | None): Not used.

        Returns:
            HeadOutputs: Class logits and ``AffinityOutputs``.
        """
        feats = self.extract_feat(inputs)
        semantic = self.semantic_head(feats)
        return HeadOutputs(semantic, self.instance_head(feats, semantic))

    def loss(self, inputs: Tensor, data_samples: Sequence[DetDataSample]) -> dict[str, Tensor]:
        """Compute the training losses of the stage.

        Args:
            inputs (Tensor): Normalised and padded images ``(N, 3, H, W)``.
            data_samples (Sequence[DetDataSample]): Ground truth, padded like the images.

        Returns:
            dict[str, Tensor]: Losses by name, and with ``multicut_loss`` its figures.
        """
        outputs = self.forward_heads(inputs)
        losses: dict[str, Tensor] = {}
        # The costs travel to the host while the device makes the targets.
        sent = None if self.multicut_loss is None else self.multicut_loss.send(outputs.instance)
        if self.semantic_head.loss.loss_weight:
            losses.update(self.semantic_head.loss_by_feat(outputs.semantic, data_samples))
        targets = self.instance_head.make_targets(data_samples)
        if self.instance_head.loss.loss_weight:
            losses.update(self.instance_head.loss_by_targets(outputs.instance, targets))
        if self.multicut_loss is not None:
            losses.update(self.multicut_loss(outputs.instance, targets, sent=sent))
        return losses
