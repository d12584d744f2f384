import io
import shutil
from types import SimpleNamespace

import cv2
import pytest
from mmengine.config import Config
from PIL import Image

from mmpanoptic import commands
from mmpanoptic.apis import PanopticInferencer, get_config
from mmpanoptic.datasets.shapes import ShapesSettings, generate_shapes
from mmpanoptic.engine.config_keys import read_names
from tests.apis.tiny_model import CONFIG, write_checkpoint


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Data, the folder of a run with random weights, a video, and an image turned by its EXIF."""
    root = tmp_path_factory.mktemp("what a user has")
    generate_shapes(root / "data", {"train": 4, "val": 2}, ShapesSettings(64, 48))
    run = root / "work_dirs" / "run"
    run.mkdir(parents=True)
    write_checkpoint(run / "iter_4.pth")
    (run / "last_checkpoint").write_text(str(run / "iter_4.pth"))
    cfg = get_config(CONFIG, {"data_root": str(root / "data"), "num_workers": 0})
    kept = Config({name: value for name, value in cfg.items() if name in read_names(cfg)})
    (run / "config.py").write_text(kept.pretty_text)
    image = cv2.imread(str(root / "data/val/000001.jpg"))
    writer = cv2.VideoWriter(
        str(root / "film.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 5, image.shape[1::-1]
    )
    for _ in range(2):
        writer.write(image)
    writer.release()
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(image[..., ::-1]).save(buffer, "JPEG", exif=exif)
    (root / "turned.jpg").write_bytes(buffer.getvalue())
    return SimpleNamespace(root=root, run=run, data=root / "data", image=image)


@pytest.fixture(scope="session")
def segment(made):
    return PanopticInferencer(made.run, device="cpu")


@pytest.fixture(scope="session")
def result(made, segment):
    return segment(str(made.data / "val/000001.jpg"))[0]


@pytest.fixture
def mmpanoptic(made, tmp_path, monkeypatch, capsys):
    """Call ``mmpanoptic`` in a folder of its own; its status, output and errors."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(made.data / "val/000001.jpg", "photo.jpg")

    def call(*words):
        capsys.readouterr()
        status = commands.main([str(word) for word in words])
        captured = capsys.readouterr()
        return SimpleNamespace(status=status, out=captured.out, err=captured.err)

    call.folder = tmp_path
    return call
