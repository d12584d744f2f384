import json

import pytest
from mmengine.config import Config

from mmpanoptic.apis import get_config
from mmpanoptic.datasets.object_sizes import USUAL_SETTINGS, measure_object_sizes
from mmpanoptic.engine.config import fill_sizes, resolve_config, resolve_variables
from mmpanoptic.engine.config_keys import apply_options
from mmpanoptic.engine.testing import use_test_time_augmentation
from mmpanoptic.utils.format_errors import PanopticFormatError

OWN = "panoptic-deeplab_r18-tiny_1xb4-5k_own"


@pytest.fixture
def data_root(tmp_path):
    """Small things: 40 discs of 12 pixels in each image of 256 x 320."""
    segments = [{"id": i + 1, "category_id": 7, "area": 113} for i in range(40)]
    segments.append({"id": 99, "category_id": 2, "area": 70000})
    content = {
        "images": [{"id": 1, "height": 256, "width": 320, "file_name": "a.png"}],
        "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": segments}],
        "categories": [
            {"id": 7, "name": "cell", "isthing": 1},
            {"id": 2, "name": "back", "isthing": 0},
        ],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/panoptic_train.json").write_text(json.dumps(content))
    return tmp_path


def resolved(data_root, **options):
    cfg = get_config(OWN)
    apply_options(cfg, {"data_root": str(data_root), **options})
    return resolve_config(cfg)


def test_a_config_resolves_to_what_the_sizes_suggest(data_root):
    cfg = resolved(data_root)
    sizes = measure_object_sizes(data_root / "annotations/panoptic_train.json").settings()
    assert sizes["size_short_edge"] == 512
    assert cfg.model.instance_head.sigma == sizes["size_sigma"] == 6.0
    assert cfg.model.fusion_head.nms_kernel == sizes["size_nms_kernel"] == 9
    assert cfg.model.fusion_head.top_k == 200
    resize, crop = (cfg.train_dataloader.dataset.pipeline[2][key] for key in ("resize", "crop"))
    assert (resize.short_edge, resize.max_size, crop.crop_size) == (512, 1024, (512, 512))
    assert cfg.test_dataloader.dataset.pipeline[1].short_edge == 512


def test_an_explicit_value_wins_and_the_others_follow_the_short_edge(data_root):
    cfg = resolved(data_root, short_edge=256, **{"model.fusion_head.nms_kernel": 11})
    assert cfg.train_dataloader.dataset.pipeline[2].resize.short_edge == 256
    assert cfg.train_dataloader.dataset.pipeline[2].crop.crop_size == (256, 256)
    assert cfg.model.instance_head.sigma == 3.0
    assert cfg.model.fusion_head.nms_kernel == 11
    assert resolved(data_root, size_sigma=3.5).model.instance_head.sigma == 3.5
    assert resolved(data_root, short_edge="$size_short_edge*1/2").model.instance_head.sigma == 3.0
    assert resolved(data_root, short_edge=[192, 320]).model.instance_head.sigma == 3.0
    assert resolved(data_root, size_short_edge=256).model.instance_head.sigma == 3.0


def test_the_choice_says_what_it_comes_from(data_root):
    cfg = get_config(OWN)
    apply_options(cfg, {"data_root": str(data_root), "size_top_k": 500})
    for name, value in resolve_variables(cfg).items():
        cfg[name] = value
    text = str(fill_sizes(cfg))
    assert "size_sigma 6.0" in text
    assert "40 things of" in text
    assert "panoptic_train.json" in text
    assert "size_top_k as the config says" in text
    assert fill_sizes(cfg) is None  # nothing is left


def test_stored_values_hold_where_the_data_are_not_there(data_root, tmp_path):
    stored = {**USUAL_SETTINGS, "size_sigma": 6.5}
    meta = {"classes": ["a"], "dataset_ids": [1], "isthing": [True]}
    cfg = get_config(OWN)
    apply_options(cfg, {"data_root": str(tmp_path / "nowhere")})
    assert resolve_config(cfg.copy(), meta, stored).model.instance_head.sigma == 6.5
    with pytest.warns(UserWarning, match="usual sizes of photographs"):
        usual = resolve_config(cfg.copy(), meta)
    assert usual.model.instance_head.sigma == USUAL_SETTINGS["size_sigma"]
    apply_options(cfg, {"data_root": str(data_root)})
    assert resolve_config(cfg.copy(), meta, stored).model.instance_head.sigma == 6.5  # a model's
    assert resolve_config(cfg.copy(), meta, {}).model.instance_head.sigma == 6.0


def test_a_broken_annotation_file_is_an_error_and_no_reason_for_defaults(data_root):
    (data_root / "annotations/panoptic_train.json").write_text("{")
    with pytest.raises(PanopticFormatError, match="corrupt_json"):
        resolved(data_root)


def test_a_short_edge_that_is_none_is_refused(data_root):
    with pytest.raises(ValueError, match="short_edge must be a length"):
        resolved(data_root, short_edge="large")


def test_configs_without_such_placeholders_read_no_file():
    assert resolve_config(Config({"data_root": "/nowhere", "a": 1})).a == 1


def test_a_share_of_a_variable_waits_for_the_size_that_it_holds(data_root):
    cfg = get_config("panoptic-deeplab_r18-fine_1xb4-1k_own")
    apply_options(cfg, {"data_root": str(data_root)})
    resolve_config(cfg)
    assert cfg.short_edge == 256
    assert cfg.train_dataloader.dataset.pipeline[3].resize.short_edge == [192, 256, 320, 384]
    assert cfg.model.instance_head.in_strides == [2, 4, 8]
    assert cfg.model.instance_head.sigma == 3.0


def test_what_the_backbone_gives_is_measured_below_test_time_augmentation(data_root):
    cfg = get_config("panoptic-deeplab_r18-fine_1xb4-1k_own")
    apply_options(cfg, {"data_root": str(data_root)})
    use_test_time_augmentation(cfg)
    resolve_config(cfg)
    assert cfg.model.type == "PanopticTTAModel"
    assert cfg.model.module.instance_head.in_channels == [32, 64, 128]
    scales = cfg.test_dataloader.dataset.pipeline[2].transforms[0]
    assert [step.short_edge for step in scales] == [256, 384]
