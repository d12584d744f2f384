import pytest
import torch

from mmpanoptic.models.backbones.efficientnet import LeakyEfficientNet

TINY = {"arch": "b0", "width_factor": 0.25, "depth_factor": 0.5}


@pytest.mark.parametrize("size", [(64, 96), (61, 99)])
def test_any_size_gives_cells_rounded_up(size):
    model = LeakyEfficientNet(**TINY).eval()
    feats = model(torch.zeros(1, 3, *size))
    assert [tuple(f.shape[2:]) for f in feats] == [
        (-(-size[0] // stride), -(-size[1] // stride)) for stride in (4, 8, 16, 32)
    ]


@pytest.mark.parametrize(
    ("arch", "channels"),
    [("b0", [24, 40, 112, 1280]), ("b4", [32, 56, 160, 1792]), ("b5", [40, 64, 176, 2048])],
)
def test_widths_of_the_architectures(arch, channels):
    with torch.device("meta"):
        model = LeakyEfficientNet(arch)
    widths = [model.layers[i][-1].linear_conv.out_channels for i in (2, 3, 4)]
    assert [*widths, model.layers[6].out_channels] == channels
    assert all(parameter.is_meta for parameter in model.parameters())


def test_there_is_no_squeeze_and_excitation():
    model = LeakyEfficientNet(**TINY)
    assert not any(name.split(".")[-1] == "se" for name, _ in model.named_modules())


def test_projections_of_the_first_stage_alone_can_be_activated():
    active = LeakyEfficientNet(**TINY)
    linear = LeakyEfficientNet(**TINY, stage0_act=False)
    found = [
        (number, block.linear_conv.with_activation)
        for number, layer in enumerate(active.layers[1:6], 1)
        for block in layer
    ]
    assert all(activated == (number == 1) for number, activated in found)
    assert not any(b.linear_conv.with_activation for layer in linear.layers[1:6] for b in layer)


def test_mode_changes_return_the_module():
    model = LeakyEfficientNet(**TINY, frozen_stages=2, norm_eval=True)
    assert model.train() is model
    assert model.eval() is model
    model.train()
    assert not any(p.requires_grad for p in model.layers[:2].parameters())
    assert not any(m.training for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="arch is one of"):
        LeakyEfficientNet("es")
    with pytest.raises(ValueError, match="out_indices"):
        LeakyEfficientNet("b0", out_indices=(3, 2))
