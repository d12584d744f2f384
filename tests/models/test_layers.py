import pytest
import torch
from torch import nn
from torch.nn import functional

from mmpanoptic.models.layers import (
    DeepLabDecoder,
    init_decoder_convs,
    make_fuse_convs,
    resize_bilinear,
    upsample_to_image,
)
from mmpanoptic.models.layers.deeplab_decoder import ASPP
from mmpanoptic.models.postprocess import most_likely_class

BN = {"type": "BN"}


def make_aspp(window, separable=False):
    torch.manual_seed(0)
    return ASPP(6, 4, (1, 2), window, separable, 0.1, BN).eval()


def test_window_of_the_whole_map_equals_global_pooling():
    x = torch.randn(2, 6, 5, 7)
    torch.testing.assert_close(make_aspp((5, 7))(x), make_aspp(None)(x))


@pytest.mark.parametrize("size", [(3, 9), (1, 1), (9, 4)])
def test_window_is_clamped_to_small_maps(size):
    x = torch.randn(1, 6, *size)
    clamped = (min(5, size[0]), min(7, size[1]))
    torch.testing.assert_close(make_aspp((5, 7))(x), make_aspp(clamped)(x))


def test_window_slides_over_larger_maps():
    aspp = make_aspp((3, 4))
    x = torch.randn(2, 6, 8, 9)
    expected = functional.avg_pool2d(x, (3, 4), stride=1)
    torch.testing.assert_close(aspp._pool(x), expected)


def test_dropout_acts_only_in_training():
    aspp = ASPP(6, 4, (1,), None, False, 0.5, {"type": "BN", "momentum": 0.0})
    x = torch.randn(2, 6, 8, 8)
    assert torch.equal(aspp.eval()(x), aspp(x))
    assert not torch.equal(aspp.train()(x), aspp(x))


def test_decoder_returns_the_finest_size_for_any_number_of_levels():
    for levels in (1, 2, 4):
        strides = [4 * 2**i for i in range(levels)]
        decoder = DeepLabDecoder(
            [3 + i for i in range(levels)], strides, [2] * (levels - 1), 5, 7, (1, 2)
        ).eval()
        feats = [torch.randn(1, 3 + i, 33 >> i, 50 >> i) for i in range(levels)]
        assert decoder(feats).shape == (1, decoder.out_channels, 33, 50)


@pytest.mark.parametrize(
    ("kwargs", "word"),
    [
        ({"in_strides": (4,)}, "in_strides"),
        ({"in_strides": (16, 4)}, "fine to coarse"),
        ({"pool_crop_size": (40, 64)}, "pool_crop_size"),
    ],
)
def test_decoder_refuses_levels_that_do_not_fit(kwargs, word):
    arguments = {"in_channels": (3, 4), "in_strides": (4, 16), "project_channels": (2,)}
    with pytest.raises(ValueError, match=word):
        DeepLabDecoder(**{**arguments, **kwargs})


def test_initialisation_follows_the_published_rules():
    torch.manual_seed(0)
    regular = make_fuse_convs(64, 64, 64, False, BN)
    separable = make_fuse_convs(64, 64, 64, True, BN)
    for module in (regular, separable):
        module.init_weights()
    weight = regular[0].conv.weight
    bound = (3 / (64 * 9)) ** 0.5
    assert weight.abs().max() <= bound
    assert weight.abs().max() > 0.98 * bound
    pointwise = separable.pointwise_conv.conv.weight
    assert pointwise.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.05)
    assert pointwise.abs().max() > 2.5 * pointwise.std()
    pool = make_aspp(None).image_pool
    nn.init.ones_(pool.conv.bias)
    init_decoder_convs(pool)
    assert pool.conv.bias.abs().max() == 0


@pytest.mark.parametrize("num_classes", [1, 2, 19, 133, 300])
def test_most_likely_class_is_the_first_maximum(num_classes):
    generator = torch.Generator().manual_seed(num_classes)
    logits = torch.randint(-3, 3, (num_classes, 37, 53), generator=generator).float()
    logits[:, 0, 0] = float("-inf")
    assert torch.equal(most_likely_class(logits), logits.argmax(0))
    turned = logits.permute(0, 2, 1)
    assert torch.equal(most_likely_class(turned), turned.argmax(0))


def test_most_likely_class_of_nan_is_a_class():
    logits = torch.full((5, 2, 2), float("nan"))
    assert most_likely_class(logits).max() < 5


def test_upsampling_cuts_the_surplus_off():
    x = torch.randn(1, 2, 18, 38)
    up = upsample_to_image(x, 4, (70, 150))
    expected = functional.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)
    assert torch.equal(up, expected[..., :70, :150])
    assert resize_bilinear(x, (18, 38)) is x
