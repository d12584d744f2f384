from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from mmpanoptic.evaluation import CityscapesInstanceMetric, CityscapesPixelMetric
from mmpanoptic.evaluation.cityscapes_files import evaluate_instance_files, evaluate_pixel_files
from mmpanoptic.registry import METRICS
from mmpanoptic.structures import make_panoptic_data
from mmpanoptic.utils.label_png import read_label_png
from tests.evaluation.cityscapes_data import METAINFO, make_sample, random_scene, write_truth

IDS = ["a-b_000000_000019", "c_000001_000019", "c_000002_000019"]


def make_metric(kind, **settings):
    metric = METRICS.build({"type": kind, **settings})
    metric.dataset_meta = METAINFO
    return metric


@pytest.fixture
def samples(tmp_path):
    return write_samples(tmp_path)


def write_samples(folder):
    rng = np.random.default_rng(0)
    made = []
    for index, image_id in enumerate(IDS):
        labels, instances = random_scene(rng)
        image = write_truth(folder / "cityscapes", image_id, labels, instances)
        values = [v for v in np.unique(instances) if 24000 <= v < 29000 or v >= 31000]
        masks = np.stack([np.roll(instances == v, 4, 1) for v in values])
        scores = rng.random(len(values)).tolist()
        prediction = np.where(rng.random(labels.shape) < 0.8, labels, 7)
        made.append(
            make_sample(index, image, prediction, masks, [int(v) // 1000 for v in values], scores)
        )
    return made


@pytest.mark.parametrize("kind", ["CityscapesPixelMetric", "CityscapesInstanceMetric"])
def test_order_and_repeated_images_change_nothing(samples, kind):
    first, second = make_metric(kind), make_metric(kind)
    first.process(None, samples)
    second.process(None, [samples[2], samples[0], samples[2], samples[1]])
    metrics = first.evaluate(3)
    assert second.evaluate(3) == metrics
    assert all(0 < value < 100 for value in metrics.values())


def test_written_files_give_the_numbers_of_the_memory(samples, tmp_path):
    prefix = tmp_path / "out" / "val"
    pixel = make_metric("CityscapesPixelMetric", outfile_prefix=prefix)
    instance = make_metric("CityscapesInstanceMetric", outfile_prefix=prefix)
    truth = tmp_path / "cityscapes" / "gtFine" / "val"
    for metric in (pixel, instance):
        metric.process(None, samples)
    found = {**pixel.evaluate(3), **instance.evaluate(3)}
    expected = {}
    scores, _ = evaluate_pixel_files(truth, f"{prefix}.semantic")
    expected |= {f"cityscapes_pixel/{k}": 100 * v for k, v in scores.means().items()}
    ap = evaluate_instance_files(truth, f"{prefix}.instance")
    expected |= {f"cityscapes_instance/{k}": 100 * v for k, v in ap.means().items()}
    assert found == expected


def test_format_only_writes_files_without_ground_truth(samples, tmp_path):
    for sample in samples:
        sample.set_metainfo({"img_path": sample.img_path.replace("val", "test")})
    prefix = tmp_path / "submission"
    for kind in ("CityscapesPixelMetric", "CityscapesInstanceMetric"):
        metric = make_metric(kind, format_only=True, outfile_prefix=prefix)
        metric.process(None, samples)
        assert metric.evaluate(3) == {}
    names = sorted(path.name for path in (tmp_path / "submission.semantic").iterdir())
    assert names == [f"{image_id}_pred_labelIds.png" for image_id in IDS]
    texts = sorted(path.name for path in (tmp_path / "submission.instance").glob("*.txt"))
    assert texts == [f"{image_id}_pred.txt" for image_id in IDS]
    line = (tmp_path / "submission.instance" / texts[0]).read_text().splitlines()[0]
    assert line.startswith(f"masks/{IDS[0]}_000.png ")


def test_void_and_unknown_labels_are_written_as_unlabeled(samples, tmp_path):
    samples[0].pred_sem_seg.sem_seg[0, 0, :3] = torch.tensor([255, -1, 19])
    prefix = tmp_path / "submission"
    metric = make_metric("CityscapesPixelMetric", format_only=True, outfile_prefix=prefix)
    metric.process(None, samples[:1])
    written = read_label_png(f"{prefix}.semantic/{IDS[0]}_pred_labelIds.png")
    assert written[0, :3].tolist() == [0, 0, 0]


def test_format_only_needs_a_place():
    with pytest.raises(ValueError, match="say where with outfile_prefix"):
        CityscapesPixelMetric(format_only=True)


def test_ground_truth_can_lie_elsewhere(samples, tmp_path):
    expected = make_metric("CityscapesPixelMetric")
    expected.process(None, samples)
    (tmp_path / "cityscapes" / "gtFine").rename(tmp_path / "other")
    metric = make_metric("CityscapesPixelMetric", gt_root=str(tmp_path / "other" / "val"))
    metric.process(None, samples)
    assert metric.evaluate(3) == expected.evaluate(3)


@pytest.mark.parametrize(
    "layout",
    ["val/{city}/{id}_leftImg8bit.png", "val/{id}_leftImg8bit.png", "val/{id}.png"],
    ids=["cities", "flat", "efficientps"],
)
def test_ground_truth_beside_other_image_folders_is_found(samples, tmp_path, layout):
    expected = make_metric("CityscapesPixelMetric")
    expected.process(None, samples)
    for sample in samples:
        name = Path(sample.img_path).name.removesuffix("_leftImg8bit.png")
        path = layout.format(id=name, city=name.split("_")[0])
        sample.set_metainfo({"img_path": str(tmp_path / "cityscapes" / path)})
    metric = make_metric("CityscapesPixelMetric")
    metric.process(None, samples)
    assert metric.evaluate(3) == expected.evaluate(3)


def test_a_root_may_be_relative_to_the_data(samples, tmp_path):
    expected = make_metric("CityscapesInstanceMetric")
    expected.process(None, samples)
    (tmp_path / "cityscapes" / "gtFine").rename(tmp_path / "other")
    metric = make_metric("CityscapesInstanceMetric", gt_root="other/val", data_root=str(tmp_path))
    metric.process(None, samples)
    assert metric.evaluate(3) == expected.evaluate(3)


def test_missing_ground_truth_is_named(samples):
    samples[0].set_metainfo({"img_path": samples[0].img_path.replace("a-b_", "x_")})
    metric = make_metric("CityscapesPixelMetric")
    with pytest.raises(FileNotFoundError, match=r"no .*x_000000_000019_gtFine_labelIds\.png"):
        metric.process(None, samples)


def test_an_image_outside_the_layout_asks_for_the_root(samples):
    samples[0].set_metainfo({"img_path": "images/x.png"})
    with pytest.raises(ValueError, match="set gt_root"):
        make_metric("CityscapesInstanceMetric").process(None, samples)


def test_other_datasets_are_refused(samples):
    metric = CityscapesPixelMetric()
    metric.dataset_meta = {"classes": ["road", "unicorn"], "dataset_ids": [1, 2], "isthing": [0, 1]}
    with pytest.raises(ValueError, match="need Cityscapes' class names; unknown: unicorn"):
        metric.process(None, samples)


def test_a_model_without_instances_is_named(samples):
    del samples[0].pred_instances
    with pytest.raises(ValueError, match=r"CityscapesInstanceMetric needs pred_instances\.labels"):
        make_metric("CityscapesInstanceMetric").process(None, samples)


def test_labels_outside_the_table_are_refused(samples):
    samples[0].pred_instances.labels[0] = 19
    with pytest.raises(ValueError, match=r"labels from 3 to 19, but .* go from 0 to 18"):
        make_metric("CityscapesInstanceMetric").process(None, samples)


def test_sizes_must_agree(samples):
    samples[0].pred_sem_seg = PixelData(sem_seg=torch.zeros(1, 5, 6, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"has 5 rows and 6 columns, but .*labelIds\.png has 60"):
        make_metric("CityscapesPixelMetric").process(None, samples)


def test_masks_of_another_size_name_the_image(samples):
    samples[0].pred_instances = samples[0].pred_instances[:1]
    samples[0].pred_instances.masks = samples[0].pred_instances.masks[:, :5]
    with pytest.raises(ValueError, match=rf"pred_instances of .*{IDS[0]}.*mask 0 has the shape"):
        make_metric("CityscapesInstanceMetric").process(None, samples)


def test_an_image_without_instances_counts(samples):
    samples[0].pred_instances = samples[0].pred_instances[:0]
    metric = CityscapesInstanceMetric()
    metric.dataset_meta = METAINFO
    metric.process(None, samples)
    assert metric.evaluate(3)["cityscapes_instance/AP"] > 0


def add_panoptic(sample):
    """Make the instances a panoptic map, later ones over earlier ones, and cut the masks alike."""
    instances = sample.pred_instances
    index_map = np.zeros(instances.masks.shape[1:], np.int32)
    segments = [{"id": 1, "label": 18, "isthing": False}]
    for k in range(len(instances)):
        index_map[instances.masks[k].numpy()] = k + 2
        score, label = float(instances.scores[k]), int(instances.labels[k])
        segments.append({"id": k + 2, "label": label, "isthing": True, "score": score})
    sample.pred_panoptic_seg = make_panoptic_data(index_map, segments)
    for k in range(len(instances)):
        instances.masks[k] = torch.from_numpy(index_map == k + 2)


def test_things_of_the_panoptic_map_can_be_the_instances(samples, tmp_path):
    for sample in samples:
        add_panoptic(sample)
    expected = make_metric("CityscapesInstanceMetric", outfile_prefix=tmp_path / "a")
    found = make_metric(
        "CityscapesInstanceMetric", source="pred_panoptic_seg", outfile_prefix=tmp_path / "b"
    )
    for metric in (expected, found):
        metric.process(None, samples)
    assert found.evaluate(3) == expected.evaluate(3)
    for path in (tmp_path / "a.instance").rglob("*.*"):
        other = tmp_path / "b.instance" / path.relative_to(tmp_path / "a.instance")
        assert other.read_bytes() == path.read_bytes()


def test_a_panoptic_map_of_another_size_names_the_image(samples):
    samples[0].pred_panoptic_seg = make_panoptic_data(np.zeros((5, 6), np.int32), [])
    metric = make_metric("CityscapesInstanceMetric", source="pred_panoptic_seg")
    with pytest.raises(ValueError, match=rf"pred_panoptic_seg of .*{IDS[0]}.*the map has the"):
        metric.process(None, samples)


def test_unknown_sources_are_refused():
    with pytest.raises(ValueError, match="source must be one of pred_instances, pred_panoptic_seg"):
        CityscapesInstanceMetric(source="masks")
