import os

import pytest
from mmengine.config import Config

from mmpanoptic.engine.testing import set_predictions_folder

PQ = {"type": "PanopticQualityMetric"}
IOU = {"type": "SemanticIoUMetric"}  # writes no files
PIXEL = {"type": "CityscapesPixelMetric"}
PREFIX = os.path.join("out", "predictions")


@pytest.mark.parametrize("evaluator", [PQ, [PQ], {"type": "Evaluator", "metrics": [PQ]}])
def test_every_form_of_evaluator_is_understood(evaluator):
    cfg = Config({"test_evaluator": evaluator})
    set_predictions_folder(cfg, "out", format_only=True)
    assert cfg.test_evaluator == [{**PQ, "outfile_prefix": PREFIX, "format_only": True}]


def test_all_metrics_that_write_files_do():
    cfg = Config({"test_evaluator": [PQ, IOU, PIXEL]})
    set_predictions_folder(cfg, "out", format_only=False)
    written = {"outfile_prefix": PREFIX, "format_only": False}
    assert cfg.test_evaluator == [{**PQ, **written}, IOU, {**PIXEL, **written}]


def test_format_only_leaves_out_the_others():
    cfg = Config({"test_evaluator": [IOU, PIXEL, {"type": "mmdet.CocoMetric"}]})
    set_predictions_folder(cfg, "out", format_only=True)
    assert [metric.type for metric in cfg.test_evaluator] == [PIXEL["type"], "mmdet.CocoMetric"]


@pytest.mark.parametrize("evaluator", [[IOU], None, [{"type": "NobodysMetric"}]])
def test_nothing_to_write_is_an_error(evaluator):
    with pytest.raises(ValueError, match="--out-dir and --format-only need a metric that writes"):
        set_predictions_folder(Config({"test_evaluator": evaluator}), "out", format_only=True)
