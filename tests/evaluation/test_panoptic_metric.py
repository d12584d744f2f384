from __future__ import annotations

import json
import math
import os
import random

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger

from mmpanoptic.evaluation import (
    PanopticFormatError,
    PanopticQualityMetric,
    evaluate_files,
    predictions,
)
from mmpanoptic.evaluation.panoptic_tables import write_per_image
from mmpanoptic.registry import METRICS
from mmpanoptic.structures import make_panoptic_data
from mmpanoptic.utils.panoptic_png import (
    encode_panoptic_png,
    read_panoptic_png,
    read_panoptic_runs,
)
from tests.evaluation.panoptic_data import FORMS, TABLE, write_file_set

SIZES = [(30, 41), (24, 24), (57, 33), (40, 64), (1, 90)]
NUM_IMAGES = len(SIZES)


@pytest.fixture
def files(tmp_path):
    return write_file_set(tmp_path / "set", SIZES)


def make_metric(**options) -> PanopticQualityMetric:
    metric = PanopticQualityMetric(**options)
    metric.dataset_meta = TABLE.to_metainfo()
    return metric


def run(metric, samples, size=NUM_IMAGES) -> dict:
    metric.process(None, samples)
    return metric.evaluate(size)


def expected_metrics(files) -> dict:
    averages = evaluate_files(*files.paths).quality.averages
    suffixes = {"All": "", "Things": "_th", "Stuff": "_st"}
    return {
        f"coco_panoptic/{key.upper()}{suffix}": 100 * averages[group][key]
        for group, suffix in suffixes.items()
        for key in ("pq", "sq", "rq")
    }


@pytest.mark.parametrize("form", sorted(FORMS))
def test_every_form_of_prediction_has_the_bits_of_the_files(files, form):
    samples = [files.sample(i, form) for i in range(NUM_IMAGES)]
    expected = expected_metrics(files)
    assert run(make_metric(), samples) == expected
    assert 20 < expected["coco_panoptic/PQ"] < 95


def test_order_and_repeated_images_change_nothing(files):
    indices = [*range(NUM_IMAGES), 0, 3]
    expected = expected_metrics(files)
    for seed in range(3):
        random.Random(seed).shuffle(indices)
        assert run(make_metric(), [files.sample(i) for i in indices]) == expected


def test_works_inside_an_evaluator_built_from_a_config(files):
    evaluator = Evaluator([{"type": "mmpanoptic.PanopticQualityMetric", "classwise": False}])
    evaluator.dataset_meta = TABLE.to_metainfo()
    evaluator.process([files.sample(i) for i in range(NUM_IMAGES)])
    assert METRICS.get("PanopticQualityMetric") is PanopticQualityMetric
    assert evaluator.evaluate(NUM_IMAGES) == expected_metrics(files)


def test_ground_truth_is_decoded_once_and_again_when_it_changes(files, monkeypatch):
    metric = make_metric()
    samples = [files.sample(i) for i in range(NUM_IMAGES)]
    first = run(metric, samples)
    reads = []
    module = "mmpanoptic.evaluation.panoptic_metric.read_panoptic_runs"
    monkeypatch.setattr(module, lambda path: reads.append(path) or read_panoptic_runs(path))
    assert run(metric, samples) == first
    assert not reads
    changed = samples[1].seg_map_path
    os.utime(changed, ns=(1, 1))
    assert run(metric, samples) == first
    assert reads == [changed]


def test_full_cache_keeps_its_limit_and_the_result(files):
    metric = make_metric(cache_mb=0.004)
    samples = [files.sample(i) for i in range(NUM_IMAGES)]
    expected = expected_metrics(files)
    assert run(metric, samples) == expected
    assert 0 < len(metric.cache) < NUM_IMAGES
    assert metric.cache.used_bytes <= metric.cache.max_bytes
    assert run(metric, samples) == expected


def test_missing_prediction_is_an_error_that_names_the_position(files):
    metric = make_metric()
    metric.process(None, [files.sample(i) for i in (0, 1, 2, 4)])
    with (
        pytest.warns(UserWarning, match="4 of the dataset's 5"),
        pytest.raises(PanopticFormatError, match="positions 3") as info,
    ):
        metric.evaluate(NUM_IMAGES)
    assert info.value.kind == "missing_prediction"


def test_problems_of_all_images_are_raised_together(files):
    samples = [files.sample(i) for i in range(NUM_IMAGES)]
    samples[0].pred_panoptic_seg = make_panoptic_data(np.zeros((3, 3), np.int32), [])
    samples[2].pred_panoptic_seg.segments_info[0]["label"] = len(TABLE)
    (files.folder / "gt" / "000004.png").unlink()
    with pytest.raises(PanopticFormatError) as info:
        run(make_metric(), samples)
    assert info.value.kinds == ["missing_file", "size_mismatch", "unknown_category"]
    assert {problem.image_id for problem in info.value.problems} == {100, 102, 104}


def test_a_metric_can_be_used_again_after_an_error(files):
    metric = make_metric()
    with (
        pytest.warns(UserWarning, match="1 of the dataset's 5"),
        pytest.raises(PanopticFormatError),
    ):
        run(metric, [files.sample(0)])
    assert run(metric, [files.sample(i) for i in range(NUM_IMAGES)]) == expected_metrics(files)


def test_wrong_areas_are_errors_or_warnings(files, caplog):
    for segment in files.annotations[1]["segments_info"]:
        segment["area"] = 1
    samples = [files.sample(i) for i in range(NUM_IMAGES)]
    with pytest.raises(PanopticFormatError, match="impossible_iou"):
        run(make_metric(), samples)
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        metrics = run(make_metric(strict=False), samples)
    finally:
        logger.removeHandler(caplog.handler)
    assert metrics["coco_panoptic/SQ_st"] > 100
    assert "impossible_iou" in caplog.text


@pytest.mark.parametrize("void_first", [False, True])
def test_void_and_class_zero_stay_apart(tmp_path, void_first):
    """mmdet's metric merges predicted void with class 0 where that is stuff."""
    files = write_file_set(tmp_path / "set", [(8, 8)])
    truth = np.zeros((8, 8), np.int32)
    truth[:, 4:] = 5
    (files.folder / "gt" / "000000.png").write_bytes(encode_panoptic_png(truth))
    files.annotations[0]["segments_info"] = [
        {"id": 5, "category_id": TABLE[0].dataset_id, "area": 32, "iscrowd": 0}
    ]
    assert not TABLE[0].isthing
    files.predictions[0] = ((truth > 0).astype(np.int32), [TABLE[0].dataset_id])
    form = "mmdet" if void_first else "index_map"
    metrics = run(make_metric(), [files.sample(0, form)], size=1)
    assert metrics["coco_panoptic/PQ"] == 100
    assert math.isnan(metrics["coco_panoptic/PQ_th"])


def test_label_order_need_not_follow_the_ids(tmp_path):
    files = write_file_set(tmp_path / "set", SIZES)
    expected = expected_metrics(files)
    meta = TABLE.to_metainfo()
    order = np.random.default_rng(0).permutation(len(TABLE)).tolist()
    shuffled = {key: [meta[key][i] for i in order] for key in ("classes", "dataset_ids", "isthing")}
    metric = PanopticQualityMetric()
    metric.dataset_meta = shuffled
    samples = [files.sample(i) for i in range(NUM_IMAGES)]
    for sample in samples:
        for segment in sample.pred_panoptic_seg.segments_info:
            segment["label"] = order.index(segment["label"])
    metrics = run(metric, samples)
    assert metrics == pytest.approx(expected, rel=1e-14)


def test_class_metrics_are_named_after_the_classes(files):
    metrics = run(make_metric(class_metrics=True), [files.sample(i) for i in range(NUM_IMAGES)])
    per_class = evaluate_files(*files.paths).quality.per_class
    for label in TABLE:
        ours = metrics[f"coco_panoptic/PQ/{label.name}"]
        assert ours == 100 * per_class[label.dataset_id]["pq"]


def test_written_predictions_evaluate_to_the_same_bits(files, tmp_path):
    prefix = tmp_path / "out" / "run 1"
    metrics = run(
        make_metric(outfile_prefix=str(prefix)), [files.sample(i) for i in range(NUM_IMAGES)]
    )
    written = prefix.with_name("run 1.panoptic.json")
    quality = evaluate_files(files.paths[0], written, files.folder / "gt").quality
    assert metrics["coco_panoptic/PQ"] == 100 * quality.averages["All"]["pq"]
    content = json.loads(written.read_text())
    assert [entry["image_id"] for entry in content["annotations"]] == [100, 101, 102, 103, 104]
    segment = content["annotations"][0]["segments_info"][0]
    assert segment["id"] == 1
    assert segment["score"] == 0.5
    ids = read_panoptic_png(prefix.with_name("run 1.panoptic") / "000000.png")
    rows, columns = np.nonzero(ids == 1)
    width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
    assert segment["bbox"] == [columns.min(), rows.min(), width, height]
    assert segment["area"] == len(rows)


def test_images_of_equal_names_in_different_folders_stay_apart(files, tmp_path):
    samples = [files.sample(i) for i in range(NUM_IMAGES)]
    for number, sample in enumerate(samples):
        sample.set_metainfo({"png_name": f"{'xyzvw'[number]}/0001.png"})
    rows = tmp_path / "rows.json"
    metrics = run(make_metric(outfile_prefix=str(tmp_path / "out"), per_image=rows), samples)
    written = tmp_path / "out.panoptic.json"
    names = [a["file_name"] for a in json.loads(written.read_text())["annotations"]]
    assert names == [f"{folder}/0001.png" for folder in "xyzvw"]
    assert [row["file_name"] for row in json.loads(rows.read_text())] == names
    quality = evaluate_files(files.paths[0], written, files.folder / "gt").quality
    assert metrics["coco_panoptic/PQ"] == 100 * quality.averages["All"]["pq"]


def test_format_only_needs_no_ground_truth(files, tmp_path):
    metric = make_metric(format_only=True, outfile_prefix=str(tmp_path / "submission"))
    samples = [files.sample(i) for i in range(NUM_IMAGES)]
    for sample in samples:
        sample.set_metainfo({"seg_map_path": None, "segments_info": None})
    assert run(metric, samples) == {}
    assert len(list((tmp_path / "submission.panoptic").iterdir())) == NUM_IMAGES
    assert (tmp_path / "submission.panoptic.json").is_file()


def test_images_with_one_name_cannot_be_written_together(files, tmp_path):
    metric = make_metric(format_only=True, outfile_prefix=str(tmp_path / "submission"))
    samples = [files.sample(0), files.sample(0)]
    samples[1].set_metainfo({"sample_idx": 1, "img_id": 7})
    with pytest.raises(ValueError, match=r"000000\.png"):
        run(metric, samples, size=2)


def test_clear_errors_without_prediction_ground_truth_or_metainfo(files):
    sample = files.sample(0)
    del sample.pred_panoptic_seg
    with pytest.raises(ValueError, match="panoptic model"):
        make_metric().process(None, [sample])
    sample = files.sample(0)
    sample.set_metainfo({"seg_map_path": None})
    with pytest.raises(ValueError, match="meta_keys"):
        make_metric().process(None, [sample])
    with pytest.raises(ValueError, match="dataset_meta"):
        PanopticQualityMetric().process(None, [files.sample(0)])
    with pytest.raises(ValueError, match="outfile_prefix"):
        PanopticQualityMetric(format_only=True)


@pytest.mark.gpu
def test_predictions_on_the_gpu_give_the_same_bits(files):
    samples = [files.sample(i).to("cuda") for i in range(NUM_IMAGES)]
    assert all(sample.pred_panoptic_seg.index_map.is_cuda for sample in samples)
    assert run(make_metric(), samples) == expected_metrics(files)


def test_device_runs_equal_cpu_runs(files):
    for index, _ in files.predictions:
        tensor = torch.from_numpy(index)[None]
        shape, start, value = predictions.runs_of(tensor)
        on_device = predictions.device_runs(tensor)
        assert shape == index.shape
        np.testing.assert_array_equal(start, on_device[0])
        np.testing.assert_array_equal(value, on_device[1])


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_a_row_per_image_is_that_of_the_files(files, tmp_path, suffix):
    ours, theirs = tmp_path / f"ours{suffix}", tmp_path / f"theirs{suffix}"
    samples = [files.sample(index) for index in range(NUM_IMAGES)]
    random.Random(0).shuffle(samples)
    run(make_metric(per_image=ours), samples)
    write_per_image(theirs, evaluate_files(*files.paths).per_image)
    assert ours.read_text() == theirs.read_text()
    if suffix == ".json":
        rows = json.loads(ours.read_text())
        assert [row["image_id"] for row in rows] == [100 + k for k in range(NUM_IMAGES)]
        assert rows[0].keys() == {
            *("image_id", "file_name", "pq", "sq", "rq", "n"),
            "tp",
            "fp",
            "fn",
        }


@pytest.mark.parametrize("options", [{"per_image": "a.txt"}, {"format_only": True}])
def test_a_table_of_images_needs_a_known_suffix_and_numbers(tmp_path, options):
    with pytest.raises(ValueError, match=r"ends in \.csv or \.json.*format_only"):
        PanopticQualityMetric(**{"per_image": "a.csv", "outfile_prefix": tmp_path / "x", **options})
