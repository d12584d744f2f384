import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData

from mmpanoptic.evaluation import SemanticIoUMetric
from mmpanoptic.registry import METRICS
from mmpanoptic.structures import LabelTable, id2rgb

TABLE = LabelTable.from_categories(
    [
        {"id": 9, "name": "sky", "isthing": 0},
        {"id": 2, "name": "car", "isthing": 1},
        {"id": 5, "name": "road", "isthing": 0},
    ]
)


def write_sample(folder, index, ids, segments, prediction):
    path = folder / f"{index}.png"
    cv2.imwrite(str(path), id2rgb(np.array(ids))[..., ::-1])
    info = [
        {"id": i, "label": label, "category_id": TABLE[label].dataset_id} for i, label in segments
    ]
    sample = DetDataSample(
        metainfo={
            "sample_idx": index,
            "img_path": f"{index}.jpg",
            "seg_map_path": str(path),
            "segments_info": info,
        }
    )
    sample.pred_sem_seg = PixelData(sem_seg=torch.tensor(prediction)[None])
    return sample


def make_metric(**settings):
    metric = METRICS.build({"type": "SemanticIoUMetric", **settings})
    metric.dataset_meta = TABLE.to_metainfo()
    return metric


def write_samples(folder):
    segments = [(70000, 1), (3, 0), (500, 1)]
    return [
        write_sample(folder, 0, [[3, 3, 70000, 500, 0]], segments, [[0, 1, 1, 1, 2]]),
        write_sample(folder, 1, [[3, 3]], segments[1:2], [[0, 255]]),
    ]


@pytest.fixture
def samples(tmp_path):
    return write_samples(tmp_path)


def test_counts_segments_as_their_classes_and_leaves_out_void(samples):
    metric = make_metric(definitions=["mmseg", "detectron2"])
    metric.process(None, samples)
    metrics = metric.evaluate(2)
    # sky: 2 of 4 pixels; car: 2 of 3; road is nowhere, since void is not evaluated
    assert metrics["semantic/mIoU"] == pytest.approx(100 * (2 / 4 + 2 / 3) / 2)
    assert metrics["semantic/mIoU_detectron2"] == pytest.approx(100 * (2 / 3 + 2 / 3) / 2)
    assert metrics["semantic/aAcc"] == pytest.approx(100 * 4 / 6)


def test_order_and_repeated_images_change_nothing(samples):
    first, second = make_metric(), make_metric()
    first.process(None, samples)
    second.process(None, [samples[1].to_dict()])
    second.process(None, [samples[0].to_dict(), samples[1].to_dict()])
    assert first.evaluate(2) == second.evaluate(2)


def test_a_metric_can_be_used_again(samples):
    metric = make_metric()
    metric.process(None, samples)
    expected = metric.evaluate(2)
    metric.process(None, samples)
    assert metric.evaluate(2) == expected


def test_missing_images_are_reported(samples):
    metric = make_metric()
    metric.process(None, samples[:1])
    with pytest.warns(UserWarning, match="saw 1 of the dataset's 2 images"):
        metric.evaluate(2)


def test_sizes_must_agree(tmp_path):
    sample = write_sample(tmp_path, 0, [[3, 3]], [(3, 0)], [[0]])
    with pytest.raises(ValueError, match=r"pred_sem_seg of 0\.jpg has 1 rows and 1 columns"):
        make_metric().process(None, [sample])


def test_scores_instead_of_labels_are_refused(tmp_path):
    sample = write_sample(tmp_path, 0, [[3, 3]], [(3, 0)], [[0.5, 0.5]])
    with pytest.raises(ValueError, match="take the argmax"):
        make_metric().process(None, [sample])


def test_a_model_without_semantic_prediction_is_named(samples):
    del samples[0].pred_sem_seg
    with pytest.raises(ValueError, match=r"SemanticIoUMetric needs pred_sem_seg\.sem_seg"):
        make_metric().process(None, samples)


@pytest.mark.parametrize("field", ["seg_map_path", "segments_info"])
def test_ground_truth_must_be_there(samples, field):
    fields = samples[0].to_dict()
    del fields[field]
    with pytest.raises(ValueError, match=r"'0\.jpg' has no seg_map_path and segments_info"):
        make_metric().process(None, [fields])


def test_the_position_in_the_dataset_must_be_there(samples):
    fields = samples[0].to_dict()
    del fields["sample_idx"]
    with pytest.raises(ValueError, match="has no sample_idx; add it to meta_keys"):
        make_metric().process(None, [fields])


def test_the_dataset_must_be_known(samples):
    with pytest.raises(ValueError, match="SemanticIoUMetric needs dataset_meta"):
        SemanticIoUMetric().process(None, samples)
