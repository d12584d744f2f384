"""A mistyped name in a part that a training builds late or never is refused before it begins."""

import pytest
from torch import nn

from mmpanoptic.apis import get_config
from mmpanoptic.commands import train
from mmpanoptic.datasets.shapes import ShapesSettings, generate_shapes
from mmpanoptic.engine.argument_names import check_against_model, check_arguments, taken_by
from mmpanoptic.engine.config import resolve_variables
from mmpanoptic.engine.config_keys import apply_options
from mmpanoptic.registry import ConfigError

ONE_STAGE = "panoptic-deeplab_r18-tiny_1xb8-500_shapes"
TWO_STAGE = "efficientps-maskrcnn_b0-tiny_1xb8-600_shapes"
MISTYPED = {
    "model.backbone.init_cfg": [
        ({"typ": "Kaiming", "layer": "Conv2d"}, "init_cfg has no type.*did you mean type"),
        ({"type": "Kaimin", "layer": "Conv2d"}, "no weight initializer Kaimin; did you mean Kaim"),
        ({"type": "Kaiming", "layr": "Conv2d"}, "init_cfg.layr of KaimingInit; .* layer?"),
        (
            [{"type": "Normal", "layer": "Conv2d", "override": {"nam": "conv1", "type": "Normal"}}],
            "override has no name.*did you mean name",
        ),
    ],
    "tta_pipeline": [
        ([{"type": "LoadImag"}], "tta_pipeline.0: mmpanoptic has no transform LoadImag; "),
        (
            [{"type": "TestTimeAug", "transform": []}],
            "tta_pipeline.0.transform of TestTimeAug; did you mean transforms?",
        ),
        (
            [{"type": "TestTimeAug", "transforms": [[{"type": "PanopticRandomFlip", "pro": 1.0}]]}],
            "transforms.0.0.pro of PanopticRandomFlip; did you mean prob?",
        ),
    ],
    "tta_model": [({"type": "PanopticTTAModl"}, "tta_model: .* did you mean PanopticTTAModel")],
    "test_dataloader.batchsize": [(3, "test_dataloader.batchsize; did you mean batch_size")],
    "test_dataloader.dataset.pipelin": [([], "pipelin of ShapesDataset; did you mean pipeline")],
    "test_dataloader.sampler.shufle": [(True, "sampler.shufle of SeededSampler; .* shuffle?")],
    "test_evaluator": [
        ({"type": "PanopticQualityMetrc"}, "did you mean PanopticQualityMetric"),
        ({"type": "PanopticQualityMetric", "perimage": "x.csv"}, "did you mean per_image"),
    ],
    "train_dataloader.collate_fn": [
        ({"type": "pseudo_collate", "pad": 1}, "collate_fn.pad of pseudo_collate; known are"),
        ({"type": "psuedo_collate"}, "did you mean pseudo_collate"),
    ],
    "train_dataloader.dataset.metainfo.clases": [(["a"], "clases; did you mean classes?")],
    "optim_wrapper.paramwise_cfg": [
        ({"norm_decay_mul": 0.0}, "norm_decay_mul; did you mean norm_decay_mult"),
        ({"custom_keys": {"backbone": {"lr_mul": 0.1}}}, "backbone.lr_mul; did you mean lr_mult"),
    ],
    "optim_wrapper.clip_grad": [
        ({"max_nrm": 1.0}, "clip_grad.max_nrm; did you mean max_norm"),
        ({"type": "value", "clip_valu": 1.0}, "clip_grad.clip_valu; did you mean clip_value"),
    ],
    "log_processor.custom_cfg": [([{"data_scr": "loss"}], "custom_cfg.0.data_scr; .* data_src")],
    "default_hooks.timr": [({"type": "IterTimerHook"}, "default_hooks.timr; did you mean timer")],
}
TWO_STAGE_MISTYPED = {
    "model.train_cfg.rpn.pos_weigh": (3, "did you mean pos_weight"),
    "model.train_cfg.rcnn.sampler.nm": (3, "sampler.nm of RandomSampler; did you mean num"),
    "model.train_cfg.rcnn.mask_siz": (3, "did you mean mask_size"),
    "model.train_cfg.rpn_proposal.max_per_im": (3, "did you mean max_per_img"),
    "model.train_cfg.rcn": ({}, "nothing reads model.train_cfg.rcn; did you mean rcnn"),
    "model.test_cfg.rcnn.score_th": (0.5, "did you mean score_thr"),
    "model.test_cfg.rpn.nms.iou_threshol": (0.5, "did you mean iou_threshold"),
}
CASES = [(ONE_STAGE, key, *case) for key, cases in MISTYPED.items() for case in cases]
CASES += [(TWO_STAGE, key, *case) for key, case in TWO_STAGE_MISTYPED.items()]


@pytest.mark.parametrize(("name", "key", "value", "words"), CASES)
def test_a_mistyped_name_is_refused_with_the_nearest(name, key, value, words):
    cfg = get_config(name)
    apply_options(cfg, {key: value})
    with pytest.raises(ConfigError, match=words):
        check_arguments(resolve_variables(cfg))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))


def against(init=None, **keys):
    cfg = {"optim_wrapper": {"paramwise_cfg": {"custom_keys": keys}}}
    return check_against_model({**cfg, "model": {"init_cfg": init}}, Model())


def test_a_learning_rate_for_a_part_that_is_nearly_there_is_refused():
    assert against(backbone={"lr_mult": 0.1}) == []
    with pytest.raises(ConfigError, match="bakbone; did you mean backbone"):
        against(bakbone={"lr_mult": 0.1})


def test_a_learning_rate_for_a_part_that_is_elsewhere_is_told():
    (note,) = against(relative_position={"decay_mult": 0.0})
    assert "custom_keys.relative_position fits no parameter" in note


def test_an_initialisation_of_layers_of_no_kind_is_refused():
    assert against([{"type": "Normal", "layer": ["Conv2d", "Linear"]}]) == []
    with pytest.raises(ConfigError, match="has no layer Conv2; did you mean Conv2d"):
        against({"type": "Normal", "layer": "Conv2"})


def test_what_a_class_hands_on_is_taken():
    class Below:
        def __init__(self, size, *, mode="a"): ...

    class Above(Below):
        def __init__(self, name, **kwargs): ...

    assert taken_by(Above) == ({"name", "size", "mode"}, False)
    assert taken_by(Below) == ({"size", "mode"}, True)
    assert taken_by(lambda a, b=1: a) == ({"a", "b"}, True)


def test_a_training_does_not_begin(tmp_path, capsys):
    generate_shapes(tmp_path / "data", {"train": 2, "val": 1}, ShapesSettings(64, 48))
    options = [f"data_root={tmp_path / 'data'}", "test_evaluator.perimage=x.csv"]
    line = [ONE_STAGE, "--work-dir", str(tmp_path / "run"), "--cfg-options", *options]
    assert train.main(line) == 1
    text = capsys.readouterr().err
    assert "nothing reads test_evaluator.perimage of PanopticQualityMetric; did you mean" in text
    assert "Traceback" not in text
