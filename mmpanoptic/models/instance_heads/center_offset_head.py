"""Instance head of Panoptic-DeepLab: centre heatmap and offset field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmpanoptic.models.layers import (
    DeepLabDecoder,
    collate_segments,
    make_fuse_convs,
    upsample_to_image,
)
from mmpanoptic.registry import MODELS

from .center_offset_targets import make_center_offset_targets


class CenterOffsetOutputs(NamedTuple):
    """What the head computes, at its stride.

    Attributes:
        center (Tensor): ``(N, 1, h, w)`` heatmap.
        offset (Tensor): ``(N, 2, h, w)``, (dy, dx) to the centre in cells of the map.
    """

    center: Tensor
    offset: Tensor


@MODELS.register_module()
class CenterOffsetHead(BaseModule):
    """Decode features into one centre heatmap and one offset field.

    Panoptic-DeepLab (arXiv:1911.10194), section 3.1. As in the published configs, the centre
    branch has regular convolutions in both flavours.

    Args:
        channels (int): Width of the decoder.
        head_channels (int): Width before each predictor.
        separable (bool): Depthwise-separable 5x5 convolutions ("dsconv").
        norm_cfg (dict | None): Config of the norm layers; BN by default.
        sigma (float): Standard deviation of the Gaussians in pixels.
        ignore_stuff_in_offset (bool): Leave stuff out of the offset loss.
        loss_center (dict | None): Config of the heatmap's loss; squared error x 200 by default.
        loss_offset (dict | None): Config of the offsets' loss; absolute error x 0.01 by default.
        init_cfg (dict | list | None): Initialisation; by default the predictors are normal with
            standard deviation 0.001 and the rest as :func:`init_decoder_convs` says.
        **decoder: Further arguments of :class:`DeepLabDecoder`, such as ``in_channels``.
    """

    GIVES = ("centres and offsets",)

    def __init__(
        self,
        channels: int = 128,
        head_channels: int = 32,
        separable: bool = False,
        norm_cfg: dict | None = None,
        sigma: float = 10.0,
        ignore_stuff_in_offset: bool = True,
        loss_center: dict | None = None,
        loss_offset: dict | None = None,
        init_cfg: Any = None,
        **decoder: Any,
    ) -> None:
        predictor_init = [
            {"type": "Normal", "std": 0.001, "override": {"name": f"{name}_predictor"}}
            for name in ("center", "offset")
        ]
        super().__init__(predictor_init if init_cfg is None else init_cfg)
        norm_cfg = norm_cfg or {"type": "BN"}
        self.decoder = DeepLabDecoder(
            channels=channels, separable=separable, norm_cfg=norm_cfg, **decoder
        )
        width = self.decoder.out_channels
        self.center_head = make_fuse_convs(width, width, head_channels, False, norm_cfg)
        self.center_predictor = nn.Conv2d(head_channels, 1, 1)
        self.offset_head = make_fuse_convs(width, width, head_channels, separable, norm_cfg)
        self.offset_predictor = nn.Conv2d(head_channels, 2, 1)
        self.stride = self.decoder.out_stride
        self.sigma = sigma
        self.ignore_stuff_in_offset = ignore_stuff_in_offset
        self.loss_center = MODELS.build(
            loss_center or {"type": "WeightedMSELoss", "loss_weight": 200.0}
        )
        self.loss_offset = MODELS.build(
            loss_offset or {"type": "WeightedL1Loss", "loss_weight": 0.01}
        )

    def forward(self, feats: Sequence[Tensor]) -> CenterOffsetOutputs:
        """Compute heatmap and offsets.

        Args:
            feats (Sequence[Tensor]): Levels ``(N, C, H / stride, W / stride)``, fine to coarse.

        Returns:
            CenterOffsetOutputs: At ``self.stride``.
        """
        x = self.decoder(feats)
        return CenterOffsetOutputs(
            self.center_predictor(self.center_head(x)), self.offset_predictor(self.offset_head(x))
        )

    def loss_by_feat(
        self, outputs: CenterOffsetOutputs, batch_data_samples: Sequence[Any]
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch at the resolution of the image.

        Args:
            outputs (CenterOffsetOutputs): From :meth:`forward`.
            batch_data_samples (Sequence[DetDataSample]): With ``gt_panoptic_seg``.

        Returns:
            dict[str, Tensor]: ``loss_center`` and ``loss_offset``.
        """
        segments = collate_segments(batch_data_samples)
        targets = make_center_offset_targets(segments, self.sigma, self.ignore_stuff_in_offset)
        size = (targets.center.shape[2], targets.center.shape[3])
        center = upsample_to_image(outputs.center.float(), self.stride, size)
        # Cells of the map become pixels of the image.
        offset = upsample_to_image(outputs.offset.float(), self.stride, size) * self.stride
        return {
            "loss_center": self.loss_center(center, targets.center, targets.center_weight),
            "loss_offset": self.loss_offset(offset, targets.offset, targets.offset_weight),
        }
