"""Labels that other libraries read: the masks of a small set arrive pixel by pixel."""

import json
import shutil

import cv2
import numpy as np
import pytest

from mmpanoptic.utils.panoptic_png import read_panoptic_png

from . import tool
from .test_bad_values import VALUES, changed, places

CLASSES = "[{name: car, thing: true}, {name: dog, thing: true}, {name: road, thing: false}]"
NAMES = ["car", "dog", "road"]
SIZE = (48, 64)


def masks_of(seed):
    """Draw four instances that do not touch: class and bool mask."""
    rng = np.random.default_rng(seed)
    found = []
    for number, (y, x) in enumerate([(12, 14), (12, 46), (34, 14), (34, 46)]):
        mask = np.zeros(SIZE, np.uint8)
        axes = tuple(rng.integers(4, 10, 2).tolist())
        cv2.ellipse(mask, (x, y), axes, float(rng.integers(0, 180)), 0, 360, 1, -1)
        found.append((number % 2, mask.astype(bool)))
    return found


@pytest.fixture
def root(tmp_path):
    (tmp_path / "classes.yaml").write_text(CLASSES)
    for name in ("a", "sub/b"):
        path = tmp_path / "set" / "images" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((*SIZE, 3), np.uint8))
    return tmp_path


def convert(root, *args, images="set/images"):
    base = [root / "out", "--classes", root / "classes.yaml", "--images", root / images]
    return tool.call("own_data", *base, *args, "--nproc", 1)


def instances(root, name):
    """Read class and mask of every instance of a converted image."""
    content = json.loads((root / "out" / "annotations" / "panoptic_train.json").read_text())
    (entry,) = [a for a in content["annotations"] if a["file_name"] == f"{name}.png"]
    ids = read_panoptic_png(root / "out" / "annotations" / "panoptic_train" / f"{name}.png")
    return [(s["category_id"] - 1, ids == s["id"]) for s in entry["segments_info"]]


def same(found, expected):
    def key(item):
        return item[0], np.flatnonzero(item[1])[0]

    found, expected = sorted(found, key=key), sorted(expected, key=key)
    assert [kind for kind, _ in found] == [kind for kind, _ in expected]
    for (_, mine), (_, theirs) in zip(found, expected, strict=True):
        assert np.array_equal(mine, theirs)


def contour(mask):
    return cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0][0]


def write_yolo(root):
    (root / "set" / "data.yaml").write_text(json.dumps({"names": NAMES}))
    for seed, name in enumerate(("a", "sub/b")):
        lines = []
        for kind, mask in masks_of(seed):
            points = contour(mask)[:, 0] / np.array(SIZE[::-1])
            lines.append(f"{kind} " + " ".join(f"{value:.6f}" for value in points.ravel()))
        path = root / "set" / "labels" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))
    return ["--yolo", root / "set" / "data.yaml"]


def write_voc(root):
    for seed, name in enumerate(("a", "sub/b")):
        objects = []
        for kind, mask in masks_of(seed):
            points = contour(mask)[:, 0] + 1
            corners = "".join(
                f"<x{n}>{x}</x{n}><y{n}>{y}</y{n}>" for n, (x, y) in enumerate(points, 1)
            )
            x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
            box = (
                f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax>"
            )
            polygon = f"<polygon>{corners}</polygon>"
            objects.append(
                f"<object><name>{NAMES[kind]}</name><bndbox>{box}</bndbox>{polygon}</object>"
            )
        path = root / "xml" / f"{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<annotation>{''.join(objects)}</annotation>")
    return ["--voc", root / "xml"]


def write_cvat(root):
    """Masks of the brush, and one polygon along pixel borders."""
    parts = []
    for seed, name in enumerate(("a", "sub/b")):
        shapes = []
        for kind, mask in masks_of(seed):
            x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
            flat = mask[y : y + h, x : x + w].ravel().astype(int)
            changes = np.flatnonzero(np.diff(flat, prepend=0))
            runs = ", ".join(map(str, np.diff([0, *changes, flat.size]).tolist()))
            shapes.append(
                f'<mask label="{NAMES[kind]}" source="manual" occluded="0" rle="{runs}" left="{x}" '
                f'top="{y}" width="{w}" height="{h}" z_order="0"></mask>'
            )
        shapes.append(
            '<polygon label="road" source="manual" occluded="0" z_order="0" '
            'points="0,0;64,0;64,2;0,2"></polygon>'
        )
        parts.append(
            f'<image id="{seed}" name="{name}.jpg" width="64" height="48">{"".join(shapes)}</image>'
        )
    labels = "".join(f"<label><name>{n}</name><attributes></attributes></label>" for n in NAMES)
    task = f"<task><mode>annotation</mode><labels>{labels}</labels></task>"
    content = (
        f"<annotations><version>1.1</version><meta>{task}</meta>{''.join(parts)}</annotations>"
    )
    (root / "cvat.xml").write_text(content)
    return ["--cvat", root / "cvat.xml"]


CORNERS = [[(10, 5), (30, 5), (30, 15), (10, 15)], [(40, 20), (60, 20), (60, 40), (40, 40)]]


def write_label_studio(root, kind="polygonlabels"):
    tasks = []
    for number, name in enumerate(("a", "b"), 1):
        results = [
            {
                "id": f"r{k}",
                "type": kind,
                "from_name": "label",
                "to_name": "image",
                "original_width": 64,
                "original_height": 48,
                "image_rotation": 0,
                "value": {
                    "points": [[100 * x / 64, 100 * y / 48] for x, y in corners],
                    "closed": True,
                    kind: [NAMES[k]],
                },
            }
            for k, corners in enumerate(CORNERS)
        ]
        annotation = {"id": number, "completed_by": 1, "was_cancelled": False, "result": results}
        image = f"/data/upload/1/1a2b3c4d-{name}.jpg"
        tasks.append({"id": number, "data": {"image": image}, "annotations": [annotation]})
    (root / "studio.json").write_text(json.dumps(tasks))
    return ["--label-studio", root / "studio.json"]


WRITERS = {"yolo": write_yolo, "voc": write_voc}


@pytest.mark.parametrize("name", WRITERS)
def test_masks_of_supervision_arrive_pixel_by_pixel(root, name):
    pytest.importorskip("supervision")
    status, text, error = convert(root, *WRITERS[name](root))
    assert status == 0, error
    for seed, image in enumerate(("a", "sub/b")):
        same(instances(root, image), masks_of(seed))
    assert "(0 converted now)" in convert(root, *WRITERS[name](root))[1]
    for command in ("check.py", "train.py", "test.py"):
        assert command in text


@pytest.mark.parametrize("name", WRITERS)
def test_boxes_are_no_masks(root, name):
    pytest.importorskip("supervision")
    args = WRITERS[name](root)
    if name == "yolo":
        path = root / "set" / "labels" / "a.txt"
        path.write_text(path.read_text() + "\n0 0.5 0.5 0.1 0.1\n")
        words = "line 5 is a box, without a polygon: '0 0.5 0.5 0.1 0.1'"
    else:
        path = root / "xml" / "a.xml"
        text = path.read_text()
        path.write_text(text[: text.index("<polygon>")] + text[text.index("</polygon>") + 10 :])
        words = "1 of 4 objects are boxes, without a polygon"
    status, _, error = convert(root, *args)
    assert status == 1
    assert "[bad_segmentation]" in error
    assert words in error
    assert path.name in error


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("yolo", "0 0.1 0.1 a 0.2 0.3 0.3", "supervision: "),
        ("yolo", "9 0.1 0.1 0.2 0.2 0.3 0.3", "a.txt"),
        ("voc", "<annotation><object><polygon></polygon></annotation>", "supervision: "),
        ("voc", "<annotation><object><polygon></polygon></object></annotation>", "supervision: "),
    ],
)
def test_broken_files_are_named(root, name, content, words):
    pytest.importorskip("supervision")
    args = WRITERS[name](root)
    path = root / ("set/labels/a.txt" if name == "yolo" else "xml/a.xml")
    path.write_text(content)
    status, _, error = convert(root, *args)
    assert status == 1
    assert words in error
    assert path.name in error
    assert "not foreseen" not in error


def test_unknown_classes_of_yolo_are_listed(root):
    pytest.importorskip("supervision")
    args = write_yolo(root)
    (root / "set" / "data.yaml").write_text(json.dumps({"names": ["car", "wolf", "road"]}))
    error = convert(root, *args)[2]
    assert "the class 'wolf' is not in" in error


def test_labels_that_are_nowhere_are_said(root):
    pytest.importorskip("supervision")
    (root / "names.yaml").write_text("names: [car]")
    assert "there are no labels/*.txt" in convert(root, "--yolo", root / "names.yaml")[2]
    (root / "xml").mkdir()
    assert "there are no XML files in" in convert(root, "--voc", root / "xml")[2]
    (root / "xml" / "zebra.xml").write_text("<annotation></annotation>")
    assert "there is no image of this name" in convert(root, "--voc", root / "xml")[2]


def test_vocs_own_masks_are_label_and_instance_maps(root):
    """SegmentationClass and SegmentationObject need no library."""
    from PIL import Image

    for seed, name in enumerate(("a", "sub/b")):
        labels, numbers = np.full(SIZE, 255, np.uint8), np.full(SIZE, 255, np.uint8)
        for number, (kind, mask) in enumerate(masks_of(seed), 1):
            labels[mask], numbers[mask] = kind + 1, number
        for folder, values in (("SegmentationClass", labels), ("SegmentationObject", numbers)):
            path = root / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(values, "P")
            image.putpalette(list(range(256)) * 3)
            image.save(path)
    classes = "[{name: car, value: 1, thing: 1}, {name: dog, value: 2, thing: 1}]"
    (root / "classes.yaml").write_text(f"{{classes: {classes}, ignore: [255]}}")
    args = ["--labels", root / "SegmentationClass", "--instances", root / "SegmentationObject"]
    assert convert(root, *args)[0] == 0
    for seed, image in enumerate(("a", "sub/b")):
        same(instances(root, image), masks_of(seed))


def test_a_program_that_is_absent_is_explained(root, monkeypatch):
    monkeypatch.setenv("PATH", str(root))
    status, _, error = convert(root, *write_cvat(root))
    assert status == 1
    assert "pipx install 'datumaro[cli]'" in error
    status, _, error = convert(root, *write_label_studio(root))
    assert status == 1
    assert "pipx install label-studio-converter" in error


def test_results_that_are_no_polygon_are_refused(root):
    status, _, error = convert(root, *write_label_studio(root, "brushlabels"))
    assert status == 1
    assert "tasks[0] (id 1).result[0] has the type 'brushlabels', which is no polygon" in error
    assert "4 problems in the data" in error


def edit_tasks(root, change):
    args = write_label_studio(root)
    tasks = json.loads((root / "studio.json").read_text())
    changed = change(tasks)
    (root / "studio.json").write_text(json.dumps(tasks if changed is None else changed))
    return convert(root, *args)[2]


def result(tasks):
    return tasks[0]["annotations"][0]["result"][0]


STUDIO_FAULTS = {
    "no list": (lambda t: {"tasks": t}, "the file must hold a list of tasks"),
    "no results": (lambda t: t.clear(), "the file has no results"),
    "null": (lambda t: t.append(None), "tasks[2] must be an object, got None"),
    "annotations null": (lambda t: t[0].update(annotations=None), "must be a list of objects"),
    "two annotators": (
        lambda t: t[0]["annotations"].append(t[0]["annotations"][0]),
        "tasks[0] (id 1) has 2 annotations of one image; cancel all but one",
    ),
    "no image": (lambda t: t[0].update(data={"text": "x"}), "tasks[0] (id 1).data must name one"),
    "other image": (
        lambda t: t[0].update(data={"image": "/data/upload/1/nowhere.jpg"}),
        "there is no such image in",
    ),
    "points null": (lambda t: result(t)["value"].update(points=None), "at least three pairs"),
    "a line": (lambda t: result(t)["value"]["points"].__delitem__(slice(2)), "at least three"),
    "two classes": (
        lambda t: result(t)["value"].update(polygonlabels=["car", "dog"]),
        "polygonlabels must be one class, got ['car', 'dog']",
    ),
    "no size": (
        lambda t: result(t).update(original_width=None),
        "must have original_width and original_height",
    ),
    "turned": (lambda t: result(t).update(image_rotation=90), "turned by 90 degrees"),
}


@pytest.mark.parametrize("name", STUDIO_FAULTS)
def test_faults_of_label_studio_files_are_named(root, name):
    change, words = STUDIO_FAULTS[name]
    error = edit_tasks(root, change)
    assert words in error
    assert "studio.json" in error


@pytest.mark.parametrize("value", VALUES)
def test_any_value_in_a_label_studio_file_is_taken_or_explained(root, monkeypatch, value):
    monkeypatch.setenv("PATH", str(root))
    args = write_label_studio(root)
    content = json.loads((root / "studio.json").read_text())[:1]
    for place in places(content):
        changed_content = changed(content, place, VALUES[value])
        (root / "studio.json").write_text(json.dumps(changed_content))
        status, _, error = convert(root, *args)
        assert status == 1  # at the latest since the converter is not there
        assert "not foreseen" not in error, place


@pytest.mark.parametrize("shape", ["box", "polyline", "points", "ellipse"])
def test_shapes_of_cvat_without_an_area_are_refused(root, shape):
    args = write_cvat(root)
    text = (root / "cvat.xml").read_text()
    (root / "cvat.xml").write_text(text.replace("</image>", f'<{shape} label="car"/></image>', 1))
    status, _, error = convert(root, *args)
    assert status == 1
    assert f"no polygon and no mask (1 {shape})" in error


needs = {
    name: pytest.mark.skipif(shutil.which(name) is None, reason=f"needs the program {name}")
    for name in ("datum", "label-studio-converter")
}


@pytest.mark.optional
@needs["datum"]
def test_masks_of_cvat_arrive_pixel_by_pixel(root):
    status, text, error = convert(root, *write_cvat(root))
    assert status == 0, error
    road = np.zeros(SIZE, bool)
    road[:2] = True
    for seed, image in enumerate(("a", "sub/b")):
        same(instances(root, image), [*masks_of(seed), (2, road)])
    assert "kept as crowd                         0" in text
    record = root / "out" / "annotations" / "panoptic_train.conversion.json"
    sources = json.loads(record.read_text())["images"]["a.png"]["sources"]
    assert sources == ["../../set/images/a.jpg", "../../cvat.xml"]


@pytest.mark.optional
@needs["datum"]
def test_a_broken_cvat_file_is_named(root):
    (root / "cvat.xml").write_text("<annotations>")
    status, _, error = convert(root, "--cvat", root / "cvat.xml")
    assert status == 1
    assert "datum cannot read it" in error
    assert "cvat.xml" in error


STUDIO_NAMES = [
    "/data/upload/1/1a2b3c4d-{name}.jpg",
    "/data/local-files/?d=set/images/{path}.jpg",
    "https://example.org/{path}.jpg?token=1",
    "s3://bucket/{name}.jpg",
]


@pytest.mark.optional
@needs["label-studio-converter"]
@pytest.mark.parametrize("image", STUDIO_NAMES)
def test_polygons_of_label_studio_arrive_pixel_by_pixel(root, image):
    args = write_label_studio(root)
    tasks = json.loads((root / "studio.json").read_text())
    for task, path in zip(tasks, ("a", "sub/b"), strict=True):
        task["data"]["image"] = image.format(path=path, name=path[-1])
        cancelled = {**task["annotations"][0], "was_cancelled": True}
        task["annotations"].append(cancelled)
    (root / "studio.json").write_text(json.dumps(tasks))
    status, _, error = convert(root, *args)
    assert status == 0, error
    expected = []
    for kind, corners in enumerate(CORNERS):
        mask = np.zeros(SIZE, bool)
        (x0, y0), _, (x1, y1), _ = corners
        mask[y0:y1, x0:x1] = True
        expected.append((kind, mask))
    same(instances(root, "a"), expected)
    same(instances(root, "sub/b"), expected)
