import pytest
import torch

from mmpanoptic.models.postprocess import ResizedLogits, resized_logits

# classes, cells, stride, image, result
GEOMETRIES = [
    (5, (7, 9), 4, (28, 36), (28, 36)),
    (5, (7, 9), 4, (26, 33), (26, 33)),
    (5, (7, 9), 4, (26, 33), (40, 70)),
    (5, (7, 9), 4, (26, 33), (11, 17)),
    (3, (7, 9), 1, (7, 9), (7, 9)),
    (3, (7, 9), 1, (6, 9), (13, 5)),
    (2, (1, 1), 4, (1, 3), (5, 5)),
    (1, (9, 9), 3, (25, 27), (25, 27)),
    (20, (9, 9), 3, (27, 27), (80, 27)),
]


@pytest.fixture(params=GEOMETRIES, ids=str)
def resized(request):
    classes, cells, *geometry = request.param
    generator = torch.Generator().manual_seed(0)
    return ResizedLogits(torch.randn(classes, *cells, generator=generator), *geometry)


@pytest.fixture(params=[1, 100, 1 << 18])
def _bands(request, monkeypatch):
    monkeypatch.setitem(resized_logits.BAND_PIXELS, "cpu", request.param)


@pytest.mark.usefixtures("_bands")
def test_bands_and_single_pixels_equal_the_whole_map(resized):
    dense = resized.dense()
    height, width = resized.out_shape
    assert dense.shape[1:] == resized.out_shape
    bands = list(resized.bands())
    assert [row for top, bottom in bands for row in range(top, bottom)] == list(range(height))
    for top, bottom in bands:
        expected = dense[:, top:bottom]
        torch.testing.assert_close(resized.rows(top, bottom), expected)
        pixels = torch.arange((bottom - top) * width).flip(0)[::2]
        blocks = list(resized.at(top, bottom, pixels))
        values = torch.cat([values for _, values in blocks])
        torch.testing.assert_close(values, expected.flatten(1)[:, pixels].T)
        assert torch.cat([pixels[place] for place, _ in blocks]).equal(pixels)


@pytest.mark.usefixtures("_bands")
@pytest.mark.parametrize("sparse", [True, False, None])
def test_classes_are_those_of_the_largest_logits(resized, sparse):
    assert torch.equal(resized.classes(sparse), resized.dense().argmax(0))


def test_uniform_areas_are_not_computed(monkeypatch):
    logits = torch.zeros(3, 8, 8)
    logits[1, :, :4] = 1
    logits[2, :, 4:] = 1
    resized = ResizedLogits(logits, 4, (32, 32), (32, 32))
    asked = []
    at = ResizedLogits.at
    monkeypatch.setattr(
        ResizedLogits, "at", lambda self, *args: asked.append(args[2]) or at(self, *args)
    )
    assert torch.equal(resized.classes(sparse=True), resized.dense().argmax(0))
    columns = torch.cat(asked) % 32
    assert columns.unique().tolist() == [14, 15, 16, 17]


def test_of_equal_logits_the_first_class_wins():
    resized = ResizedLogits(torch.ones(4, 3, 3), 4, (12, 12), (7, 30))
    assert resized.classes(sparse=True).abs().max() == 0
    assert resized.classes(sparse=False).abs().max() == 0


@pytest.mark.usefixtures("_bands")
@pytest.mark.parametrize("sparse", [True, False, None])
def test_maxima_are_those_of_all_logits(resized, sparse):
    torch.testing.assert_close(resized.maximum(sparse=sparse), resized.dense().amax(0))
    needed = torch.zeros(resized.out_shape, dtype=torch.bool)
    needed[::2] = True
    some = resized.maximum(needed, sparse)
    torch.testing.assert_close(some[::2], resized.dense().amax(0)[::2])


def test_single_channels_and_windows_are_cut_out(resized):
    dense = resized.dense()
    height, width = resized.out_shape
    rows, columns = slice(height // 3, height), slice(0, max(width // 2, 1))
    last = len(dense) - 1
    torch.testing.assert_close(resized.window(last, rows, columns), dense[last, rows, columns])
    index = torch.tensor([last, 0])
    torch.testing.assert_close(resized.channels(index).dense(), dense[index])
