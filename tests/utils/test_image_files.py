import numpy as np
import pytest
from PIL import Image

from mmpanoptic.datasets.transforms import LoadImage
from mmpanoptic.utils.format_errors import PanopticFormatError
from mmpanoptic.utils.image_files import (
    describe_mismatch,
    image_id_of,
    list_images,
    read_image_size,
    unique_image_ids,
)


def save(path, orientation=1, size=(64, 48)):
    image = Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        image.save(path, tiffinfo={274: orientation})
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(path, exif=exif)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_in_the_header_is_that_of_the_loaded_image(tmp_path, suffix, orientation):
    path = save(tmp_path / f"a{suffix}", orientation)
    size = read_image_size(path)
    assert size[:2] == ((64, 48) if orientation > 4 else (48, 64))
    assert size.orientation == orientation
    assert LoadImage()({"img_path": str(path)})["img"].shape[:2] == size[:2]


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0"])
def test_what_is_no_image_is_said(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(PanopticFormatError, match=r"not a readable image.*a\.jpg") as caught:
        read_image_size(tmp_path / "a.jpg")
    assert caught.value.kind == "corrupt_image"
    with pytest.raises(PanopticFormatError) as caught:
        read_image_size(tmp_path / "b.jpg")
    assert caught.value.kind == "missing_file"


def test_the_orientation_is_named_where_it_is_the_cause(tmp_path):
    turned, plain = save(tmp_path / "a.jpg", 6), save(tmp_path / "b.jpg")
    text = describe_mismatch(turned, (64, 48), (48, 64), "the JSON")
    assert "the image is 48 x 64 (width x height), the JSON says 64 x 48" in text
    assert "EXIF orientation 6" in text
    assert "EXIF" not in describe_mismatch(turned, (64, 48), (24, 32), "the JSON")
    text = describe_mismatch(plain, (48, 64), (64, 48), "the JSON")
    assert text.endswith("height and width are exchanged")


def test_hidden_files_and_folders_are_no_images(tmp_path):
    for name in ("b.JPG", "sub/a.png", ".c.jpg", ".ipynb_checkpoints/d.jpg", "__MACOSX/e.jpg"):
        save(tmp_path / name)
    (tmp_path / "frames.jpg").mkdir()
    save(tmp_path / "frames.jpg" / "f.jpg")
    (tmp_path / "text.txt").write_text("")
    names = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert names == ["b.JPG", "frames.jpg/f.jpg", "sub/a.png"]
    with pytest.raises(ValueError, match="holds no images"):
        list_images(tmp_path / ".ipynb_checkpoints" / "nothing")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("000001", 1), ("a", "a"), ("x/0001", "x/0001"), ("1a", "1a"), ("²", "²"), ("", "")],
)
def test_ids_follow_from_names(name, expected):
    assert image_id_of(name) == expected
    assert type(image_id_of(name)) is type(expected)


def test_ids_differ():
    assert unique_image_ids(["01", "1", "a"]) == {"01": 1, "1": "1", "a": "a"}
