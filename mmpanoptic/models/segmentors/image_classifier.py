"""Image classification, to train backbones on ImageNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModel, BaseModule
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.nn import functional

from mmpanoptic.models.layers import checkpoint_backbone
from mmpanoptic.registry import MODELS


@MODELS.register_module()
class ShuffleNetV2PlusHead(BaseModule):
    """Classifier of ShuffleNetV2+: 1x1 convolution, dropout of channels, pooling, one layer.

    DetNAS (arXiv:1903.10979), as published: the dropout stands before the pooling.

    Args:
        num_labels (int): Number of classes.
        in_channels (int): Channels of the backbone's last level.
        channels (int): Width of the convolution.
        dropout (float): Share of the channels that are zeroed in training.
        label_smoothing (float): Share of the target that is spread over all classes.
        norm_cfg (dict | None): Config of the norm layer; BN by default.
    """

    def __init__(
        self,
        num_labels: int,
        in_channels: int,
        channels: int,
        dropout: float = 0.2,
        label_smoothing: float = 0.1,
        norm_cfg: dict | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 1)
        self.bn = build_norm_layer(norm_cfg or {"type": "BN"}, channels)[1]
        self.dropout = nn.Dropout2d(dropout)
        self.fc = nn.Linear(channels, num_labels)
        self.label_smoothing = label_smoothing

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Map the last level ``(N, C, h, w)`` to logits ``(N, num_labels)``."""
        x = functional.relu(self.bn(self.conv(feats[-1])))
        return self.fc(self.dropout(x).mean((2, 3)))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the mean cross entropy with smoothed labels ``(N,)``."""
        return functional.cross_entropy(
            logits.float(), labels, label_smoothing=self.label_smoothing
        )


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """Wire a backbone and a classifier together.

    Weights start as published for DetNAS's supernets and networks: convolutions normal with
    standard deviation 1 / (inputs of one group), the stem with 0.01, norm layers with weight 1 and
    bias 0.0001, the classifier normal with standard deviation 0.01, other biases 0.

    Args:
        backbone (dict): Config of the backbone; its last level counts.
        head (dict): Config of the classifier.
        data_preprocessor (dict | nn.Module | None): Config of the data preprocessor;
            ``PanopticDataPreprocessor`` by default.
        activation_checkpointing (bool): Compute the backbone's blocks again in the backward pass
            rather than keep their activations.
        init_cfg (dict | list | None): Initialisation of the whole model, e.g. a checkpoint, which
            replaces the published one.
    """

    def __init__(
        self,
        backbone: dict,
        head: dict,
        data_preprocessor: dict | nn.Module | None = None,
        activation_checkpointing: bool = False,
        init_cfg: Any = None,
    ) -> None:
        if data_preprocessor is None:
            data_preprocessor = {"type": "PanopticDataPreprocessor"}
        if isinstance(data_preprocessor, Mapping):
            data_preprocessor = MODELS.build(data_preprocessor)
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = MODELS.build(backbone)
        self.head: Any = MODELS.build(head)
        if activation_checkpointing:
            checkpoint_backbone(self.backbone)

    def init_weights(self) -> None:
        """Initialise as published, then as ``init_cfg`` says."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                std = 0.01 if name == "backbone.stem" else 1 / module.weight.shape[1]
                _init(module, std)
            elif isinstance(module, nn.Linear):
                _init(module, 0.01)
            elif isinstance(module, nn.modules.batchnorm._BatchNorm):
                nn.init.constant_(module.weight, 1)
                nn.init.constant_(module.bias, 1e-4)
        if self.init_cfg:
            super().init_weights()

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
        mode: str = "tensor",
    ) -> Tensor | dict[str, Tensor] | list[BaseDataElement]:
        """Run the model in one of its modes.

        Args:
            inputs (Tensor): Images ``(N, 3, H, W)``.
            data_samples (Sequence[BaseDataElement] | None): With ``gt_label``, an int.
            mode (str): "tensor" for logits ``(N, num_labels)``, "loss" for a dict of losses,
                "predict" for the samples with ``pred_scores`` ``(num_labels,)``.

        Returns:
            Tensor | dict | list: See ``mode``.

        Raises:
            ValueError: If the mode is unknown or samples are missing.
        """
        if mode not in ("tensor", "loss", "predict"):
            raise ValueError(f'mode must be "tensor", "loss" or "predict", got {mode!r}')
        logits = self.head(self.backbone(inputs))
        if mode == "tensor":
            return logits
        if data_samples is None:
            raise ValueError(f'mode "{mode}" needs data_samples')
        if mode == "loss":
            labels = [int(sample.gt_label) for sample in data_samples]
            return {"loss": self.head.loss(logits, torch.tensor(labels, device=logits.device))}
        for sample, scores in zip(data_samples, logits.float().softmax(1), strict=True):
            sample.pred_scores = scores
        return list(data_samples)


def _init(module: nn.Conv2d | nn.Linear, std: float) -> None:
    nn.init.normal_(module.weight, std=std)
    if module.bias is not None:
        nn.init.constant_(module.bias, 0)
