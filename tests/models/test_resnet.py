import pytest
import torch

from mmpanoptic.models.backbones import DeepLabResNet

R52 = {
    "strides": (1, 2, 2, 1),
    "dilations": (1, 1, 1, 2),
    "multi_grid": (2, 4, 8),
    "out_indices": (0, 1, 3),
}


def foreign_weights(model):
    state = model.state_dict()
    generator = torch.Generator().manual_seed(0)
    for name, value in state.items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.is_floating_point():
            value.normal_(0, 0.05, generator=generator)
    return state


def assert_same(ours, theirs):
    ours.load_state_dict(foreign_weights(theirs), strict=True)
    ours.eval()
    theirs.eval()
    x = torch.randn(2, 3, 65, 97)
    with torch.no_grad():
        actual, expected = ours(x), theirs(x)
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("depth", [18, 50])
def test_equals_resnet_v1c_of_mmsegmentation(depth):
    from mmseg.models.backbones import ResNetV1c

    extra = {**R52, "multi_grid": (2, 4, 8) if depth == 50 else (2, 4)}
    theirs = ResNetV1c(depth=depth, stem_channels=128, contract_dilation=False, **extra)
    assert_same(DeepLabResNet(depth, stem_channels=128, **extra), theirs)


@pytest.mark.parametrize("depth", [34, 50])
def test_plain_stem_equals_resnet_of_mmdetection(depth):
    from mmdet.models.backbones import ResNet

    assert_same(DeepLabResNet(depth, stem="plain"), ResNet(depth=depth))


def test_channels_and_strides_are_those_of_the_outputs():
    model = DeepLabResNet(18, base_width=8, **{**R52, "multi_grid": None})
    outputs = model.eval()(torch.randn(1, 3, 64, 96))
    assert tuple(o.shape[1] for o in outputs) == model.out_channels == (8, 16, 64)
    assert tuple(64 // o.shape[2] for o in outputs) == model.out_strides == (4, 8, 16)


def test_frozen_stages_stay_frozen_in_training():
    model = DeepLabResNet(18, base_width=8, frozen_stages=1).train()
    before = {n: b.clone() for n, b in model.named_buffers()}
    model(torch.randn(2, 3, 64, 64))[-1].sum().backward()
    for name, parameter in model.named_parameters():
        frozen = name.startswith(("stem", "layer1"))
        assert parameter.requires_grad is not frozen
        assert (parameter.grad is None) is frozen
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]) is name.startswith(("stem", "layer1"))


def test_norm_eval_keeps_running_statistics():
    model = DeepLabResNet(18, base_width=8, norm_eval=True).train()
    before = {n: b.clone() for n, b in model.named_buffers()}
    model(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(b, before[n]) for n, b in model.named_buffers())


@pytest.mark.parametrize(
    ("kwargs", "word"),
    [
        ({"depth": 51}, "depth"),
        ({"stem": "deep"}, "stem"),
        ({"strides": (1, 2)}, "strides"),
        ({"multi_grid": (1, 2)}, "multi_grid"),
        ({"out_indices": (0, 4)}, "out_indices"),
        ({"out_indices": (1, 0)}, "out_indices"),
    ],
)
def test_bad_arguments_are_named(kwargs, word):
    with pytest.raises(ValueError, match=word):
        DeepLabResNet(**kwargs)


@pytest.mark.parametrize("stem", ["deeplab", "plain"])
def test_a_stem_without_pooling_halves_every_stride(stem):
    usual = DeepLabResNet(18, stem=stem, base_width=8, stem_stride=4)
    fine = DeepLabResNet(18, stem=stem, base_width=8, stem_stride=2)
    assert usual.out_strides == (4, 8, 16, 32)
    assert fine.out_strides == (2, 4, 8, 16)
    fine.load_state_dict(usual.state_dict())  # the same weights
    outputs = fine.eval()(torch.randn(1, 3, 64, 96))
    assert [tuple(o.shape[2:]) for o in outputs] == [(32, 48), (16, 24), (8, 12), (4, 6)]
    with pytest.raises(ValueError, match="stem_stride must be 2 or 4"):
        DeepLabResNet(18, stem_stride=8)
