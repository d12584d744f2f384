"""Converters against the output of the published ones (tests/data/golden/evaluation)."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmpanoptic.datasets.converters import ade20k
from mmpanoptic.datasets.converters.cityscapes import CityscapesFolders, convert_cityscapes
from mmpanoptic.datasets.converters.cityscapes_polygons import draw_maps
from mmpanoptic.datasets.converters.coco_instances import convert_to_instances
from mmpanoptic.datasets.converters.coco_semantic import convert_to_semantic
from mmpanoptic.datasets.converters.panoptic_source import load_source
from mmpanoptic.datasets.label_sets import COCO_PANOPTIC
from mmpanoptic.datasets.label_sets_ade20k import ADE20K_CLASSES, category_id
from mmpanoptic.utils.panoptic_png import encode_panoptic_png, read_panoptic_png
from mmpanoptic.utils.segmentations import decode
from tests.datasets.converters import tool
from tests.golden import golden_files

CITYSCAPES = golden_files("evaluation", "cityscapes*/gtFine")
KINDS = ("train_ids", "panoptic", "instances")


def load(path):
    return json.loads(Path(path).read_text())


@pytest.fixture(params=CITYSCAPES, ids=lambda p: p.parent.name)
def cityscapes(request, tmp_path):
    """The golden folder and a copy with nothing but the official files, converted."""
    golden = request.param.parent
    derived = ("labelTrainIds.png", "instanceTrainIds.png")
    for source in (golden / "gtFine").glob("*/*/*"):
        if not source.name.endswith(derived):
            target = tmp_path / source.relative_to(golden)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    folders = CityscapesFolders(
        tmp_path,
        tmp_path / "leftImg8bit",
        tmp_path / "gtFine",
        tmp_path / "annotations",
        tmp_path / "gtFine",
    )
    convert_cityscapes(folders, KINDS, folders.splits(), historical_names=True)
    return golden, tmp_path


@pytest.mark.parametrize("kind", ["labelTrainIds", "instanceTrainIds"])
def test_cityscapes_train_ids(cityscapes, kind):
    golden, ours = cityscapes
    paths = sorted(golden.glob(f"gtFine/*/*/*_{kind}.png"))
    assert paths
    for path in paths:
        wanted = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        made = cv2.imread(str(ours / path.relative_to(golden)), cv2.IMREAD_UNCHANGED)
        assert made.dtype == wanted.dtype
        assert np.array_equal(made, wanted), path.name


def test_cityscapes_panoptic_json_and_png(cityscapes):
    golden, ours = cityscapes
    paths = sorted(golden.glob("gtFine/cityscapes_panoptic_*.json"))
    assert any("trainId" in path.name for path in paths)
    for path in paths:
        wanted, made = load(path), load(ours / path.relative_to(golden))
        for field in ("images", "annotations", "categories"):
            assert made[field] == wanted[field]
        for annotation in wanted["annotations"]:
            png = Path(path.stem) / annotation["file_name"]
            assert np.array_equal(
                read_panoptic_png(ours / "gtFine" / png), read_panoptic_png(path.parent / png)
            )


def test_cityscapes_instance_json(cityscapes):
    golden, ours = cityscapes
    for path in sorted(golden.glob("annotations/instancesonly_*.json")):
        wanted, made = load(path), load(ours / path.relative_to(golden))
        assert made["images"] == wanted["images"]
        assert made["categories"] == wanted["categories"]
        ids = [annotation.pop("id") for annotation in made["annotations"]]
        assert ids == list(range(1, len(ids) + 1))
        for annotation in wanted["annotations"]:
            del annotation["id"]
        assert made["annotations"] == wanted["annotations"]


@pytest.mark.parametrize(
    "path",
    golden_files("evaluation", "cityscapes*/gtFine/*/*/*_polygons.json"),
    ids=lambda p: p.name.split("_gtFine")[0],
)
def test_cityscapes_maps_drawn_from_polygons(path):
    # The rasterization of the border depends on the Pillow version.
    maps = draw_maps(load(path), path)
    for kind, drawn in zip(("labelIds", "instanceIds"), maps, strict=True):
        official = path.with_name(path.name.replace("polygons.json", f"{kind}.png"))
        wanted = cv2.imread(str(official), cv2.IMREAD_UNCHANGED)
        assert drawn.dtype == wanted.dtype
        assert (drawn != wanted).sum() <= 10


# The styles of the golden file and ours.
STYLES = {
    "rap_133": "one_based",
    "rap_pfpn": "things_last",
    "detectron2_pfpn": "things_zero",
    "contiguous_133": "contiguous",
    "panopticapi_category_ids": "category_id",
    "panopticapi_things_other": "things_other",
}
MODES = {"semantic": "merged", "detection_all": "all", "detection_things": "things"}


@pytest.fixture(
    params=golden_files("evaluation", "converters*/coco_panoptic_to_json.json"),
    ids=lambda p: p.parent.name,
)
def coco(request, tmp_path):
    """The golden JSON and the panoptic set it was made from, painted from its masks of all
    segments (the set itself is not in the repository)."""
    golden = load(request.param)
    images, annotations = {}, {}
    for segment in golden["detection_all"]:
        height, width = segment["segmentation"]["size"]
        image_id = segment["image_id"]
        name = f"{image_id:012d}"
        if image_id not in images:
            size = {"height": height, "width": width}
            images[image_id] = {"id": image_id, "file_name": f"{name}.jpg", **size}
            annotations[image_id] = {
                "image_id": image_id,
                "file_name": f"{name}.png",
                "segments_info": [],
                "ids": np.zeros((height, width), np.int32),
            }
        annotation = annotations[image_id]
        # Ids of more than one byte, and not in ascending order.
        segment_id = 70000 - 300 * len(annotation["segments_info"])
        mask = decode(segment["segmentation"], height, width).astype(bool)
        annotation["ids"][mask] = segment_id
        fields = {k: segment[k] for k in ("category_id", "iscrowd", "area", "bbox")}
        annotation["segments_info"].append({"id": segment_id, **fields})
    for annotation in annotations.values():
        path = tmp_path / "panoptic_val2017" / annotation["file_name"]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_panoptic_png(annotation.pop("ids")))
    content = {
        "images": list(images.values()),
        "annotations": list(annotations.values()),
        "categories": COCO_PANOPTIC.to_categories(),
    }
    (tmp_path / "panoptic_val2017.json").write_text(json.dumps(content))
    return request.param.parent, golden, load_source(tmp_path / "panoptic_val2017.json")


@pytest.mark.parametrize("golden_style", STYLES)
def test_coco_panoptic_to_semantic(coco, golden_style):
    folder, _, source = coco
    maps = np.load(folder / "coco_panoptic_to_semantic.npz")
    out = convert_to_semantic(source, STYLES[golden_style]).target
    keys = [key for key in maps if key.startswith(f"{golden_style}/")]
    assert len(keys) == len(source.records)
    for key in keys:
        made = cv2.imread(str(out / f"{int(key.split('/')[1]):012d}.png"), cv2.IMREAD_UNCHANGED)
        assert made.dtype == np.uint8
        assert np.array_equal(made, maps[key]), key


@pytest.mark.parametrize("part", MODES)
def test_coco_panoptic_to_instances(coco, part, tmp_path):
    _, golden, source = coco
    path = convert_to_instances(source, tmp_path / "out.json", MODES[part]).target
    made = load(path)["annotations"]
    assert [annotation.pop("id") for annotation in made] == list(range(1, len(made) + 1))
    wanted = [{k: v for k, v in a.items() if k != "id"} for a in golden[part]]

    def order(annotation):
        return annotation["image_id"], annotation["category_id"], str(annotation["segmentation"])

    assert sorted(made, key=order) == sorted(wanted, key=order)


ADE20K = golden_files("evaluation", "ade20k*/expected.json")


def ade20k_sorted(segments):
    return sorted(segments, key=lambda s: (s["category_id"], s["area"], s["bbox"]))


@pytest.mark.parametrize("path", ADE20K, ids=lambda p: p.parent.name)
@pytest.mark.parametrize("flavour", ["mask2former", "mmdet"])
@pytest.mark.parametrize("published_areas", [True, False])
def test_ade20k_panoptic(path, flavour, published_areas, tmp_path):
    expected, maps = load(path)[flavour], np.load(path.parent / "expected_segment_maps.npz")
    summary = ade20k.make_panoptic(path.parent, tmp_path, "validation", flavour, published_areas)
    made = load(summary.target)
    assert [a["image_id"] for a in made["annotations"]] == sorted(expected)
    for annotation in made["annotations"]:
        wanted = expected[annotation["image_id"]]
        segments = annotation["segments_info"]
        ids = read_panoptic_png(summary.target.with_suffix("") / annotation["file_name"])
        by_position = maps[f"{flavour}/{annotation['image_id']}"]
        seen = set()
        for segment in segments:
            positions = np.unique(by_position[ids == segment["id"]])
            assert len(positions) == 1
            reference = wanted[positions[0] - 1]
            assert segment["category_id"] == reference["category_id"]
            assert segment["iscrowd"] == reference["iscrowd"]
            y, x = np.nonzero(by_position == positions[0])
            if published_areas:
                assert segment["area"] == reference["area"]
            else:
                assert segment["area"] == len(x)
            # mmdet's boxes of things are wrong.
            if published_areas and flavour == "mask2former":
                assert segment["bbox"] == reference["bbox"]
            elif not published_areas:
                box = [x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1]
                assert segment["bbox"] == box
            seen.add(int(positions[0]))
        assert seen == set(range(1, len(wanted) + 1))
        assert np.array_equal(ids == 0, by_position == 0)


@pytest.mark.parametrize("path", ADE20K, ids=lambda p: p.parent.name)
def test_ade20k_instances(path, tmp_path):
    expected = load(path)["instance_json"]
    made = load(ade20k.make_instances(path.parent, tmp_path, "validation", "mask2former").target)
    assert made["annotations"] == expected["annotations"]
    assert made["images"] == expected["images"]
    assert [c["id"] for c in made["categories"]] == [c["id"] for c in expected["categories"]]


@pytest.mark.parametrize("path", ADE20K, ids=lambda p: p.parent.name)
def test_ade20k_classes(path):
    golden = load(path.parent / "ade20k_150_categories.json")
    for entry, wanted in zip(ADE20K_CLASSES, golden, strict=True):
        assert entry.value == wanted["semantic_value"]
        assert entry.name == wanted["name"]
        assert entry.isthing == bool(wanted["isthing"])
        assert list(entry.color) == wanted["color"]
        assert category_id(entry, "mask2former") == wanted["mask2former_id"]
        assert category_id(entry, "mmdet") == wanted["mmdet_id"]
        if entry.isthing:
            assert entry.mmdet_id == wanted["instance_class"] - 1


@pytest.mark.parametrize(
    "folder",
    [path.parent for path in golden_files("evaluation", "coco_invalid*/*/gt.json")],
    ids=lambda p: p.name,
)
def test_the_checker_finds_what_the_published_evaluator_rejects(folder, tmp_path):
    index = load(folder.parent / "index.json")
    kinds = index[folder.name]["error_kinds"]
    status, _, error = tool.call(
        "check",
        folder / "gt.json",
        "--prediction",
        folder / "pred.json",
        "--report",
        tmp_path / "problems.json",
    )
    assert status == 1, error
    found = {problem["kind"] for problem in load(tmp_path / "problems.json")["problems"]}
    assert found & set(kinds)
    assert found <= set(kinds) | {"png_id_not_in_json"}
