import pytest
import torch

from mmpanoptic.models.backbones import Xception

SMALL = {"width_factor": 0.125, "num_middle_blocks": 2}


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_channels_and_strides_are_those_of_the_outputs(stride):
    model = Xception(output_stride=stride, **SMALL).eval()
    with torch.no_grad():
        outputs = model(torch.randn(1, 3, 64, 96))
    assert tuple(o.shape[1] for o in outputs) == model.out_channels
    assert tuple(64 // o.shape[2] for o in outputs) == model.out_strides
    assert model.out_strides == (4, 8, min(stride, 16), stride)


def test_full_size_has_the_published_channels_and_parameters():
    with torch.device("meta"):
        model = Xception()
    assert model.out_channels == (256, 728, 728, 2048)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(37.867e6, abs=500)
    assert len(model.state_dict()) == 792


@pytest.mark.parametrize(("stride", "middle", "last"), [(32, 1, 1), (16, 1, 2), (8, 2, 4)])
def test_dilations_follow_the_output_stride(stride, middle, last):
    model = Xception(output_stride=stride, **SMALL)
    dilations = [
        [getattr(block, f"sep_conv{i}").block.depthwise.dilation[0] for i in (1, 2, 3)]
        for block in (model.block3, model.block4, model.block6, model.block7)
    ]
    assert dilations == [[1] * 3, [middle] * 3, [middle] * 3, [last] * 3]


def test_multi_grid_replaces_the_dilations_of_the_last_block():
    block = Xception(multi_grid=(1, 2, 4), **SMALL).block7
    assert [getattr(block, f"sep_conv{i}").block.depthwise.dilation[0] for i in (1, 2, 3)] == [
        1,
        2,
        4,
    ]


def test_dilation_instead_of_stride_keeps_the_features_of_the_coarser_model():
    """A dilated model computes the strided model's features at every stride-th position."""
    torch.manual_seed(0)
    coarse = Xception(output_stride=32, **SMALL).eval()
    fine = Xception(output_stride=8, **SMALL).eval()
    fine.load_state_dict(coarse.state_dict())
    x = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        expected, actual = coarse(x)[3], fine(x)[3][..., ::4, ::4]
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_the_first_levels_are_signed_and_untouched_by_later_relus():
    model = Xception(**SMALL).eval()
    seen = {}

    def keep(name):
        return lambda module, inputs, output: seen.update({name: output.clone()})

    model.block2.sep_conv2.register_forward_hook(keep(0))
    model.block3.sep_conv2.register_forward_hook(keep(1))
    with torch.no_grad():
        outputs = model(torch.randn(1, 3, 64, 64))
    for level in (0, 1):
        assert torch.equal(outputs[level], seen[level])
    assert all(output.min() < 0 for output in outputs[:3])
    assert outputs[3].min() >= 0


def test_only_the_levels_asked_for_are_returned():
    model = Xception(out_indices=(0, 2), **SMALL).eval()
    outputs = model(torch.randn(1, 3, 64, 64))
    assert tuple(o.shape[1] for o in outputs) == model.out_channels == (32, 88)


def test_eps_is_an_option():
    model = Xception(norm_cfg={"type": "BN", "eps": 1e-3}, **SMALL)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {1e-3}
    default = Xception(**SMALL)
    assert {m.eps for m in default.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {1e-5}


@pytest.mark.parametrize(
    ("kwargs", "word"),
    [
        ({"output_stride": 4}, "output_stride"),
        ({"multi_grid": (1, 2)}, "multi_grid"),
        ({"width_factor": 0}, "width_factor"),
        ({"num_middle_blocks": 0}, "num_middle_blocks"),
        ({"out_indices": (3, 0)}, "out_indices"),
        ({"out_indices": (0, 4)}, "out_indices"),
        ({"out_indices": ()}, "out_indices"),
    ],
)
def test_bad_arguments_are_named(kwargs, word):
    with pytest.raises(ValueError, match=word):
        Xception(**kwargs)
