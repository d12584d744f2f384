import numpy as np
import pytest

from mmpanoptic.datasets.transforms import ColorFactors, PackClassInputs, RandomAreaCrop


@pytest.fixture
def image():
    return np.random.RandomState(0).randint(0, 256, (60, 90, 3)).astype(np.uint8)


def test_windows_have_the_allowed_area_and_shape():
    crop = RandomAreaCrop(16, area=(0.2, 0.5), ratio=(0.5, 2.0))
    np.random.seed(0)
    for _ in range(300):
        top, left, height, width = crop._choose(60, 90)
        assert 0 <= top <= 60 - height
        assert 0 <= left <= 90 - width
        assert 0.17 < height * width / (60 * 90) < 0.53
        assert 0.45 < width / height < 2.1


def test_very_long_images_give_their_middle():
    crop = RandomAreaCrop(16, area=(1.0, 1.0))
    top, left, height, width = crop._choose(10, 200)
    assert (top, height) == (0, 10)
    assert width == 13
    assert left == (200 - 13) // 2


def test_the_result_has_the_wanted_size(image):
    out = RandomAreaCrop(24)({"img": image})
    assert out["img"].shape == (24, 24, 3)
    assert out["img_shape"] == (24, 24)


def test_no_strength_changes_no_colour(image):
    assert np.array_equal(ColorFactors(0.0)({"img": image.copy()})["img"], image)


def test_factors_change_brightness_contrast_and_saturation(image):
    np.random.seed(1)
    means, spreads, chroma = [], [], []
    for _ in range(40):
        out = ColorFactors(0.4)({"img": image.copy()})["img"].astype(float)
        means.append(out.mean())
        spreads.append(out.mean(2).std())
        chroma.append(out.std(2).mean())
    for values in (means, spreads, chroma):
        assert np.ptp(values) > 0.1 * np.mean(values)
    assert 0.5 * image.mean() < min(means) < max(means) < 1.5 * image.mean()


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomAreaCrop(area=(0.5, 0.1)),
        lambda: ColorFactors(2),
        lambda: RandomAreaCrop(ratio=(0, 1)),
    ],
)
def test_wrong_options_are_an_error(make):
    with pytest.raises(ValueError, match=r"range|strength"):
        make()


def test_samples_hold_image_and_class(image):
    out = PackClassInputs()({"img": image, "gt_label": 3, "img_id": "a", "sample_idx": 7})
    assert out["inputs"].shape == (3, 60, 90)
    assert int(out["data_samples"].gt_label) == 3
    assert out["data_samples"].sample_idx == 7
