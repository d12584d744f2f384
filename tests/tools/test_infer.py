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
    assert f"1 image done, {int(broken)} left out" in done.stdout
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


def test_several_inputs_and_patterns(run_tool, shapes_root, checkpoint):
    image = shapes_root / "val" / "000001.jpg"
    pattern = shapes_root / "**" / "00000[23].jpg"
    done = run_tool(TOOL, image, pattern, CONFIG, checkpoint, "--device", "cpu", "--no-overlay")
    found = sorted(path.stem for path in shapes_root.rglob("00000[23].jpg"))
    assert f"{1 + len(found)} images done" in done.stdout
    names = sorted(p.stem for p in (run_tool.folder / "outputs/panoptic").iterdir())
    assert {"000001", "000002", "000002_2", "000003"} <= set(names)
    done = run_tool(TOOL, "none*.jpg", CONFIG, checkpoint, "--device", "cpu", status=1)
    assert "there is no file that matches 'none*.jpg'" in done.stderr


@pytest.fixture
def clip(run_tool, shapes_root):
    """A video of three frames."""
    path = run_tool.folder / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (96, 64))
    for image in sorted((shapes_root / "val").glob("*.jpg")):
        writer.write(cv2.imread(str(image)))
    writer.release()
    return path


def test_a_video_gives_maps_of_its_frames_and_a_video_of_the_drawings(run_tool, clip, checkpoint):
    done = run_tool(TOOL, clip, CONFIG, checkpoint, "--device", "cpu")
    assert "3 images done" in done.stdout
    out = run_tool.folder / "outputs"
    content = json.loads((out / "panoptic.json").read_text())
    files = [annotation["file_name"] for annotation in content["annotations"]]
    assert files == [f"clip/{k:06d}.png" for k in (1, 2, 3)]
    assert all(read_panoptic_png(out / "panoptic" / name).shape == (64, 96) for name in files)
    assert [path.name for path in (out / "overlay").iterdir()] == ["clip.mp4"]
    video = cv2.VideoCapture(str(out / "overlay" / "clip.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(5.0)
    frames = [video.read() for _ in range(4)]
    assert [found for found, _ in frames] == [True, True, True, False]
    assert frames[0][1].shape == (64, 96, 3)


def test_a_broken_video_is_an_error(run_tool, checkpoint):
    (run_tool.folder / "broken.mp4").write_bytes(b"?")
    done = run_tool(TOOL, "broken.mp4", CONFIG, checkpoint, "--device", "cpu", status=1)
    assert "cannot decode the video" in done.stderr


def test_a_camera_is_shown_until_a_key_ends_it(
    run_tool, shapes_root, checkpoint, clip, monkeypatch
):
    shown, asked = [], []
    opened = cv2.VideoCapture

    def camera(source):
        asked.append(source)
        return opened(str(clip))

    monkeypatch.setattr(cv2, "VideoCapture", camera)
    monkeypatch.setattr(cv2, "imshow", lambda name, picture: shown.append(picture.shape))
    monkeypatch.setattr(cv2, "waitKey", lambda _: 27 if len(shown) == 2 else -1)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)
    done = run_tool(TOOL, CONFIG, checkpoint, "--webcam", "1", "--device", "cpu")
    assert "2 frames" in done.stdout
    assert (asked, shown) == ([1], [(64, 96, 3)] * 2)
    assert not (run_tool.folder / "outputs").exists()


@pytest.mark.parametrize("more", [[], ["photos", "--webcam"]])
def test_inputs_or_a_camera_are_needed(run_tool, checkpoint, more):
    inputs = [word for word in more if word != "--webcam"]
    options = ["--webcam"] if "--webcam" in more else []
    done = run_tool(TOOL, *inputs, CONFIG, checkpoint, *options, status=2)
    assert "or take --webcam" in done.stderr


def test_things_of_low_score_are_left_out(run_tool, shapes_root, checkpoint):
    image = shapes_root / "val" / "000001.jpg"
    scores = {}
    for threshold in ("0", "0.5", "2"):
        options = ["--device", "cpu", "--out-dir", threshold, "--score-thr", threshold]
        run_tool(TOOL, image, CONFIG, checkpoint, *options, "--no-overlay")
        out = run_tool.folder / threshold
        (annotation,) = json.loads((out / "panoptic.json").read_text())["annotations"]
        segments = annotation["segments_info"]
        ids = set(np.unique(read_panoptic_png(out / "panoptic" / "000001.png"))) - {0}
        assert ids == {s["id"] for s in segments} == set(range(1, len(segments) + 1))
        scores[threshold] = sorted(s["score"] for s in segments if s["isthing"])
    assert scores["0.5"] == [s for s in scores["0"] if s >= 0.5]
    assert scores["2"] == []
