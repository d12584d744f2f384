"""Extraction of relations against what RAP's tools write, and the ground truth they give."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mmpanoptic.datasets import CocoPanopticDataset
from mmpanoptic.datasets.converters.relation_files import extract_relations, load_set
from mmpanoptic.datasets.converters.relation_matching import match_nearest_box
from mmpanoptic.datasets.converters.relations import RelationOptions, Silhouette, add_overlaps
from mmpanoptic.structures import relation_matrix
from tests.golden import golden_files

SYSTEM = "rap"
SETS = golden_files(SYSTEM, "mini_coco*/annotations")


def load(path):
    return json.loads(Path(path).read_text())


@pytest.fixture(params=SETS, ids=lambda p: p.parent.name)
def coco(request):
    """The set, the folder of its PNGs, and what is expected."""
    folder = request.param
    source = load_set(folder / "instances.json", folder / "panoptic.json")
    return source, folder / "panoptic", folder.parents[1] / f"{folder.parent.name}_expected"


@pytest.mark.parametrize("nproc", [1, 2])
def test_relations_are_those_of_the_original(coco, nproc):
    source, pngs, expected = coco
    relations, counts = extract_relations(source, RelationOptions(), nproc, pngs, False)
    wanted = load(expected / "relations.json")
    assert json.loads(json.dumps(relations)) == wanted
    assert counts.relations == sum(len(f) for image in wanted.values() for f in image.values())
    assert counts.images == len(wanted)


def test_every_annotation_gets_its_overlap(coco):
    source, _, expected = coco
    relations, _ = extract_relations(source, RelationOptions(), show_progress=False)
    add_overlaps(source.content["annotations"], relations)
    found = {str(a["id"]): a["overlap"] for a in source.content["annotations"]}
    assert found == load(expected / "overlap_field.json")


def test_matches_and_masks_are_those_of_the_original(coco):
    source, _, expected = coco
    details = load(expected / "relation_details.json")
    for image_id, size, instances, segments, _ in source.entries:
        detail = details.get(str(image_id))
        if detail is None:
            continue
        things = [s for s in segments if s["category_id"] in source.thing_ids]
        matches = match_nearest_box(instances, things)
        found = {str(instances[n]["id"]): things[p]["id"] for n, p in matches.items()}
        assert found == detail["matched"]
        by_id = {instance["id"]: instance for instance in instances}
        shapes = [Silhouette(by_id[i]["segmentation"], size) for i in detail["used"]]
        np.testing.assert_allclose([s.area for s in shapes], detail["area"], rtol=0, atol=6)
        for i, j, common in detail["inter"]:
            assert abs(shapes[i].intersection(shapes[j]) - common) <= 6


TARGETS = golden_files(SYSTEM, "dataset_targets*.json")


@pytest.mark.parametrize("path", TARGETS, ids=lambda p: p.stem)
def test_the_dataset_yields_the_ground_truth_of_the_original(path, tmp_path):
    """Boxes are those of the rasterised masks; the original takes them from the JSON."""
    golden = load(path)
    folder = path.parent / "mini_coco" / "annotations"
    content = load(folder / "instances.json")
    overlaps = load(path.parent / "mini_coco_expected" / "overlap_field.json")
    for annotation in content["annotations"]:
        annotation["overlap"] = overlaps[str(annotation["id"])]
    (tmp_path / "instances.json").write_text(json.dumps(content))
    dataset = CocoPanopticDataset(
        ann_file=str(folder / "panoptic.json"),
        data_prefix={"img": str(folder.parent / "images"), "seg": str(folder / "panoptic")},
        instances_file=str(tmp_path / "instances.json"),
        pipeline=[
            {"type": "LoadImage"},
            {"type": "LoadPanopticAnnotations"},
            {"type": "PackPanopticInputs", "with_instances": True},
        ],
        use_cache=False,
    )
    seen = 0
    for sample in (item["data_samples"] for item in dataset):
        wanted = golden["images"].get(str(sample.img_id))
        if wanted is None:
            continue
        # The original drops boxes that are one pixel thin; here what has a pixel stays.
        extent = sample.gt_instances.bboxes[:, 2:] - sample.gt_instances.bboxes[:, :2]
        known = [i in wanted["instance_ids"] for i in sample.gt_instances.instance_id.tolist()]
        assert (extent.amin(1) > 2).tolist() == known
        found = sample.gt_instances[torch.tensor(known, dtype=torch.bool)]
        ids = found.instance_id.tolist()
        kept = [k for k, number in enumerate(wanted["instance_ids"]) if number in ids]
        assert ids == [wanted["instance_ids"][k] for k in kept]
        assert (found.labels + 1).tolist() == [wanted["labels"][k] for k in kept]
        expected = np.array(wanted["boxes"], np.float32)[kept] + (0, 0, 1, 1)
        np.testing.assert_allclose(found.bboxes, expected, atol=1.51)
        pairs = {(ids[i], ids[j]) for i, j in relation_matrix(found).nonzero().tolist()}
        assert pairs == {tuple(p) for p in wanted["pairs_front_behind"] if set(p) <= set(ids)}
        seen += len(pairs)
    assert seen > 0
