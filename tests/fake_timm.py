"""Stands for timm in tests where timm is not installed: its interface, tiny networks.

timm needs the torchvision that belongs to torch, which pip does not keep in step.
"""

import importlib.util
import sys
import types

import torch
from torch import nn

IS_MISSING = importlib.util.find_spec("timm") is None


class _Info:
    def __init__(self, strides, channels, out_indices):
        self._strides, self._channels, self.out_indices = strides, channels, out_indices

    def reduction(self):
        return [self._strides[i] for i in self.out_indices]

    def channels(self):
        return [self._channels[i] for i in self.out_indices]


class _Whole(nn.Module):
    """Stages of one convolution each, and a classifier."""

    def __init__(self, name, output_stride=32, **_):
        super().__init__()
        strides = [4, 2, 2, 2] if name.startswith(("convnext", "swin")) else [2] * 5
        if name.startswith("vit"):
            strides = [16, 1, 1]  # blocks of one resolution
        self.reached, before = [], 1
        for place, stride in enumerate(strides):
            strides[place] = stride = stride if before * stride <= output_stride else 1
            before *= stride
            self.reached.append(before)
        self.widths = [8 * (place + 1) for place in range(len(strides))]
        pairs = zip([3, *self.widths], self.widths, strides, strict=False)
        self.stages = nn.ModuleList(nn.Conv2d(a, b, 3, s, 1) for a, b, s in pairs)
        self.fc = nn.Linear(self.widths[-1], 10)


class _Features(nn.ModuleDict):
    """The stages alone; as in timm, dots in their names become underscores."""

    def __init__(self, whole, name, out_indices):
        super().__init__({f"stages_{i}": stage for i, stage in enumerate(whole.stages)})
        self.feature_info = _Info(whole.reached, whole.widths, out_indices)
        self.output_fmt = "Format.NHWC" if name.startswith("swin") else "Format.NCHW"

    def forward(self, x):
        maps = []
        for place, stage in enumerate(self.values()):
            x = torch.relu(stage(x))
            if place in self.feature_info.out_indices:
                maps.append(x.permute(0, 2, 3, 1) if self.output_fmt.endswith("NHWC") else x)
        return maps


def create_model(
    model_name,
    pretrained=False,
    pretrained_cfg_overlay=None,
    features_only=False,
    out_indices=None,
    **settings,
):
    whole = _Whole(model_name, **settings)
    if pretrained:
        state = pretrained_cfg_overlay["state_dict"]
        whole.load_state_dict(state, strict=not features_only)
    if not features_only:
        return whole
    return _Features(whole, model_name, out_indices or tuple(range(len(whole.stages))))


def get_pretrained_cfg(model_name):
    if "." not in model_name:
        return None
    return types.SimpleNamespace(hf_hub_id=f"timm/{model_name}", hf_hub_filename=None, url="")


def module():
    """The module itself."""
    made = types.ModuleType("timm")
    made.create_model = create_model
    made.models = types.SimpleNamespace(get_pretrained_cfg=get_pretrained_cfg)
    return made


def stand_in(monkeypatch):
    """Put it in the place of timm if there is none."""
    if IS_MISSING:
        monkeypatch.setitem(sys.modules, "timm", module())
