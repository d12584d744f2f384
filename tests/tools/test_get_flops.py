import json

import pytest
import torch
from torch import nn

from mmpanoptic.apis.complexity import count_operations
from tests.apis.tiny_model import CONFIG

TOOL = "analysis_tools/get_flops.py"


def test_counts_a_network_whose_operations_are_known(run_tool):
    run_tool(TOOL, CONFIG, "--size", 64, 96, "--depth", 2, "--json", "f.json")
    content = json.loads((run_tool.folder / "f.json").read_text())
    parts = {row["part"]: row for row in content["parts"]}
    # The stem's first convolution: 3 -> 16 channels, 3 x 3, to half the size; then 16 -> 16 and
    # 16 -> 32 at that size.
    pixels = 32 * 48
    assert parts["backbone.stem"]["flops"] == 2 * 9 * pixels * (3 * 16 + 16 * 16 + 16 * 32)
    heads = ("backbone", "semantic_head", "instance_head")
    assert parts["total"]["flops"] == sum(parts[name]["flops"] for name in heads)
    assert parts["total"]["parameters"] == sum(parts[name]["parameters"] for name in heads)


def test_four_times_the_pixels_are_four_times_the_operations(run_tool):
    for name, size in (("small", 64), ("large", 128)):
        run_tool(TOOL, CONFIG, "--size", size, size, "--json", f"{name}.json")
    small, large = (
        json.loads((run_tool.folder / f"{name}.json").read_text())["parts"]
        for name in ("small", "large")
    )
    backbone = next(k for k, row in enumerate(small) if row["part"] == "backbone")
    assert large[backbone]["flops"] == 4 * small[backbone]["flops"]


def test_bad_shapes_are_refused(run_tool):
    assert "at least 1" in run_tool(TOOL, CONFIG, "--shape", 0, 5, status=2).stderr


class Bypassed(nn.Module):
    """A part whose ``forward`` is never called, as that of mmdet's RoI heads."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)
        self.head = Bypassed()
        self.again = self.conv
        self.own = nn.Parameter(torch.ones(4, 5))

    def forward(self, inputs, mode):
        x = self.again(self.conv(inputs)).mean((2, 3))
        return self.head.linear(x) @ self.own


def test_operations_belong_to_the_innermost_module_that_runs():
    parts = {part.name: part[1:] for part in count_operations(Model(), (2, 5), depth=2)}
    convolution = 2 * (2 * 9 * 2 * 5)  # called twice, under two names
    assert parts == {
        "total": (9 + 16 + 20, convolution + 2 * 12 + 2 * 20),
        "conv": (9, convolution),
        "head": (16, 2 * 12),
        "head.linear": (16, 2 * 12),
        "(rest)": (20, 2 * 20),
    }


def test_a_network_that_fails_leaves_no_hooks():
    model = Model()
    model.conv = nn.Conv2d(3, 3, 3)  # larger than the image
    with pytest.raises(RuntimeError):
        count_operations(model, (2, 2))
    assert not model.conv._forward_hooks
    assert not model.conv._forward_pre_hooks
