"""check.py refuses what training, testing or evaluation refuse, and nothing else."""

import copy
import json
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from mmpanoptic.datasets import PanopticDataset
from mmpanoptic.datasets.converters.checking import check_dataset, check_instances
from mmpanoptic.datasets.instance_json import read_instances
from mmpanoptic.evaluation.coco_ap import evaluate_coco_ap
from mmpanoptic.evaluation.panoptic_files import evaluate_files
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils.format_errors import PanopticFormatError, PanopticFormatWarning
from mmpanoptic.utils.panoptic_png import encode_panoptic_png

from . import tool
from .test_checking import IDS, KINDS, Dataset, change, png, write_instances

PIPELINE = [{"type": "LoadImage"}, {"type": "LoadPanopticAnnotations"}]


@pytest.fixture
def data(tmp_path):
    return Dataset(tmp_path)


def run_dataset(data, test_mode):
    dataset = PanopticDataset(
        str(data.json),
        data_prefix={"img": str(data.images), "seg": str(data.pngs)},
        pipeline=PIPELINE,
        test_mode=test_mode,
    )
    for item in dataset:
        assert item is not None


def run_evaluation(data):
    """Evaluate a prediction that equals the ground truth, except for segments without pixels."""
    entries = copy.deepcopy(data.content["annotations"])
    for entry in entries:
        segments = entry.get("segments_info") if isinstance(entry, dict) else None
        if isinstance(segments, list):
            entry["segments_info"] = [s for s in segments if s is None or s.get("id") != 9]
    prediction = data.json.with_name("prediction.json")
    prediction.write_text(json.dumps({"annotations": entries}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PanopticFormatWarning)
        evaluate_files(data.json, prediction, pred_folder=data.pngs)


USERS = {
    "training": lambda data: run_dataset(data, test_mode=False),
    "testing": lambda data: run_dataset(data, test_mode=True),
    "evaluation": run_evaluation,
}


def refusals(data):
    """Kinds of problems by who refuses."""
    found = {}
    for name, use in USERS.items():
        try:
            use(data)
        except PanopticFormatError as error:
            found[name] = set(error.kinds)
    return found


def in_json(place, field, value):
    return lambda d: d.content[place][1].update({field: value})


def in_segment(field, value):
    return lambda d: d.segment.update({field: value})


def photo(values, name="two.jpg"):
    return lambda d: Image.fromarray(values).save(d.images / name)


def cut_photo(d):
    path = d.images / "two.jpg"
    path.write_bytes(path.read_bytes()[:-20])


def turn_photo(d):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((2, 4, 3), np.uint8)).save(d.images / "two.jpg", exif=exif)


def category(**fields):
    return lambda d: d.content["categories"][1].update(fields)


NAN = float("nan")
FAULTS = {
    **{kind: change(kind) for kind in KINDS},
    "no problem": lambda d: None,
    "image entry null": lambda d: d.content["images"].append(None),
    "image id list": in_json("images", "id", [1]),
    "height text": in_json("images", "height", "2"),
    "height 0": in_json("images", "height", 0),
    "height fraction": in_json("images", "height", 2.0),
    "image name null": in_json("images", "file_name", None),
    "image name leads out": in_json("images", "file_name", "../two.jpg"),
    "image name with a backslash": in_json("images", "file_name", ".\\two.jpg"),
    "annotation null": lambda d: d.content["annotations"].append(None),
    "segments null": in_json("annotations", "segments_info", None),
    "segment null": lambda d: d.content["annotations"][1]["segments_info"].append(None),
    "no segments": in_json("annotations", "segments_info", []),
    "PNG name null": in_json("annotations", "file_name", None),
    "image id of another type": lambda d: (
        d.content["images"][1].update(id="2"),
        d.content["annotations"][1].update(image_id=2),
    ),
    "segment id list": in_segment("id", [1]),
    "segment id huge": in_segment("id", 1 << 24),
    "segment id fraction": in_segment("id", 300.0),
    "category text": in_segment("category_id", "5"),
    "crowd null": in_segment("iscrowd", None),
    "crowd text": in_segment("iscrowd", "0"),
    "area null": in_segment("area", None),
    "area nan": in_segment("area", NAN),
    "area negative": in_segment("area", -3),
    "no area": lambda d: d.segment.pop("area"),
    "box null": in_segment("bbox", None),
    "no box": lambda d: d.segment.pop("bbox"),
    "box of text": in_segment("bbox", "[1, 0, 2, 2]"),
    "box of three": in_segment("bbox", [1, 0, 2]),
    "box nan": in_segment("bbox", [1, 0, 2, NAN]),
    "image without annotation": lambda d: d.content["annotations"].pop(),
    "category id text": category(id="0"),
    "category name null": category(name=None),
    "category isthing null": category(isthing=None),
    "category twice": lambda d: d.content["categories"].append(d.content["categories"][0]),
    "name twice": category(name="sky"),
    "photograph missing": lambda d: (d.images / "two.jpg").unlink(),
    "photograph empty": lambda d: (d.images / "two.jpg").write_bytes(b""),
    "photograph cut off": cut_photo,
    "photograph larger": photo(np.zeros((3, 4, 3), np.uint8)),
    "photograph turned": turn_photo,
    "photograph of 16 bits": lambda d: (
        cv2.imwrite(str(d.images / "two.png"), np.zeros((2, 4), np.uint16)),
        d.content["images"][1].update(file_name="two.png"),
    ),
    "grey photograph": photo(np.zeros((2, 4), np.uint8)),
    "PNG with alpha": lambda d: (d.pngs / "two.png").write_bytes(
        png(np.dstack([cv2.imread(str(d.pngs / "two.png")), np.zeros((2, 4), np.uint8)]))
    ),
    "PNG turned": lambda d: (d.pngs / "two.png").write_bytes(encode_panoptic_png(IDS.T)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_check_refuses_what_others_refuse(data, name):
    FAULTS[name](data)
    data.save()
    errors = check_dataset(data.json, data.pngs, data.images).errors
    found = refusals(data)
    assert bool(errors) == bool(found), (errors, found)
    kinds = {problem.kind for problem in errors}
    # IoUs above 1 are what becomes of areas that are too small.
    named = {"wrong_area" if k == "impossible_iou" else k for k in set().union(*found.values())}
    assert not errors or kinds & named
    status = tool.call("check", data.json, "--png-dir", data.pngs, "--img-dir", data.images)[0]
    assert status == (1 if errors else 0)


@pytest.mark.parametrize("color", [[300, 0, 0], "#ff0000", [0.5, 0.2, 0.1], [1, 2], [1, 2, None]])
def test_colors_are_refused_by_check_and_replaced_in_training(data, color):
    """They serve drawing alone, so that training goes on, with a warning."""
    category(color=color)(data)
    data.save()
    (problem,) = check_dataset(data.json, data.pngs, data.images).errors
    assert problem.kind == "bad_field"
    assert "categories[1] (id 0).color must be three whole numbers 0..255" in problem.detail
    dataset = PanopticDataset(str(data.json), data_prefix={"seg": str(data.pngs)})
    assert all(0 <= part <= 255 for color in dataset.metainfo["palette"] for part in color)
    with pytest.raises(ValueError, match="three whole numbers"):
        LabelTable.from_categories(data.content["categories"])


INSTANCE_FAULTS = {
    "no problem": {},
    "id 0": {"id": 0},
    "id text": {"id": "1"},
    "id twice": {"id": 2},
    "image unknown": {"image_id": 9},
    "image text": {"image_id": "1"},
    "category unknown": {"category_id": 9},
    "crowd null": {"iscrowd": None},
    "mask null": {"segmentation": None},
    "mask empty": {"segmentation": []},
    "two points": {"segmentation": [[1, 2, 3, 4]]},
    "nan": {"segmentation": [[NAN, 2, 3, 4, 5, 6]]},
    "far": {"segmentation": [[0, 0, 1e9, 0, 1e9, 1e9]]},
    "pairs": {"segmentation": [[[0, 0], [3, 0], [3, 2]]]},
    "code short": {"segmentation": {"size": [4, 5], "counts": [3]}},
    "code of another size": {"segmentation": {"size": [5, 4], "counts": [20]}},
    "code in a list": {"segmentation": [{"size": [4, 5], "counts": [3, 4, 13]}]},
    "area null": {"area": None},
    "box of text": {"bbox": "0"},
}


@pytest.mark.filterwarnings("ignore:the ground truth uses annotation id 0")
@pytest.mark.parametrize("name", INSTANCE_FAULTS)
def test_check_refuses_instances_that_training_or_ap_refuse(tmp_path, name):
    path = write_instances(tmp_path / "i.json", **INSTANCE_FAULTS[name])
    content = json.loads(path.read_text())
    table = LabelTable.from_categories([{"id": 1, "name": "cat", "isthing": 1}])
    refused = False
    for use in (
        lambda: read_instances(content, str(path), table),
        lambda: evaluate_coco_ap(content, [], "segm"),
        lambda: evaluate_coco_ap(content, [], "bbox"),
    ):
        try:
            use()
        except PanopticFormatError:
            refused = True
    errors = [p for p in check_instances(path)[0] if p.kind != "zero_annotation"]
    assert bool(errors) == refused, errors
    assert tool.call("check", path)[0] == (1 if errors else 0)
