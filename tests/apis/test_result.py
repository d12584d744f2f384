"""What a result of inference says and gives, and how segments of videos are followed."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from mmpanoptic.apis import PanopticInferencer, PanopticResult, Segment
from mmpanoptic.apis.videos import SegmentLines, Tracker
from mmpanoptic.datasets.shapes import SHAPES_TABLE
from mmpanoptic.visualization.draw import segment_colors

from .tiny_model import CONFIG

THING, STUFF = (next(one for one in SHAPES_TABLE if one.isthing == kind) for kind in (True, False))


def make(*boxes, video=None, name="a", label=THING):
    """A result with a thing in each box (x1, y1, x2, y2) and stuff around, of 20 x 30 pixels."""
    seg = np.zeros((20, 30), np.int32)
    seg[:] = len(boxes) + 1
    for number, (x1, y1, x2, y2) in enumerate(boxes, 1):
        seg[y1:y2, x1:x2] = number
    infos = []
    for number, one in enumerate([label] * len(boxes) + [STUFF], 1):
        ys, xs = np.nonzero(seg == number)
        x, y = int(xs.min()), int(ys.min())
        box = [x, y, int(xs.max()) + 1 - x, int(ys.max()) + 1 - y]
        facts = {"category_id": one.dataset_id, "label": one.index, "name": one.name}
        info = {"id": number, **facts, "isthing": one.isthing, "score": 0.5 + number / 10}
        infos.append({**info, "area": len(ys), "bbox": box})
    image = np.dstack([np.arange(600, dtype=np.uint8).reshape(20, 30)] * 3)
    return PanopticResult(name, seg, infos, SHAPES_TABLE, image=image, video=video)


@pytest.fixture
def result():
    return make((2, 3, 8, 9), (10, 5, 15, 15))


def test_all_fields_tell_about_the_same_segments(result):
    assert result.masks.shape == (3, 20, 30)
    assert result.masks.dtype == bool
    assert result.masks.sum((1, 2)).tolist() == result.areas.tolist() == [36, 50, 514]
    assert result.boxes.tolist() == [[2, 3, 8, 9], [10, 5, 15, 15], [0, 0, 30, 20]]
    assert result.boxes.dtype == result.scores.dtype == np.float32
    assert result.labels.tolist() == [THING.index, THING.index, STUFF.index]
    assert result.names == [THING.name, THING.name, STUFF.name]
    assert result.scores.tolist() == pytest.approx([0.6, 0.7, 0.8])
    first = result.segments[0]
    assert first == Segment(
        1, THING.name, THING.index, THING.dataset_id, True, 0.6, 36, (2, 3, 8, 9), None
    )


def test_a_result_without_segments_has_empty_fields():
    empty = PanopticResult("a", np.zeros((4, 5), np.int32), [], SHAPES_TABLE)
    assert empty.masks.shape == (0, 4, 5)
    assert empty.boxes.shape == (0, 4)
    assert (empty.labels.shape, empty.names, empty.segments) == ((0,), [], [])
    assert repr(empty) == "PanopticResult(a, 5 x 4: nothing found)"


def test_the_repr_is_one_line(result):
    assert repr(result) == f"PanopticResult(a, 30 x 20: 2 {THING.name}, 1 {STUFF.name})"


def test_crops_are_of_the_image(result):
    assert np.array_equal(result.crop(0), result.image[3:9, 2:8])
    assert np.array_equal(result.crop(-1), result.image)
    assert np.array_equal(result.crop(0, margin=4), result.image[0:13, 0:12])
    cut = result.crop(-1, cut_out=True)
    assert not cut[~result.masks[-1]].any()
    assert np.array_equal(cut[result.masks[-1]], result.image[result.masks[-1]])
    with pytest.raises(IndexError, match="no segment 3: PanopticResult"):
        result.crop(3)


def test_pictures_for_notebooks_and_viewers(result, tmp_path, monkeypatch):
    picture = cv2.imdecode(np.frombuffer(result._repr_png_(), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(picture, result.draw())
    assert result.save(tmp_path / "new" / "x.PNG") == [tmp_path / "new" / "x.PNG"]
    assert np.array_equal(cv2.imread(str(tmp_path / "new" / "x.PNG")), picture)
    shown = []
    monkeypatch.setattr("PIL.Image.Image.show", lambda image, title: shown.append(image))
    result.show()
    assert np.array_equal(np.asarray(shown[0])[..., ::-1], picture)
    result.image = None
    assert result._repr_png_() is None


def test_entries_of_coco_have_names_by_default(result):
    entry = result.to_coco()
    assert (entry["image_id"], entry["file_name"]) == ("a", "a.png")
    assert json.loads(json.dumps(entry))["segments_info"][0]["bbox"] == [2, 3, 6, 6]


def test_a_table_of_pandas(result):
    pytest.importorskip("pandas")
    frame = result.to_pandas()
    assert frame["name"].tolist() == result.names
    assert frame[["x1", "y1", "x2", "y2"]].to_numpy().tolist() == result.boxes.tolist()
    assert len(make().to_pandas()) == 1


def test_detections_of_supervision(result):
    pytest.importorskip("supervision")
    found = result.to_supervision()
    assert np.array_equal(found.mask, result.masks)
    assert np.array_equal(found.xyxy, result.boxes)
    assert found.class_id.tolist() == result.labels.tolist()
    assert found.data["class_name"].tolist() == result.names


def test_a_missing_package_is_named(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="this needs pandas: pip install pandas"):
        result.to_pandas()


def test_things_keep_their_number_and_colour_from_frame_to_frame():
    tracker = Tracker()
    frames = [
        make((2, 3, 8, 9), (10, 5, 15, 15), video="v"),
        make((11, 5, 16, 15), (3, 3, 9, 9), (20, 1, 25, 6), video="v"),  # in another order, one new
        make((4, 3, 10, 9), video="v"),
        make((4, 3, 10, 9), video="other"),
    ]
    numbers = [[s.track_id for s in tracker.add(frame).segments[:-1]] for frame in frames]
    assert numbers == [[0, 1], [1, 0, 2], [0], [0]]
    stuff = {frame.segments[-1].track_id for frame in frames}
    assert stuff == {STUFF.index}
    first, second = (segment_colors(f.segments_info, SHAPES_TABLE).tolist() for f in frames[:2])
    assert first[1:3] == [second[2], second[1]]
    assert first[1] != first[2]


def test_a_class_that_changes_is_another_thing():
    other = next(one for one in SHAPES_TABLE if one.isthing and one != THING)
    tracker = Tracker()
    tracker.add(make((2, 3, 8, 9), video="v"))
    assert tracker.add(make((2, 3, 8, 9), video="v", label=other)).segments[0].track_id == 0
    assert tracker.add(make((2, 3, 8, 9), video="v")).segments[0].track_id == 1


def test_lines_of_a_video(tmp_path):
    tracker = Tracker()
    with SegmentLines(tmp_path) as lines:
        for number in (1, 2):
            lines.add("v", tracker.add(make((2, 3, 8, 9), video="v.mp4", name=f"v/{number:06d}")))
    first, second = map(json.loads, (tmp_path / "v.jsonl").read_text().splitlines())
    assert (first["frame"], second["frame"]) == (1, 2)
    assert first["segments"] == second["segments"]
    assert first["segments"][0]["box"] == [2, 3, 8, 9]
    assert first["segments"][0]["track_id"] == 0


def test_amp_and_device_are_understood():
    image = np.zeros((32, 48, 3), np.uint8)
    options = {"cfg_options": {"data_root": "none"}}
    result = PanopticInferencer(CONFIG, device="cpu", amp="bf16", **options)(image)[0]
    assert result.panoptic_seg.shape == (32, 48)
    with pytest.raises(ValueError, match="amp must be fp16 or bf16, got 'half'"):
        PanopticInferencer(CONFIG, device="auto", amp="half", **options)


def test_nothing_is_told_on_the_console(checkpoint, tmp_path):
    code = (
        "import sys, numpy as np\nfrom mmpanoptic.apis import PanopticInferencer\n"
        "segment = PanopticInferencer(sys.argv[1], sys.argv[2], 'cpu')\n"
        "segment(np.zeros((32, 48, 3), np.uint8))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, CONFIG, str(checkpoint)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert (done.stdout, done.stderr) == ("", "")
