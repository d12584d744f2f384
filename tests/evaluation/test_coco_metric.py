import json
import os

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmpanoptic.evaluation import CocoInstanceMetric
from mmpanoptic.evaluation.coco_ap import evaluate_coco_ap
from mmpanoptic.evaluation.coco_metric import encode_masks, encode_segments
from mmpanoptic.registry import METRICS
from mmpanoptic.structures import LabelTable, make_panoptic_data

# Stuff first, and things in another order than in the instance JSON below.
TABLE = LabelTable.from_categories(
    [
        {"id": 1, "name": "grass", "isthing": 0},
        {"id": 90, "name": "dog", "isthing": 1},
        {"id": 3, "name": "cat", "isthing": 1},
    ]
)
GRASS, DOG, CAT = range(3)
JSON_CATEGORIES = [{"id": 5, "name": "cat"}, {"id": 4, "name": "dog"}]


def box_mask(y, x, height, width):
    mask = np.zeros((40, 50), bool)
    mask[y : y + height, x : x + width] = True
    return mask


SCENES = {  # image id: (label, mask) of its instances
    10: [(DOG, box_mask(0, 0, 10, 12)), (CAT, box_mask(20, 20, 15, 9))],
    20: [(CAT, box_mask(5, 5, 30, 30))],
    30: [],
}


def write_truth(path, image_ids=None):
    annotations = []
    category_of = {DOG: 4, CAT: 5}
    for image_id, instances in SCENES.items():
        for label, mask in instances:
            ys, xs = np.nonzero(mask)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category_of[label],
                    "bbox": [int(v) for v in (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1)],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": encode_masks(mask[None])[0],
                }
            )
    images = [
        {"id": i, "file_name": f"folder/image_{i}.jpg", "height": 40, "width": 50} for i in SCENES
    ]
    content = {"images": images, "annotations": annotations, "categories": JSON_CATEGORIES}
    path.write_text(json.dumps(content))
    return path


def make_samples(shift=0, with_boxes=True, ids_as_text=False):
    samples = []
    for index, (image_id, instances) in enumerate(SCENES.items()):
        masks = [np.roll(mask, shift, 1) for _, mask in instances]
        sample = DetDataSample(
            metainfo={
                "sample_idx": index,
                "img_id": f"name_{image_id}" if ids_as_text else image_id,
                "img_path": f"/somewhere/image_{image_id}.jpg",
            }
        )
        predictions = InstanceData()
        stacked = np.stack(masks) if masks else np.zeros((0, 40, 50), bool)
        predictions.masks = torch.from_numpy(stacked)
        predictions.labels = torch.tensor([label for label, _ in instances], dtype=torch.int64)
        predictions.scores = torch.linspace(0.9, 0.5, len(instances))
        if with_boxes:
            corners = [
                [x.min(), y.min(), x.max() + 1, y.max() + 1] for y, x in map(np.nonzero, masks)
            ]
            predictions.bboxes = torch.tensor(np.array(corners, np.float32).reshape(-1, 4))
        sample.pred_instances = predictions
        samples.append(sample)
    return samples


def make_metric(**settings):
    metric = METRICS.build({"type": "CocoInstanceMetric", **settings})
    metric.dataset_meta = TABLE.to_metainfo()
    return metric


@pytest.fixture
def ann_file(tmp_path):
    return str(write_truth(tmp_path / "instances.json"))


def evaluate(ann_file, samples, **settings):
    metric = make_metric(ann_file=ann_file, **settings)
    metric.process(None, samples)
    return metric.evaluate(len(SCENES))


@pytest.mark.parametrize("with_boxes", [True, False])
@pytest.mark.parametrize("ids_as_text", [False, True])
def test_perfect_predictions_score_100(ann_file, with_boxes, ids_as_text):
    metrics = evaluate(ann_file, make_samples(0, with_boxes, ids_as_text))
    assert metrics["coco/bbox_AP"] == pytest.approx(100)
    assert metrics["coco/segm_AP"] == pytest.approx(100)
    assert metrics["coco/segm_APs"] == pytest.approx(100)
    assert np.isnan(metrics["coco/segm_APl"])


def test_order_and_repeated_images_change_nothing(ann_file):
    samples = make_samples(shift=1)
    expected = evaluate(ann_file, samples)
    assert 0 < expected["coco/segm_AP"] < 100
    repeated = [samples[2], samples[1], samples[1], samples[0]]
    assert evaluate(ann_file, repeated) == pytest.approx(expected, abs=0, nan_ok=True)


def test_written_files_give_the_numbers_of_the_memory(ann_file, tmp_path):
    prefix = tmp_path / "out" / "val"
    metrics = evaluate(ann_file, make_samples(shift=1), outfile_prefix=prefix)
    truth = json.loads((tmp_path / "instances.json").read_text())
    for kind in ("bbox", "segm"):
        found = json.loads((tmp_path / "out" / f"val.{kind}.json").read_text())
        scores = evaluate_coco_ap(truth, found, kind)
        for name, value in scores.statistics.items():
            assert metrics[f"coco/{kind}_{name}"] == pytest.approx(100 * value, abs=0, nan_ok=True)


def test_format_only_needs_no_annotations_and_writes_dataset_ids(tmp_path):
    samples = make_samples()
    samples[0].pred_instances.labels[0] = GRASS
    metric = make_metric(metric="segm", format_only=True, outfile_prefix=tmp_path / "test")
    metric.process(None, samples)
    assert metric.evaluate(len(SCENES)) == {}
    written = json.loads((tmp_path / "test.segm.json").read_text())
    assert [(entry["image_id"], entry["category_id"]) for entry in written] == [(10, 3), (20, 3)]
    assert set(written[0]) == {"image_id", "category_id", "score", "segmentation"}
    assert not (tmp_path / "test.bbox.json").exists()


def test_images_that_were_not_evaluated_do_not_count(ann_file):
    metric = make_metric(ann_file=ann_file)
    metric.process(None, make_samples()[1:])
    assert metric.evaluate(2)["coco/segm_AP"] == pytest.approx(100)


def test_images_of_another_split_are_refused(ann_file):
    samples = make_samples()
    samples[0].set_metainfo({"img_id": 77, "img_path": "x.jpg"})
    with pytest.raises(
        ValueError, match=r"instances\.json has no image with the id 77 or .*x\.jpg"
    ):
        evaluate(ann_file, samples)


def test_things_must_be_categories(tmp_path, ann_file):
    content = json.loads((tmp_path / "instances.json").read_text())
    content["categories"][1]["name"] = "wolf"
    (tmp_path / "instances.json").write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"instances\.json has no categories named dog.* cat, wolf"
    ):
        evaluate(ann_file, make_samples())


def test_a_panoptic_file_is_recognized(tmp_path):
    path = tmp_path / "panoptic.json"
    annotations = [{"image_id": 1, "segments_info": []}]
    path.write_text(json.dumps({"images": [], "categories": [], "annotations": annotations}))
    with pytest.raises(ValueError, match=r"the ground truth is a panoptic JSON.*panoptic\.json"):
        evaluate(str(path), make_samples())


def test_fields_of_different_length_are_refused(ann_file):
    fields = make_samples()[0].to_dict()
    fields["pred_instances"]["scores"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"differ in length: \{'labels': 2, 'scores': 1"):
        evaluate(ann_file, [fields])


def test_mask_ap_needs_masks(ann_file):
    samples = make_samples()
    del samples[0].pred_instances.masks
    with pytest.raises(ValueError, match=r"CocoInstanceMetric needs pred_instances\.masks"):
        evaluate(ann_file, samples)
    samples = make_samples()
    for sample in samples:
        del sample.pred_instances.masks
    assert evaluate(ann_file, samples, metric="bbox")["coco/bbox_AP"] == pytest.approx(100)


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="needs ann_file"):
        CocoInstanceMetric()
    with pytest.raises(ValueError, match="metric must be of bbox, segm, got 'keypoints'"):
        CocoInstanceMetric("a.json", metric="keypoints")
    with pytest.raises(ValueError, match="unknown backend"):
        CocoInstanceMetric("a.json", backend="fast")


def test_masks_survive_encoding():
    from pycocotools import mask as coco_mask

    masks = np.random.default_rng(0).random((3, 7, 5)) < 0.5
    decoded = [coco_mask.decode(entry) for entry in encode_masks(masks)]
    assert np.array_equal(np.stack(decoded), masks)


@pytest.mark.parametrize("shape", [(7, 5), (1, 9), (9, 1), (30, 40)])
def test_segments_are_encoded_as_their_masks_are(shape):
    index_map = np.random.default_rng(0).integers(0, 4, shape) // 2
    index_map[0, 0] = 3
    numbers = [1, 3, 2, 0]  # 2 has no pixels
    masks = np.stack([index_map == number for number in numbers])
    assert encode_segments(index_map, numbers) == encode_masks(masks)


def with_panoptic(samples):
    """Turn the instances into segments of a panoptic map, with stuff in the middle of the list."""
    for sample in samples:
        instances = sample.pred_instances
        index_map = np.zeros((40, 50), np.int32)
        index_map[39] = 1
        segments = [{"id": 1, "label": GRASS, "isthing": False, "score": 1.0}]
        for k in range(len(instances)):
            index_map[instances.masks[k].numpy()] = k + 2
            segments.append(
                {
                    "id": k + 2,
                    "label": int(instances.labels[k]),
                    "isthing": True,
                    "score": float(instances.scores[k]),
                }
            )
        sample.pred_panoptic_seg = make_panoptic_data(index_map, segments)
        del sample.pred_instances
    return samples


def test_things_of_the_panoptic_map_can_be_the_instances(ann_file):
    expected = evaluate(ann_file, make_samples(shift=1))
    found = evaluate(ann_file, with_panoptic(make_samples(shift=1)), source="pred_panoptic_seg")
    assert found == pytest.approx(expected, abs=0, nan_ok=True)


def test_segments_need_scores(ann_file):
    samples = with_panoptic(make_samples())
    del samples[0].pred_panoptic_seg.segments_info[1]["score"]
    with pytest.raises(ValueError, match=r"segment 2 of pred_panoptic_seg of .* has no score"):
        evaluate(ann_file, samples, source="pred_panoptic_seg")


def test_unknown_sources_are_refused():
    with pytest.raises(ValueError, match="source must be one of pred_instances, pred_panoptic_seg"):
        CocoInstanceMetric("a.json", source="masks")


def test_annotations_may_be_relative_to_the_data(ann_file):
    expected = evaluate(ann_file, make_samples(0))
    folder, name = os.path.split(ann_file)
    assert make_metric(ann_file=name, data_root=folder).ann_file == ann_file
    actual = evaluate(name, make_samples(0), data_root=folder)
    assert actual == pytest.approx(expected, abs=0, nan_ok=True)
