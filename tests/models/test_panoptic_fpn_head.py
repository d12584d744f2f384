import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData
from torch.nn import functional

from mmpanoptic.models.postprocess import resize_padded_logits
from mmpanoptic.models.semantic_heads import PanopticFPNSemanticHead

STUFF, THINGS = (1, 4), (0, 2, 3)


def make_head(**options):
    torch.manual_seed(0)
    norm = {"type": "GN", "num_groups": 2}
    return PanopticFPNSemanticHead(
        STUFF, THINGS, in_channels=6, channels=4, num_levels=3, norm_cfg=norm, **options
    )


def pyramid(height, width, batch=1):
    sizes = [(height, width)]
    for _ in range(2):
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return tuple(torch.randn(batch, 6, *size) for size in sizes)


def sample(label, padded):
    padding = (0, padded[1] - label.shape[1], 0, padded[0] - label.shape[0])
    data = DetDataSample(metainfo={"img_shape": tuple(label.shape)})
    data.gt_sem_seg = PixelData(sem_seg=functional.pad(label, padding, value=255)[None])
    return data


def test_levels_of_odd_sizes_are_brought_to_the_finest():
    assert make_head()(pyramid(9, 7)).shape == (1, 4, 9, 7)


def test_labels_become_channels():
    table = make_head().channel_of_label
    assert [int(table[k]) for k in (0, 1, 2, 3, 4, 255)] == [3, 1, 3, 3, 2, 0]


def test_the_number_of_levels_is_checked():
    with pytest.raises(ValueError, match="num_levels=3, but the neck gives 2"):
        make_head()(pyramid(8, 8)[:2])
    levels = pyramid(8, 8)
    assert torch.equal(make_head()(levels), make_head()((*levels, torch.randn(1, 6, 1, 1))))


def test_convolutions_and_enlargement_can_be_those_of_mmdet():
    published, plain = make_head(), make_head(conv_bias=False, align_corners=False)
    without = {name for name in published.state_dict() if name not in plain.state_dict()}
    assert without == {
        f"branches.{level}.{i}.0.bias" for level, i in ((0, 0), (1, 0), (2, 0), (2, 1))
    }
    plain.load_state_dict(published.state_dict(), strict=False)
    for branch in published.branches:
        for conv in branch:
            torch.nn.init.zeros_(conv[0].bias)
    levels = pyramid(8, 8)
    assert not torch.allclose(plain(levels), published(levels), atol=1e-3)
    flat = tuple(level.mean((2, 3), keepdim=True).expand_as(level) for level in levels)
    centre = (..., slice(3, 5), slice(3, 5))  # far from zero padding, enlargement changes nothing
    published.align_corners = False
    assert torch.equal(plain(flat)[centre], published(flat)[centre])


def test_unknown_handling_of_padding_is_refused():
    with pytest.raises(ValueError, match="one of crop, squash, got 'cut'"):
        make_head(pad_handling="cut")
    with pytest.raises(ValueError, match="one of crop, squash, got 'cut'"):
        resize_padded_logits(torch.zeros(1, 2, 2), {"img_shape": (8, 8)}, "cut")


@pytest.mark.parametrize("pad_handling", ["crop", "squash"])
def test_loss_is_the_mean_over_all_labelled_pixels(pad_handling):
    head = make_head(pad_handling=pad_handling, loss_weight=2.0)
    logits = torch.randn(2, 4, 8, 8)
    labels = [torch.randint(0, 5, (32, 20)), torch.randint(0, 5, (24, 32))]
    labels[0][:5] = 255
    loss = head.loss_by_feat(logits, [sample(label, (32, 32)) for label in labels])
    full = functional.interpolate(logits, size=(32, 32), mode="bilinear", align_corners=True)
    terms = []
    for one, label in zip(full, labels, strict=True):
        height, width = label.shape
        if pad_handling == "crop":
            one = one[None, :, :height, :width]
        else:
            one = functional.interpolate(
                one[None], size=(height, width), mode="bilinear", align_corners=True
            )
        target = head.channel_of_label[label]
        likelihood = one.log_softmax(1)[0].gather(0, target[None])[0]
        terms.append(-likelihood[target > 0])
    assert loss["loss_semantic"].item() == pytest.approx(2 * torch.cat(terms).mean().item(), 1e-4)


def test_levels_from_stride_2_have_a_label_for_every_second_pixel():
    head = make_head(stride=2)
    logits = torch.randn(1, 4, 8, 8)
    label = torch.randint(0, 5, (16, 13))
    loss = head.loss_by_feat(logits, [sample(label, (16, 16))])["loss_semantic"]
    full = functional.interpolate(logits, size=(16, 16), mode="bilinear", align_corners=True)
    target = head.channel_of_label[label][None]
    expected = functional.cross_entropy(full[..., :13], target, ignore_index=0)
    assert loss.item() == pytest.approx(0.5 * expected.item(), 1e-5)


def test_nothing_labelled_gives_a_loss_of_zero_with_gradients():
    head = make_head()
    feats = pyramid(8, 8)
    loss = head.loss_by_feat(head(feats), [sample(torch.full((32, 32), 255), (32, 32))])
    loss["loss_semantic"].backward()
    assert loss["loss_semantic"] == 0
    assert all(p.grad is not None for p in head.parameters())


def test_half_precision_outputs_have_a_float32_loss():
    head = make_head()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = head(pyramid(8, 8))
        loss = head.loss_by_feat(outputs, [sample(torch.zeros(32, 32).long(), (32, 32))])
    assert loss["loss_semantic"].dtype == torch.float32


@pytest.mark.parametrize("pad_handling", ["crop", "squash"])
@pytest.mark.parametrize("out_shape", [(27, 50), (61, 23)])
def test_results_equal_the_two_steps_of_the_definition(pad_handling, out_shape):
    logits = torch.randn(5, 8, 12)
    meta = {"img_shape": (27, 43), "ori_shape": out_shape}
    full = functional.interpolate(logits[None], size=(32, 48), mode="bilinear", align_corners=True)
    corners = pad_handling == "squash"
    if not corners:
        full = full[..., :27, :43]
    if full.shape[2:] != out_shape:
        full = functional.interpolate(full, size=out_shape, mode="bilinear", align_corners=corners)
    resized = resize_padded_logits(logits, meta, pad_handling)
    torch.testing.assert_close(resized.dense(), full[0])
    for sparse in (True, False):
        assert (resized.classes(sparse) != full[0].argmax(0)).float().mean() < 1e-3
