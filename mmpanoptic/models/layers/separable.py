"""The two flavours of convolution that DeepLab decoders and heads are made of."""

from __future__ import annotations

from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmengine.model import kaiming_init
from torch import nn


class RegularConvs(nn.Sequential):
    """Two 3x3 convolutions with norm and ReLU: the "conv" flavour.

    Args:
        in_channels (int): Channels of the input.
        channels (int): Channels in between.
        out_channels (int): Channels of the output.
        norm_cfg (dict): Config of the norm layers.
    """

    def __init__(self, in_channels: int, channels: int, out_channels: int, norm_cfg: dict) -> None:
        super().__init__(
            ConvModule(in_channels, channels, 3, padding=1, norm_cfg=norm_cfg),
            ConvModule(channels, out_channels, 3, padding=1, norm_cfg=norm_cfg),
        )

    def init_weights(self) -> None:
        """Initialise as the published training does."""
        init_decoder_convs(self)


class SeparableConv(DepthwiseSeparableConvModule):
    """One depthwise-separable 5x5 convolution with norms and ReLUs: the "dsconv" flavour.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        norm_cfg (dict): Config of the norm layers.
    """

    def __init__(self, in_channels: int, out_channels: int, norm_cfg: dict) -> None:
        super().__init__(in_channels, out_channels, 5, padding=2, norm_cfg=norm_cfg)

    def init_weights(self) -> None:
        """Initialise as the published training does."""
        init_decoder_convs(self)


def make_fuse_convs(
    in_channels: int, channels: int, out_channels: int, separable: bool, norm_cfg: dict
) -> nn.Module:
    """Build the convolutions that fuse a level or lead to a predictor.

    Args:
        in_channels (int): Channels of the input.
        channels (int): Channels between the two convolutions of the "conv" flavour.
        out_channels (int): Channels of the output.
        separable (bool): "dsconv" instead of "conv" flavour.
        norm_cfg (dict): Config of the norm layers.

    Returns:
        nn.Module: Maps ``(N, in_channels, H, W)`` to ``(N, out_channels, H, W)``.
    """
    if separable:
        return SeparableConv(in_channels, out_channels, norm_cfg)
    return RegularConvs(in_channels, channels, out_channels, norm_cfg)


def init_decoder_convs(module: nn.Module) -> None:
    """Initialise the convolutions of a decoder as the published training does.

    Depthwise-separable ones: Kaiming normal, fan out. All others: uniform with variance
    1 / fan in (the "Xavier" filler of Caffe2). Norm layers: weight 1, bias 0; biases 0.

    Args:
        module (nn.Module): Any tree of ``ConvModule`` and ``DepthwiseSeparableConvModule``.
    """
    separable = {
        id(conv)
        for parent in module.modules()
        if isinstance(parent, DepthwiseSeparableConvModule)
        for conv in (parent.depthwise_conv, parent.pointwise_conv)
    }
    for conv in module.modules():
        if not isinstance(conv, ConvModule):
            continue
        if id(conv) in separable:
            kaiming_init(conv.conv, mode="fan_out", nonlinearity="relu", distribution="normal")
        else:
            kaiming_init(
                conv.conv,
                a=1,
                mode="fan_in",
                nonlinearity="leaky_relu",
                distribution="uniform",
            )
        if conv.with_norm:
            nn.init.ones_(conv.norm.weight)
            nn.init.zeros_(conv.norm.bias)
