from itertools import count

import cv2
import numpy as np
import pytest

from mmpanoptic.apis.inferencer import iter_sources
from mmpanoptic.utils.format_errors import PanopticFormatError

ARRAY = np.zeros((4, 5, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.PNG", "sub dir/a.jpg", ".hidden.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def names(inputs):
    return [source.name for source in iter_sources(inputs)]


def test_folders_are_walked_in_order(folder):
    assert names(folder) == ["a", "b", "sub dir/a"]
    assert names(str(folder)) == names([folder])


def test_names_are_unique(folder):
    inputs = [folder / "a.PNG", folder / "sub dir" / "a.jpg", ARRAY, ARRAY]
    assert names(inputs) == ["a", "a_2", "image", "image_2"]


def test_an_array_is_one_image():
    (source,) = iter_sources(ARRAY)
    assert source.image is ARRAY
    assert source.path is None


def test_missing_paths_empty_folders_and_odd_types_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no image or folder"):
        names(tmp_path / "none.jpg")
    with pytest.raises(ValueError, match="holds no images"):
        names(tmp_path)
    with pytest.raises(TypeError, match="got int"):
        names([3])


def test_names_of_many_frames_are_unique_and_never_taken_twice():
    assert names([ARRAY] * 3) == ["image", "image_2", "image_3"]


def test_a_name_that_looks_numbered_is_not_given_twice(tmp_path):
    for name in ("image_2.png", "image.png"):
        (tmp_path / name).write_bytes(b"")
    files = [tmp_path / "image_2.png", ARRAY, ARRAY, tmp_path / "image_2.png"]
    assert names(files) == ["image_2", "image", "image_3", "image_2_2"]


def test_a_generator_is_read_one_by_one():
    frames = (np.full((4, 5, 3), number, np.uint8) for number in count())
    sources = iter_sources(frames)
    assert [next(sources).image[0, 0, 0] for _ in range(3)] == [0, 1, 2]


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "street.MP4"
    small = str(tmp_path / "street.mp4")
    writer = cv2.VideoWriter(small, cv2.VideoWriter_fourcc(*"mp4v"), 5, (96, 64))
    for number in range(4):
        writer.write(np.full((64, 96, 3), 60 * number, np.uint8))
    writer.release()
    (tmp_path / "street.mp4").rename(path)
    return path


def test_the_frames_of_a_video_are_images(video):
    sources = list(iter_sources(video))
    assert [source.name for source in sources] == [f"street/00000{k}" for k in range(1, 5)]
    means = [source.image.mean() for source in sources]
    assert means == pytest.approx([0, 60, 120, 180], abs=6)


def test_a_file_that_is_no_video_is_named(tmp_path):
    path = tmp_path / "street.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(PanopticFormatError, match=r"cannot decode the video.*street\.mp4"):
        list(iter_sources(path))
