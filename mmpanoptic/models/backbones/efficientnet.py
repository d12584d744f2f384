"""EfficientNet as EfficientPS uses it: no squeeze-and-excitation, LeakyReLU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import build_activation_layer
from mmdet.models.backbones import EfficientNet as SwishEfficientNet
from torch import Tensor, nn

from mmpanoptic.models.layers.inplace_abn import BACKBONE_ABN_EPS, abn_act, abn_norm
from mmpanoptic.models.layers.norms import checkpoint_block
from mmpanoptic.registry import MODELS

from .arguments import check_out_indices

SE_RATIO = 2
"""Place of the squeeze ratio in a block's setting."""
FIRST_STAGE = 1
"""Index of the stage without expansion, the only one whose projections are activated."""


@MODELS.register_module()
class LeakyEfficientNet(SwishEfficientNet):
    """EfficientNet without squeeze-and-excitation, with batch norm and LeakyReLU(0.01).

    EfficientPS (arXiv:2004.02307), section 3.1. Padding is TensorFlow's "SAME": at stride 2 the
    odd pixel is padded at the bottom and on the right, so an input of any size gives
    ``ceil(size / stride)`` cells.

    Differences from the original (``mmdet.EfficientNet``): no squeeze-and-excitation; LeakyReLU;
    an activation after the projections of the first stage, a quirk of the authors' code that their
    weights rely on; ``train()`` returns the module; width and depth can be chosen freely.

    Args:
        arch (str): "b0" to "b8"; decides width, depth.
        out_indices (Sequence[int]): Layers to return, of 0 (stem) to 6 (the last 1x1 convolution).
            2, 3, 4, 6 have the strides 4, 8, 16, 32.
        stage0_act (bool): Activate the projections of the first stage; the released weights need
            it, new trainings work either way.
        width_factor (float | None): Replaces the architecture's factor of the channels.
        depth_factor (float | None): Replaces the architecture's factor of the repetitions.
        drop_path_rate (float): Stochastic depth of the last block; it grows linearly from 0.
        frozen_stages (int): Number of layers to freeze, counted from the stem.
        norm_cfg (dict | None): Config of the norm layers; BN with eps 1e-3 by default.
        act_cfg (dict | None): Config of the activation; LeakyReLU(0.01) by default. With
            ``dict(type="ReLU6")`` and ``stage0_act=False`` "b0" is EfficientNet-Lite0.
        norm_eval (bool): Keep the running statistics of all norm layers.
        with_cp (bool): Compute blocks again in the backward pass to save memory.
        init_cfg (dict | list | None): Initialisation; Kaiming by default.

    Raises:
        ValueError: If the architecture is unknown or ``out_indices`` do not ascend within 0..6.
    """

    layer_settings = {
        "b": [
            [[*block[:SE_RATIO], 0, *block[SE_RATIO + 1 :]] for block in layer]
            for layer in SwishEfficientNet.layer_settings["b"]
        ]
    }

    def __init__(
        self,
        arch: str = "b5",
        out_indices: Sequence[int] = (2, 3, 4, 6),
        stage0_act: bool = True,
        width_factor: float | None = None,
        depth_factor: float | None = None,
        drop_path_rate: float = 0.0,
        frozen_stages: int = 0,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: Any = None,
    ) -> None:
        known = [name for name in SwishEfficientNet.arch_settings if name.startswith("b")]
        if arch not in known:
            raise ValueError(f"{type(self).__name__}: arch is one of {known}, got {arch!r}")
        check_out_indices(type(self).__name__, out_indices, len(self.layer_settings["b"]))
        width, depth, resolution = SwishEfficientNet.arch_settings[arch]
        # An attribute of the instance, read by the parent's constructor.
        self.arch_settings = {
            arch: (width_factor or width, depth_factor or depth, resolution),
        }
        options = {} if init_cfg is None else {"init_cfg": init_cfg}
        device = torch.get_default_device()
        with torch.device("cpu"):  # the parent reads tensors, which the meta device has not
            super().__init__(
                arch=arch,
                out_indices=tuple(out_indices),
                drop_path_rate=drop_path_rate,
                frozen_stages=frozen_stages,
                norm_cfg=norm_cfg or abn_norm(BACKBONE_ABN_EPS),
                act_cfg=act_cfg or abn_act(),
                norm_eval=norm_eval,
                **options,
            )
        self.with_cp = with_cp
        self.to(device)
        if stage0_act:
            self._activate_projections()

    def _activate_projections(self) -> None:
        for block in self.layers[FIRST_STAGE] if len(self.layers) > FIRST_STAGE else ():
            conv = block.linear_conv
            conv.activate = build_activation_layer({**self.act_cfg, "inplace": True})
            conv.with_activation = True

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute features.

        Args:
            x (Tensor): Images ``(N, 3, H, W)``.

        Returns:
            tuple[Tensor, ...]: One map ``(N, C_i, ceil(H / stride), ceil(W / stride))`` for each
            of ``out_indices``.
        """
        outs = []
        for index, layer in enumerate(self.layers):
            if self.with_cp and torch.is_grad_enabled() and isinstance(layer, nn.Sequential):
                for block in layer:
                    x = checkpoint_block(block, block, x)
            else:
                x = layer(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def train(self, mode: bool = True) -> nn.Module:
        """Set the mode, keeping frozen parts in evaluation mode.

        Args:
            mode (bool): Training instead of evaluation.

        Returns:
            nn.Module: This module; the parent returns None.
        """
        super().train(mode)
        return self
