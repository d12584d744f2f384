import pytest
import torch

from mmpanoptic.models.backbones import HRNet

SMALL = {"width": 4, "num_modules": (1, 2, 1), "num_blocks": 1, "num_stem_blocks": 2}


def mmseg_hrnet(width, num_modules, num_blocks, num_stem_blocks):
    from mmseg.models.backbones import HRNet as Theirs

    extra = {
        "stage1": {
            "num_modules": 1,
            "num_branches": 1,
            "block": "BOTTLENECK",
            "num_blocks": (num_stem_blocks,),
            "num_channels": (64,),
        }
    }
    for stage, modules in enumerate(num_modules, 2):
        extra[f"stage{stage}"] = {
            "num_modules": modules,
            "num_branches": stage,
            "block": "BASIC",
            "num_blocks": (num_blocks,) * stage,
            "num_channels": tuple(width << i for i in range(stage)),
        }
    return Theirs(extra=extra, norm_cfg={"type": "BN"}, norm_eval=False)


def fill(model):
    state = model.state_dict()
    generator = torch.Generator().manual_seed(0)
    for name, value in state.items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.is_floating_point():
            value.normal_(0, 0.3, generator=generator)
    return state


@pytest.mark.parametrize("width", [18, 32, 48])
def test_names_and_shapes_are_those_of_mmsegmentation(width):
    with torch.device("meta"):
        ours, theirs = HRNet(width), mmseg_hrnet(width, (1, 4, 3), 4, 4)
    assert {n: v.shape for n, v in ours.state_dict().items()} == {
        n: v.shape for n, v in theirs.state_dict().items()
    }


def test_equals_mmsegmentation_with_its_convention_of_enlarging():
    theirs = mmseg_hrnet(**SMALL)
    theirs.eval()  # returns nothing
    state = fill(theirs)
    x = torch.randn(1, 3, 96, 64)
    outputs = {}
    for align_corners in (False, True):
        ours = HRNet(align_corners=align_corners, **SMALL).eval()
        ours.load_state_dict(state, strict=True)
        with torch.no_grad():
            outputs[align_corners] = ours(x)
    with torch.no_grad():
        expected = theirs(x)
    for actual, other, want in zip(outputs[False], outputs[True], expected, strict=True):
        torch.testing.assert_close(actual, want, rtol=1e-4, atol=1e-5)
        assert (other - want).abs().max() > 1e-3 * want.abs().max()


def test_full_size_has_the_published_parameters():
    with torch.device("meta"):
        model = HRNet(48)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(65.325e6, abs=500)
    assert len(model.state_dict()) == 1830


@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3), (1, 3)])
def test_channels_and_strides_are_those_of_the_outputs(out_indices):
    model = HRNet(out_indices=out_indices, **SMALL).eval()
    with torch.no_grad():
        outputs = model(torch.randn(1, 3, 64, 96))
    assert tuple(o.shape[1] for o in outputs) == model.out_channels
    assert tuple(64 // o.shape[2] for o in outputs) == model.out_strides


@pytest.mark.parametrize("size", [(33, 65), (70, 41)])
def test_any_size_works(size):
    outputs = HRNet(**SMALL).eval()(torch.randn(1, 3, *size))
    for output, stride in zip(outputs, (4, 8, 16, 32), strict=True):
        assert output.shape[2:] == tuple(-(-side // stride) for side in size)


def test_all_parameters_get_gradients():
    model = HRNet(**SMALL).train()
    sum(y.square().mean() for y in model(torch.randn(2, 3, 64, 64))).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ("kwargs", "word"),
    [
        ({"width": 0}, "width"),
        ({"num_modules": (1, 4)}, "num_modules"),
        ({"out_indices": (0, 4)}, "out_indices"),
    ],
)
def test_bad_arguments_are_named(kwargs, word):
    with pytest.raises(ValueError, match=word):
        HRNet(**kwargs)
