import pytest
import torch

from mmpanoptic.models.data_preprocessors import PanopticDataPreprocessor
from tests.models.builders import make_batch


def test_images_are_rgb_normalised_and_padded_with_the_mean():
    batch = make_batch((20, 30), (24, 17))
    images = [image.clone() for image in batch["inputs"]]
    mean, std = torch.tensor([10.0, 20, 30]), torch.tensor([2.0, 3, 4])
    model = PanopticDataPreprocessor(mean.tolist(), std.tolist(), pad_size_divisor=16)
    inputs = model(batch)["inputs"]
    assert inputs.shape == (2, 3, 32, 32)
    for image, prepared in zip(images, inputs, strict=True):
        height, width = image.shape[1:]
        rgb = image.flip(0).float()
        expected = (rgb - mean[:, None, None]) / std[:, None, None]
        torch.testing.assert_close(prepared[:, :height, :width], expected)
        assert prepared[:, height:].abs().sum() == prepared[:, :, width:].abs().sum() == 0


@pytest.mark.parametrize("divisor", [0, 1])
def test_without_divisor_the_largest_image_decides(divisor):
    batch = PanopticDataPreprocessor(pad_size_divisor=divisor)(make_batch((21, 30), (24, 17)))
    assert batch["inputs"].shape == (2, 3, 24, 30)
    assert [s.batch_input_shape for s in batch["data_samples"]] == [(24, 30)] * 2
    assert [s.pad_shape for s in batch["data_samples"]] == [(24, 30)] * 2
    assert [s.img_shape for s in batch["data_samples"]] == [(21, 30), (24, 17)]


def test_ground_truth_is_padded_in_training_only():
    model = PanopticDataPreprocessor(pad_size_divisor=32)
    before = make_batch((20, 30))["data_samples"][0]
    sample = model(make_batch((20, 30)), training=True)["data_samples"][0]
    index_map, labels = sample.gt_panoptic_seg.index_map, sample.gt_sem_seg.sem_seg
    assert index_map.shape == labels.shape == (1, 32, 32)
    assert torch.equal(index_map[:, :20, :30], before.gt_panoptic_seg.index_map)
    assert torch.equal(labels[:, :20, :30], before.gt_sem_seg.sem_seg)
    assert index_map[:, 20:].abs().max() == index_map[:, :, 30:].abs().max() == 0
    assert (labels[:, 20:] == 255).all()
    assert (labels[:, :, 30:] == 255).all()
    assert sample.gt_panoptic_seg.segments_info == before.gt_panoptic_seg.segments_info
    untouched = model(make_batch((20, 30)))["data_samples"][0]
    assert untouched.gt_panoptic_seg.index_map.shape == (1, 20, 30)


def test_stacked_images_without_samples():
    images = torch.randint(0, 256, (2, 3, 20, 30), dtype=torch.uint8)
    batch = PanopticDataPreprocessor(pad_size_divisor=16)({"inputs": images})
    assert batch["inputs"].shape == (2, 3, 32, 32)
    assert batch["data_samples"] is None


def test_a_fixed_size_is_padded_with_black_or_the_mean_colour():
    images = [
        torch.full((3, 5, 9), 200, dtype=torch.uint8),
        torch.zeros(3, 8, 4, dtype=torch.uint8),
    ]
    for colour, value in (("black", None), ("mean", 0.0)):
        built = PanopticDataPreprocessor(pad_size=(10, 12), pad_colour=colour)
        batch = built({"inputs": images, "data_samples": None})["inputs"]
        assert batch.shape == (2, 3, 10, 12)
        expected = (-built.mean / built.std).flatten() if value is None else torch.zeros(3)
        for place in (batch[0, :, 9, 0], batch[0, :, 0, 11], batch[1, :, 9, 11]):
            torch.testing.assert_close(place, expected)
        black = (-built.mean / built.std).flatten()
        torch.testing.assert_close(batch[1, :, 7, 3], black)


def test_images_larger_than_the_fixed_size_and_two_rules_are_refused():
    built = PanopticDataPreprocessor(pad_size=(4, 4))
    with pytest.raises(ValueError, match=r"larger than pad_size=\(4, 4\)"):
        built({"inputs": [torch.zeros(3, 5, 4, dtype=torch.uint8)], "data_samples": None})
    with pytest.raises(ValueError, match="exclude each other"):
        PanopticDataPreprocessor(pad_size=(4, 4), pad_size_divisor=32)
    with pytest.raises(ValueError, match="pad_colour must be mean or black"):
        PanopticDataPreprocessor(pad_colour="white")
