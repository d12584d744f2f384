import torch
from mmengine.structures import BaseDataElement

from mmpanoptic.evaluation import ClassAccuracyMetric


def sample(index, label, scores):
    element = BaseDataElement(metainfo={"sample_idx": index})
    element.gt_label = torch.tensor(label)
    element.pred_scores = torch.tensor(scores)
    return element


def test_accuracy_counts_the_right_class_among_the_first_k():
    metric = ClassAccuracyMetric(topk=(1, 2))
    metric.process(None, [sample(0, 1, [0.1, 0.7, 0.2]), sample(1, 0, [0.3, 0.6, 0.1])])
    metric.process(None, [sample(2, 2, [0.5, 0.4, 0.1]), sample(3, 1, [0.2, 0.5, 0.3])])
    assert metric.evaluate(4) == {"accuracy/top1": 50.0, "accuracy/top2": 75.0}


def test_images_that_fill_up_a_batch_count_once():
    metric = ClassAccuracyMetric(topk=(1,))
    metric.process(None, [sample(0, 0, [0.9, 0.1]), sample(1, 0, [0.1, 0.9])])
    metric.process(None, [sample(1, 0, [0.1, 0.9])])
    assert metric.evaluate(2) == {"accuracy/top1": 50.0}
