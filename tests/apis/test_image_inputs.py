import io
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

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
    with pytest.raises(TypeError, match="got float"):
        names([3.5])
    with pytest.raises(TypeError, match="got NoneType"):
        names([None])
    with pytest.raises(ValueError, match="no frame of the camera 99"):
        names(99)


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


@pytest.fixture
def picture():
    """BGR ``(3, 4, 3)`` with other values everywhere."""
    return np.arange(36, dtype=np.uint8).reshape(3, 4, 3)


def images(inputs, **options):
    return [source.image for source in iter_sources(inputs, **options)]


def test_images_in_memory_come_as_bgr(picture):
    rgb = np.ascontiguousarray(picture[..., ::-1])
    tensor = torch.from_numpy(rgb).permute(2, 0, 1)
    png = cv2.imencode(".png", picture)[1].tobytes()
    given = [picture, Image.fromarray(rgb), tensor, tensor / 255, tensor[None], picture[None]]
    for item in [*given, png, bytearray(png)]:
        (image,) = images([item])
        assert np.array_equal(image, picture), type(item)
    assert np.array_equal(images(rgb, channels="rgb")[0], picture)
    alpha = np.dstack([rgb, np.full((3, 4), 9, np.uint8)])
    assert np.array_equal(images(alpha, channels="rgb")[0][..., :3], picture)
    assert np.array_equal(images(Image.fromarray(alpha))[0], picture)


def test_batches_are_taken_apart(picture):
    several = np.stack([picture, picture + 1])
    assert np.array_equal(np.stack(images(several)), several)
    tensor = torch.from_numpy(several[..., ::-1].copy()).permute(0, 3, 1, 2)
    assert np.array_equal(np.stack(images([tensor, picture])[:2]), several)


def test_the_orientation_of_pil_images_and_bytes_is_applied(picture):
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned to the right
    Image.fromarray(np.full((8, 16, 3), 90, np.uint8)).save(buffer, "JPEG", exif=exif)
    assert images(buffer.getvalue())[0].shape == (16, 8, 3)
    buffer.seek(0)
    assert images(Image.open(buffer))[0].shape == (16, 8, 3)


def test_wrong_images_in_memory_are_explained(picture):
    with pytest.raises(ValueError, match=r"RGB \(3, H, W\)"):
        images(torch.zeros(5, 5))
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\].* Got -1 to 300"):
        images(torch.tensor([-1.0, 300.0]).reshape(1, 1, 2).expand(3, 1, 2))
    with pytest.raises(ValueError, match=r"got torch\.int64"):
        images(torch.zeros(3, 4, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="channels must be bgr or rgb"):
        images(picture, channels="brg")
    with pytest.raises(PanopticFormatError, match="<bytes>"):
        images(b"no image")
    with pytest.raises(PanopticFormatError, match="mode I;16"):
        images(Image.fromarray(np.zeros((4, 4), np.uint16)))


def test_addresses_are_fetched(tmp_path, picture, monkeypatch):
    cv2.imwrite(str(tmp_path / "a street.png"), picture)
    (tmp_path / "page.png").write_text("<html>")
    handler = partial(QuietHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_port}"
        (source,) = iter_sources(f"{root}/a%20street.png?size=large")
        assert source.name == "a street"
        assert np.array_equal(source.image, picture)
        with pytest.raises(PanopticFormatError, match=r"page\.png"):
            images(f"{root}/page.png")
        with pytest.raises(FileNotFoundError, match=r"cannot fetch .*none\.png"):
            images(f"{root}/none.png")
        monkeypatch.setenv("MMPANOPTIC_OFFLINE", "1")
        with pytest.raises(FileNotFoundError, match="MMPANOPTIC_OFFLINE is set"):
            images(f"{root}/a%20street.png")
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass
