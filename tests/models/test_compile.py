"""The network part of the models is one graph for ``torch.compile``."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from mmpanoptic.registry import MODELS
from tests.models.builders import tiny_config

BACKBONES = {
    "resnet": None,
    "xception": {
        "type": "Xception",
        "width_factor": 0.05,
        "num_middle_blocks": 1,
        "out_indices": (0, 1, 3),
    },
    "hrnet": {
        "type": "HRNet",
        "width": 4,
        "num_modules": (1, 1, 1),
        "num_blocks": 1,
        "num_stem_blocks": 1,
        "out_indices": (0, 1, 2),
    },
}


@pytest.fixture
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def build(name, **head):
    config = tiny_config()
    if BACKBONES[name] is not None:
        config["backbone"] = BACKBONES[name]
        channels = MODELS.build(BACKBONES[name]).out_channels
        for part in ("semantic_head", "instance_head"):
            config[part]["in_channels"] = channels
    for part in ("semantic_head", "instance_head"):
        config[part].update(head)
    return MODELS.build(config)


@pytest.mark.usefixtures("fresh_dynamo")
@pytest.mark.parametrize("head", [{}, {"separable": False, "pool_crop_size": (32, 64)}])
@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_and_heads_have_no_graph_break(name, head):
    model = build(name, **head).eval()
    with torch.no_grad():
        found = torch._dynamo.explain(model.forward_heads)(torch.randn(1, 3, 64, 96))
    assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons


@pytest.mark.usefixtures("fresh_dynamo")
def test_training_has_no_graph_break_either():
    model = build("resnet").train()
    found = torch._dynamo.explain(model.forward_heads)(torch.randn(2, 3, 64, 96))
    assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons


@pytest.mark.usefixtures("fresh_dynamo")
def test_the_second_image_of_a_size_compiles_nothing():
    model = build("resnet").eval()
    counter = CompileCounter()
    network = torch.compile(model.forward_heads, backend=counter, fullgraph=True)
    with torch.no_grad():
        first, second = torch.randn(2, 1, 3, 64, 96)
        network(first)
        assert counter.frame_count == 1
        compiled = network(second)
        assert counter.frame_count == 1
        expected = model.forward_heads(second)
    torch.testing.assert_close(compiled.semantic, expected.semantic)
    torch.testing.assert_close(compiled.instance.offset, expected.instance.offset)


@pytest.mark.usefixtures("fresh_dynamo")
def test_a_compiled_model_predicts_through_the_usual_interface():
    """A part of a model may be compiled in place; post-processing stays outside the graph."""
    model = build("resnet").eval()
    counter = CompileCounter()
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = model(x, mode="predict")[0].pred_panoptic_seg.index_map
        model.backbone.compile(backend=counter, fullgraph=True)
        actual = model(x, mode="predict")[0].pred_panoptic_seg.index_map
    assert counter.frame_count == 1
    assert torch.equal(actual, expected)
