from __future__ import annotations

import io
import logging
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.logging import MMLogger
from PIL import Image

from mmpanoptic.datasets.transforms import LoadImage, LoadPanopticAnnotations, loading
from mmpanoptic.registry import TRANSFORMS
from mmpanoptic.utils.format_errors import PanopticFormatError
from mmpanoptic.utils.panoptic_png import encode_panoptic_png


def photo(height: int = 30, width: int = 41) -> np.ndarray:
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 256, (5, 7, 3), np.uint8), (width, height))


def save(path, img: Image.Image, **kwargs) -> str:
    img.save(path, **kwargs)
    return str(path)


def test_an_image_is_loaded_as_bgr_with_its_size(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(photo()))
    results = LoadImage()({"img_path": path})
    np.testing.assert_array_equal(results["img"], photo()[..., ::-1])
    for key in ("img_shape", "ori_shape"):
        assert results[key] == (30, 41)
    assert (results["height"], results["width"]) == (30, 41)


def test_grey_palette_and_alpha_images_become_three_channels(tmp_path):
    grey = photo()[..., 0]
    for name, img in [
        ("grey.png", Image.fromarray(grey)),
        ("alpha.png", Image.fromarray(np.dstack([grey] * 4))),
        ("palette.png", Image.fromarray(grey).convert("P")),
        ("bit.png", Image.fromarray((grey > 128) * np.uint8(255)).convert("1")),
    ]:
        loaded = LoadImage()({"img_path": save(tmp_path / name, img)})["img"]
        assert loaded.shape == (30, 41, 3)
        expected = (grey > 128) * np.uint8(255) if name == "bit.png" else grey
        np.testing.assert_array_equal(loaded, np.dstack([expected] * 3), err_msg=name)


def test_exif_orientation_is_applied_unless_switched_off(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    path = save(tmp_path / "turned.jpg", Image.fromarray(photo()), exif=exif, quality=100)
    upright = LoadImage()({"img_path": path})["img"]
    stored = LoadImage(apply_orientation=False)({"img_path": path})["img"]
    assert upright.shape == (41, 30, 3)
    np.testing.assert_array_equal(upright, np.rot90(stored, -1))


@pytest.mark.parametrize("shape", [(30, 41), (30, 41, 1), (30, 41, 3), (30, 41, 4)])
def test_arrays_are_accepted(shape):
    results = LoadImage()({"img": np.full(shape, 7, np.uint8)})
    assert results["img"].shape == (30, 41, 3)
    assert results["ori_shape"] == (30, 41)
    assert (results["img"] == 7).all()


@pytest.mark.parametrize(
    "img", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8)]
)
def test_arrays_that_are_no_images_are_refused(img):
    with pytest.raises(PanopticFormatError) as error:
        LoadImage()({"img": img})
    assert error.value.kind == "bad_image_mode"


def jpeg_bytes() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo(200, 300)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("absent.jpg", None, "missing_file"),
        ("empty.jpg", b"", "corrupt_image"),
        ("text.jpg", b"no image at all", "corrupt_image"),
        ("cut.jpg", jpeg_bytes()[:-600], "corrupt_image"),
        ("cut.png", cv2.imencode(".png", photo(200, 300))[1].tobytes()[:-600], "corrupt_image"),
        (
            "deep.png",
            cv2.imencode(".png", np.zeros((9, 9), np.uint16))[1].tobytes(),
            "bad_image_mode",
        ),
    ],
)
def test_unusable_files_are_named(tmp_path, name, data, kind):
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(PanopticFormatError, match=name) as error:
        LoadImage()({"img_path": str(path), "img_id": 3})
    assert error.value.kind == kind
    assert error.value.problems[0].image_id == 3


def test_a_complete_jpeg_with_trailing_bytes_is_accepted(tmp_path):
    path = tmp_path / "long.jpg"
    path.write_bytes(jpeg_bytes() + b"\0" * 9000)
    assert LoadImage()({"img_path": str(path)})["img"].shape == (200, 300, 3)


def test_an_image_of_another_size_than_annotated_is_refused(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(photo()))
    with pytest.raises(PanopticFormatError, match=r"41 x 30 \(width x height\).*30 x 41") as error:
        LoadImage()({"img_path": path, "height": 41, "width": 30})
    assert error.value.kind == "size_mismatch"


def annotation(tmp_path, ids: np.ndarray, listed: list[int]) -> dict:
    path = tmp_path / "map.png"
    path.write_bytes(encode_panoptic_png(ids))
    return {
        "seg_map_path": str(path),
        "img_id": 5,
        "height": ids.shape[0],
        "width": ids.shape[1],
        "segments_info": [{"id": number} for number in listed],
    }


@pytest.mark.parametrize(
    ("count", "dtype"),
    [(0, "uint8"), (3, "uint8"), (254, "uint8"), (255, "uint16"), (300, "uint16")],
)
def test_index_map_equals_a_loop_over_the_segments(tmp_path, count, dtype):
    rng = np.random.default_rng(count)
    listed = rng.permutation(2**24 - 1)[:count] + 1
    ids = np.append(0, listed)[rng.integers(0, count + 1, (37, 53))]
    results = LoadPanopticAnnotations()(annotation(tmp_path, ids, listed.tolist()))
    expected = np.zeros(ids.shape, np.int64)
    for position, number in enumerate(listed):
        expected[ids == number] = position + 1 + (position >= 254)  # 255 is kept free
    np.testing.assert_array_equal(results["gt_seg_map"], expected)
    assert results["gt_seg_map"].dtype == dtype
    assert "source_grid" not in results


def test_ids_that_are_not_listed_stop_by_default(tmp_path):
    ids = np.array([[0, 1, 2], [3, 3, 1]])
    with pytest.raises(PanopticFormatError, match=r"map\.png") as error:
        LoadPanopticAnnotations()(annotation(tmp_path, ids, [1]))
    assert error.value.kind == "png_id_not_in_json"
    assert error.value.problems[0].segment_ids == (2, 3)


@pytest.mark.parametrize(("option", "messages"), [("warn", 1), ("ignore", 0)])
def test_ids_that_are_not_listed_become_void_on_request(tmp_path, option, messages):
    seen = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    ids = np.array([[0, 1, 2], [3, 3, 1]])
    results = LoadPanopticAnnotations(option)(annotation(tmp_path, ids, [1]))
    logger.removeHandler(handler)
    np.testing.assert_array_equal(results["gt_seg_map"], [[0, 1, 0], [0, 0, 1]])
    assert len(seen) == messages


def test_a_png_of_another_size_than_annotated_is_refused(tmp_path):
    results = annotation(tmp_path, np.ones((4, 6), int), [1])
    results["height"] = 5
    with pytest.raises(PanopticFormatError, match=r"6 x 4.*6 x 5.*map\.png") as error:
        LoadPanopticAnnotations()(results)
    assert error.value.kind == "size_mismatch"


def test_options_are_checked():
    with pytest.raises(ValueError, match="unlisted_ids"):
        LoadPanopticAnnotations("drop")


def test_transforms_are_registered_beside_those_of_mmcv():
    assert TRANSFORMS.get("LoadImage") is LoadImage
    assert TRANSFORMS.get("LoadPanopticAnnotations") is LoadPanopticAnnotations
    assert TRANSFORMS.get("RandomFlip").__module__.startswith("mmcv")


def enlarged(data: bytes) -> bytes:
    """Let the header promise 20000 x 20000 pixels."""
    return data[:16] + struct.pack(">II", 20_000, 20_000) + data[24:]


def test_files_that_are_larger_than_annotated_are_refused_before_they_are_decoded(
    tmp_path, monkeypatch
):
    def decode(*_):
        raise AssertionError("it was decoded")

    monkeypatch.setattr(loading, "decode_image", decode)
    monkeypatch.setattr(loading, "decode_panoptic_png", decode)
    results = annotation(tmp_path, np.ones((4, 6), int), [1])
    path = Path(results["seg_map_path"])
    path.write_bytes(enlarged(path.read_bytes()))
    for transform in (LoadImage(), LoadPanopticAnnotations()):
        with pytest.raises(PanopticFormatError, match="20000 x 20000") as error:
            transform({**results, "img_path": str(path)})
        assert error.value.kind == "size_mismatch"
