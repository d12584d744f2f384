"""Several validation sets: concatenated, and each by itself."""

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from mmengine.structures import BaseDataElement

from mmpanoptic.engine.runner import PanopticRunner
from mmpanoptic.evaluation.indexed_metric import IndexedMetric
from mmpanoptic.registry import EVALUATOR, METRICS, ConfigError
from tests.datasets.tiny_data import dataset_args, write_dataset


@METRICS.register_module()
class SeenMetric(IndexedMetric):
    default_prefix = "seen"

    def make_record(self, sample):
        return sample["img_path"]

    def summarize(self, records):
        return {"images": len(set(records)), "records": len(records)}


@pytest.fixture
def loader(tmp_path):
    init_default_scope("mmpanoptic")
    parts = []
    for name, count in (("a", 3), ("b", 4)):
        write_dataset(tmp_path / name, count)
        pipeline = [{"type": "LoadImage"}, {"type": "PackPanopticInputs"}]
        facts = {"type": "PanopticDataset", "test_mode": True, "pipeline": pipeline}
        parts.append({**dataset_args(tmp_path / name), **facts})
    return {
        "batch_size": 1,
        "num_workers": 0,
        "sampler": {"type": "SeededSampler", "shuffle": False, "round_up": False},
        "dataset": {"type": "ConcatDataset", "datasets": parts},
    }


def samples_of(loader):
    dataset = PanopticRunner.build_dataloader(loader, seed=0).dataset
    return dataset, [dataset[k]["data_samples"] for k in range(len(dataset))]


def test_images_of_all_sets_have_positions_of_their_own(loader):
    dataset, samples = samples_of(loader)
    assert sorted(sample.sample_idx for sample in samples) == list(range(7))
    assert dataset.metainfo["cumulative_sizes"] == [3, 7]
    loader["dataset"]["datasets"][0]["indices"] = [2]
    dataset, samples = samples_of(loader)
    assert len({sample.sample_idx for sample in samples}) == 5
    repeated = {"type": "RepeatDataset", "times": 1, "dataset": loader["dataset"]["datasets"][1]}
    loader["dataset"] = {"type": "ConcatDataset", "datasets": [repeated, repeated]}
    assert len({sample.sample_idx for sample in samples_of(loader)[1]}) == 8


def test_all_images_are_evaluated(loader):
    dataset, samples = samples_of(loader)
    evaluator = EVALUATOR.build({"type": "mmengine.Evaluator", "metrics": {"type": "SeenMetric"}})
    evaluator.dataset_meta = dataset.metainfo
    evaluator.process(samples)
    assert evaluator.evaluate(7) == {"seen/images": 7, "seen/records": 7}


def separate(dataset, names=("a", "b")):
    evaluator = EVALUATOR.build(
        {
            "type": "SeparateEvaluator",
            "metrics": {"type": "SeenMetric"},
            "dataset_prefixes": list(names),
        }
    )
    evaluator.dataset_meta = dataset.metainfo
    return evaluator


@pytest.mark.parametrize("order", [range(7), np.random.default_rng(0).permutation(7)])
def test_each_set_has_results_of_its_own(loader, order):
    dataset, samples = samples_of(loader)
    evaluator = separate(dataset)
    for place in order:
        evaluator.process([samples[place]])
    results = evaluator.evaluate(7)
    assert (results["a/seen/images"], results["b/seen/images"]) == (3, 4)


def test_names_must_be_as_many_as_sets(loader):
    dataset, _ = samples_of(loader)
    with pytest.raises(ConfigError, match="has 1 dataset_prefixes, but the dataloader has 2"):
        separate(dataset, ["a"])
    with pytest.raises(ConfigError, match="must differ"):
        separate(dataset, ["a", "a"])


def test_detections_of_equal_image_ids_are_not_mixed(tmp_path):
    metric = METRICS.build(
        {"type": "CocoInstanceMetric", "format_only": True, "outfile_prefix": "x"}
    )
    metric.dataset_meta = {"classes": ["a"], "dataset_ids": [1], "isthing": [1]}
    record = BaseDataElement()
    record.img_id, record.labels, record.scores, record.boxes = 1, [], [], []
    with pytest.raises(ValueError, match="two images have the id 1"):
        metric._detections([record, record], "bbox", None)
