"""Panoptic models: the modes of all of them; features, semantic, instance and fusion head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmpanoptic.models.layers import checkpoint_backbone
from mmpanoptic.models.layers.cpu_convs import use_tap_gradients
from mmpanoptic.registry import MODELS, ConfigError


class HeadOutputs(NamedTuple):
    """What the network computes; the heads define the contents.

    Attributes:
        semantic (Any): Tensor or (named) tuple of tensors; None without semantic head.
        instance (Any): The same of the instance head.
    """

    semantic: Any
    instance: Any


class PanopticModel(BaseModel):
    """The modes that all panoptic models share.

    A model says what its network computes in ``forward_heads`` and ``loss``; its fusion head makes
    the predictions. ``fusion_head.predict(sem_outputs, ins_outputs, batch_img_metas)`` returns for
    each image a dict of fields for its data sample: ``pred_panoptic_seg`` (see
    :func:`mmpanoptic.structures.make_panoptic_data`), ``pred_sem_seg``, ``pred_instances``.

    The three modes of ``mmdet``'s detectors are restated here rather than inherited from
    ``mmdet.BaseDetector``: importing ``mmdet.models`` pulls matplotlib and takes seconds.

    Args:
        fusion_head (dict | None): Config of the fusion head; only predictions need it.
        data_preprocessor (dict | nn.Module | None): Config of the data preprocessor;
            ``PanopticDataPreprocessor`` by default.
        init_cfg (dict | list | None): Initialisation of the whole model, e.g. a checkpoint.
    """

    def __init__(
        self,
        fusion_head: dict | None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: Any = None,
    ) -> None:
        if data_preprocessor is None:
            data_preprocessor = {"type": "PanopticDataPreprocessor"}
        if isinstance(data_preprocessor, Mapping):
            # mmengine would look the type up in its own registry only.
            data_preprocessor = MODELS.build(data_preprocessor)
        super().__init__(data_preprocessor, init_cfg)
        self.fusion_head: Any = _build_optional(fusion_head)

    def forward_heads(
        self, inputs: Tensor, data_samples: Sequence[DetDataSample] | None = None
    ) -> HeadOutputs:
        """Run the network without post-processing; this is what is exported and timed."""
        raise NotImplementedError

    def loss(self, inputs: Tensor, data_samples: Sequence[DetDataSample]) -> dict[str, Tensor]:
        """Compute the training losses by name."""
        raise NotImplementedError

    def check_fusion(self, source: nn.Module | None) -> None:
        """Refuse a fusion head that the instance branch cannot serve.

        Args:
            source (nn.Module | None): What predicts instances. It names what it gives in ``GIVES``,
                the fusion head what it needs in ``NEEDS``; heads that name nothing pass.

        Raises:
            ConfigError: If something is missing, or its ``stride`` is not the semantic head's.
        """
        needed = getattr(self.fusion_head, "NEEDS", {})
        given = () if source is None else getattr(source, "GIVES", needed)
        missing = [f"{name} (of {origin})" for name, origin in needed.items() if name not in given]
        if missing:
            what = "no instance head" if source is None else f"a {type(source).__name__}"
            raise ConfigError(
                f"{type(self.fusion_head).__name__} needs {', '.join(missing)}, but the model has "
                f"{what}; choose parts of one system"
            )
        semantic = getattr(self, "semantic_head", None)  # guests have none
        strides = [getattr(part, "stride", None) for part in (semantic, self.fusion_head)]
        if None not in strides and strides[0] != strides[1]:
            raise ConfigError(
                f"the semantic head's logits have stride {strides[0]}, but fusion_head.stride is "
                f"{strides[1]}; set fusion_head.stride={strides[0]}"
            )

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[DetDataSample] | None = None,
        mode: str = "tensor",
    ) -> HeadOutputs | dict[str, Tensor] | list[DetDataSample]:
        """Run the model in one of its modes.

        Args:
            inputs (Tensor): Normalised and padded images ``(N, 3, H, W)``.
            data_samples (Sequence[DetDataSample] | None): Ground truth and metainfo.
            mode (str): "tensor" for :meth:`forward_heads`, "loss" for :meth:`loss`, "predict"
                for :meth:`predict`.

        Returns:
            HeadOutputs | dict | list: What the mode's method returns.

        Raises:
            ValueError: If the mode is unknown or training data is missing.
        """
        if mode == "tensor":
            return self.forward_heads(inputs)
        if mode == "predict":
            return self.predict(inputs, data_samples)
        if mode != "loss":
            raise ValueError(f'mode must be "tensor", "loss" or "predict", got {mode!r}')
        if data_samples is None:
            raise ValueError('mode "loss" needs data_samples with the ground truth')
        return self.loss(inputs, data_samples)

    def predict(
        self, inputs: Tensor, data_samples: Sequence[DetDataSample] | None = None
    ) -> list[DetDataSample]:
        """Predict panoptic maps at the size of the original images.

        Args:
            inputs (Tensor): Normalised and padded images ``(N, 3, H, W)``.
            data_samples (Sequence[DetDataSample] | None): Metainfo ``img_shape``, ``ori_shape``;
                None takes every image as it is.

        Returns:
            list[DetDataSample]: The samples with the predictions added.
        """
        if data_samples is None:
            data_samples = plain_samples(inputs)
        return self.postprocess(self.forward_heads(inputs), data_samples)

    def postprocess(
        self,
        outputs: HeadOutputs,
        data_samples: Sequence[DetDataSample],
        fusion_head: Any = None,
    ) -> list[DetDataSample]:
        """Fuse the heads' outputs and store the predictions.

        Args:
            outputs (HeadOutputs): From :meth:`forward_heads`.
            data_samples (Sequence[DetDataSample]): Metainfo ``img_shape`` and ``ori_shape``.
            fusion_head (nn.Module | None): Another than the model's own.

        Returns:
            list[DetDataSample]: The samples with the predictions added.

        Raises:
            ValueError: If there is no fusion head.
        """
        head = self.fusion_head if fusion_head is None else fusion_head
        if head is None:
            raise ValueError("this model has no fusion_head; predictions need one in the config")
        metas = [sample.metainfo for sample in data_samples]
        results = head.predict(outputs.semantic, outputs.instance, metas)
        for sample, fields in zip(data_samples, results, strict=True):
            for name, value in fields.items():
                setattr(sample, name, value)
        return list(data_samples)


@MODELS.register_module()
class PanopticSegmentor(PanopticModel):
    """Wire backbone, neck, semantic head, instance head and fusion head together.

    Any part can be exchanged by config. The interface of the parts:

    - backbone, neck: ``forward(x)`` returns a sequence of feature maps, fine to coarse.
    - semantic head, instance head: ``forward(feats)`` returns the network's outputs (a tensor or
      a tuple of tensors, without data-dependent Python), ``loss_by_feat(outputs,
      batch_data_samples)`` a dict of losses ``loss_*``.
    - fusion head: see :class:`PanopticModel`.

    Args:
        backbone (dict): Config of the backbone.
        neck (dict | None): Config of the neck.
        semantic_head (dict | None): Config of the semantic head.
        instance_head (dict | None): Config of the instance head.
        fusion_head (dict | None): Config of the fusion head; only predictions need it.
        data_preprocessor (dict | nn.Module | None): Config of the data preprocessor;
            ``PanopticDataPreprocessor`` by default.
        channels_last (bool): Keep weights and images with the channels last in memory, which
            convolutions on recent GPUs and on CPUs prefer (``docs/benchmarks.md``); on a CPU it
            also changes how gradients of some weights are computed, see
            :mod:`mmpanoptic.models.layers.cpu_convs`. Results are equal up to rounding, and
            checkpoints fit models with and without.
        activation_checkpointing (bool): Compute the backbone's blocks again in the backward pass
            rather than keep their activations, see
            :func:`mmpanoptic.models.layers.checkpoint_backbone`.
        init_cfg (dict | list | None): Initialisation of the whole model, e.g. a checkpoint.

    Raises:
        ValueError: If there is neither a semantic nor an instance head.
        ConfigError: If ``activation_checkpointing`` has nothing to compute again, the instance head
            needs what the model does not hand to it, or the fusion head what the instance branch
            does not give.
    """

    HEAD_INPUTS = frozenset({"features"})
    """What the instance head gets; a head may name what it needs in ``INPUTS``."""

    def __init__(
        self,
        backbone: dict,
        neck: dict | None = None,
        semantic_head: dict | None = None,
        instance_head: dict | None = None,
        fusion_head: dict | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        channels_last: bool = False,
        activation_checkpointing: bool = False,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(None, data_preprocessor, init_cfg)
        if semantic_head is None and instance_head is None:
            raise ValueError("PanopticSegmentor needs a semantic_head, an instance_head or both")
        self.backbone = MODELS.build(backbone)
        self.neck: nn.Module | None = _build_optional(neck)
        self.semantic_head: Any = _build_optional(semantic_head)
        self.instance_head: Any = _build_optional(instance_head)
        self.fusion_head: Any = _build_optional(fusion_head)
        self.set_channels_last(channels_last)
        missing = getattr(self.instance_head, "INPUTS", self.HEAD_INPUTS) - self.HEAD_INPUTS
        if missing:
            raise ConfigError(
                f"{type(self.instance_head).__name__} needs {', '.join(sorted(missing))}, which "
                f"{type(self).__name__} does not hand to it; choose the segmentor of its system"
            )
        self.check_fusion(self.instance_head)
        if activation_checkpointing:
            checkpoint_backbone(self.backbone)

    def set_channels_last(self, wanted: bool) -> None:
        """Choose how weights and images lie in memory, see the class.

        Args:
            wanted (bool): Channels last.
        """
        self.channels_last = wanted  # torch.memory_format could not be pickled by torch.save
        self.to(memory_format=torch.channels_last if wanted else torch.preserve_format)

    def train(self, mode: bool = True) -> PanopticSegmentor:
        """Switch modes; training with the channels last chooses how gradients are computed."""
        if mode and self.channels_last:
            use_tap_gradients(self)
        return super().train(mode)

    def extract_feat(self, inputs: Tensor) -> Sequence[Tensor]:
        """Compute features, fine to coarse, of normalised images ``(N, 3, H, W)``."""
        if self.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        feats = self.backbone(inputs)
        return feats if self.neck is None else self.neck(feats)

    def forward_heads(
        self, inputs: Tensor, data_samples: Sequence[DetDataSample] | None = None
    ) -> HeadOutputs:
        """Run the network without post-processing; this is what is exported and timed.

        Args:
            inputs (Tensor): Normalised images ``(N, 3, H, W)``.
            data_samples (Sequence[DetDataSample] | None): Not used here; two-stage models bring
                boxes to the size of the original images with them.

        Returns:
            HeadOutputs: Outputs of both heads.
        """
        feats = self.extract_feat(inputs)
        return HeadOutputs(
            None if self.semantic_head is None else self.semantic_head(feats),
            None if self.instance_head is None else self.instance_head(feats),
        )

    def loss(self, inputs: Tensor, data_samples: Sequence[DetDataSample]) -> dict[str, Tensor]:
        """Compute the training losses.

        Args:
            inputs (Tensor): Normalised and padded images ``(N, 3, H, W)``.
            data_samples (Sequence[DetDataSample]): Ground truth, padded like the images.

        Returns:
            dict[str, Tensor]: Losses of both heads by name.

        Raises:
            ValueError: If both heads use the same name for a loss.
        """
        outputs = self.forward_heads(inputs)
        losses: dict[str, Tensor] = {}
        for head, output in ((self.semantic_head, outputs[0]), (self.instance_head, outputs[1])):
            if head is None:
                continue
            own = head.loss_by_feat(output, data_samples)
            double = sorted(losses.keys() & own.keys())
            if double:
                raise ValueError(f"both heads return the loss {', '.join(double)}")
            losses.update(own)
        return losses


def plain_samples(inputs: Tensor) -> list[DetDataSample]:
    """Make samples for images ``(N, 3, H, W)`` that are neither padded nor resized."""
    shape = tuple(inputs.shape[-2:])
    return [DetDataSample(metainfo={"img_shape": shape, "ori_shape": shape}) for _ in inputs]


def _build_optional(cfg: dict | None) -> nn.Module | None:
    return None if cfg is None else MODELS.build(cfg)
