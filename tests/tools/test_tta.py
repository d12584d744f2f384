import re

import pytest
from mmengine.config import Config

from mmpanoptic.engine.testing import use_test_time_augmentation
from tests.apis.tiny_model import CONFIG

TOOL = "test.py"


def quality(done):
    return float(re.findall(r"coco_panoptic/PQ: ([\d.]+)", done.stdout + done.stderr)[-1])


def test_the_mirror_image_is_the_default(run_tool, shapes_root, checkpoint):
    options = ["--cfg-options", f"data_root={shapes_root}", "test_dataloader.num_workers=0"]
    done = run_tool(TOOL, CONFIG, checkpoint, "--tta", *options)
    assert 0 <= quality(done) <= 100


def test_the_config_may_say_more():
    tta = [{"type": "LoadImage"}, {"type": "TestTimeAug", "transforms": [[]]}]
    cfg = Config(
        {
            "model": {"type": "M"},
            "test_pipeline": [{"type": "LoadImage"}, {"type": "Pack"}],
            "test_dataloader": {
                "dataset": {"type": "R", "dataset": {"pipeline": "$test_pipeline"}}
            },
        }
    )
    default = Config(cfg.to_dict())
    use_test_time_augmentation(default)
    steps = default.test_dataloader.dataset.dataset.pipeline
    assert [step["type"] for step in steps] == ["LoadImage", "TestTimeAug"]
    assert steps[1]["transforms"][1] == [{"type": "Pack"}]
    assert default.model == {"type": "PanopticTTAModel", "module": {"type": "M"}}
    cfg.tta_pipeline, cfg.tta_model = tta, {"type": "Mine"}
    use_test_time_augmentation(cfg)
    assert cfg.test_dataloader.dataset.dataset.pipeline == tta
    assert cfg.model == {"type": "Mine", "module": {"type": "M"}}


@pytest.mark.parametrize("name", ["cityscapes", "coco"])
def test_the_shipped_augmentations_build(name):
    from mmengine.registry import init_default_scope

    from mmpanoptic.registry import TRANSFORMS
    from tests.configs.test_all_configs import CONFIGS

    init_default_scope("mmpanoptic")
    cfg = Config.fromfile(CONFIGS / "_base_" / "datasets" / f"{name}_panoptic.py")
    augmentation = [TRANSFORMS.build(step) for step in cfg.tta_pipeline][1]
    assert len(augmentation.subroutines) == (14 if name == "cityscapes" else 10)
