import json

import cv2
import numpy as np
import pytest

from mmpanoptic.utils.panoptic_png import read_panoptic_png
from tests.apis.tiny_model import CONFIG

TOOL = "infer.py"


def test_writes_maps_json_and_overlays(run_tool, shapes_root, checkpoint):
    done = run_tool(TOOL, shapes_root / "val", CONFIG, checkpoint, "--device", "cpu")
    assert "3 images done, 0 left out" in done.stdout
    out = run_tool.folder / "outputs"
    content = json.loads((out / "panoptic.json").read_text())
    assert [image["id"] for image in content["images"]] == [1, 2, 3]
    for annotation in content["annotations"]:
        ids = read_panoptic_png(out / "panoptic" / annotation["file_name"])
        assert {s["id"] for s in annotation["segments_info"]} == set(np.unique(ids)) - {0}
        assert cv2.imread(str(out / "overlay" / annotation["file_name"])).shape == (64, 96, 3)


@pytest.mark.parametrize("broken", [False, True])
def test_broken_images_are_left_out_and_reported(run_tool, shapes_root, checkpoint, broken):
    folder = run_tool.folder / "photos"
    folder.mkdir()
    (folder / "fine.jpg").write_bytes((shapes_root / "val" / "000001.jpg").read_bytes())
    if broken:
        (folder / "broken.jpg").write_bytes(b"?")
    arguments = ["photos", CONFIG, checkpoint, "--device", "cpu", "--no-overlay", "--out-dir", "o"]
    done = run_tool(TOOL, *arguments, status=int(broken))
    assert f"1 images done, {int(broken)} left out" in done.stdout
    assert ("broken.jpg" in done.stderr) == broken
    assert not (run_tool.folder / "o" / "overlay").exists()
    assert (run_tool.folder / "o" / "panoptic" / "fine.png").exists()


def test_errors_are_one_clear_message(run_tool, shapes_root, checkpoint):
    done = run_tool(TOOL, "nowhere.jpg", CONFIG, checkpoint, "--device", "cpu", status=1)
    assert done.stderr.strip().splitlines()[-1].startswith("error: there is no image or folder")
    done = run_tool(TOOL, shapes_root, CONFIG, "none.pth", status=1)
    assert "error: there is no checkpoint none.pth" in done.stderr
    done = run_tool(TOOL, shapes_root, "unknown_config", checkpoint, status=1)
    assert "error: there is no config file 'unknown_config'" in done.stderr


def test_heads_are_drawn_on_request(run_tool, shapes_root, checkpoint):
    image = shapes_root / "val" / "000001.jpg"
    options = ["--device", "cpu", "--out-dir", "o", "--no-overlay"]
    run_tool(TOOL, image, CONFIG, checkpoint, *options)
    assert not (run_tool.folder / "o" / "heads").exists()
    run_tool(TOOL, image, CONFIG, checkpoint, "--heads", *options)
    for kind in ("center", "offset"):
        picture = cv2.imread(str(run_tool.folder / "o" / "heads" / f"000001_{kind}.png"))
        assert picture.shape == (64, 96, 3)
        assert picture.std() > 0
