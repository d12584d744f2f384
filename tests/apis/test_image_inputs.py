import numpy as np
import pytest

from mmpanoptic.apis.inferencer import iter_sources

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
