"""The configs of COPS against the published recipes."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmpanoptic.engine.config import resolve_config

CONFIGS = Path(__file__).parents[2] / "configs" / "cops"
CITYSCAPES_EDGES = [
    *(512, 640, 704, 832, 896, 1024, 1152, 1216),
    *(1344, 1408, 1536, 1664, 1728, 1856, 1920, 2048),
]
# base rate, iterations, warm-up, images of all GPUs, short edges, long edge, crop, test size,
# padding, top k of classes, weights of things, limit of stuff, evaluation batch
RECIPES = {
    "cops_r52_pretrain_1xb12-50k_cityscapes-512x1024": (
        *(1e-4, 50000, 1000, 12, CITYSCAPES_EDGES, 4096, (512, 1024), (1024, 2048)),
        *(0, 0.2, (4.0, 3.0), 2048, 1),
    ),
    "cops_r52_e2e_1xb24-20k_cityscapes-512x1024": (
        *(1e-3, 20000, 500, 24, CITYSCAPES_EDGES, 4096, (512, 1024), (1024, 2048)),
        *(0, 0.2, (1.0, 1.0), 2048, 4),
    ),
    "cops_r52_pretrain_4xb12-50k_coco-640x640": (
        *(1e-4, 50000, 1000, 48, list(range(320, 961, 64)), 960, (640, 640), (640, 640)),
        *(640, 1.0, (4.0, 3.0), 4096, 24),
    ),
    "cops_r52_e2e_1xb24-20k_coco-640x640": (
        *(1e-4, 20000, 500, 24, [448, 512, 576, 640, 704, 768], 960, (640, 640), (640, 640)),
        *(640, 1.0, (1.0, 1.0), 4096, 4),
    ),
}
each_recipe = pytest.mark.parametrize("name", RECIPES)


def load(name):
    return resolve_config(Config.fromfile(CONFIGS / f"{name}.py"))


def step(pipeline, kind):
    """Find a transform, also inside one that combines several."""
    nested = [value for one in pipeline for value in one.values() if isinstance(value, dict)]
    (found,) = (one for one in [*pipeline, *nested] if one.get("type") == kind)
    return found


@each_recipe
def test_schedule_and_sizes_are_the_published_ones(name):
    cfg = load(name)
    train, test = (cfg[f"{kind}_dataloader"] for kind in ("train", "test"))
    resize = step(train.dataset.pipeline, "ResizeShortestEdge")
    shown = step(test.dataset.pipeline, "ResizeShortestEdge")
    gpus = int(next(part for part in name.split("_") if "xb" in part).partition("x")[0])
    semantic, affinity = cfg.model.semantic_head, cfg.model.instance_head
    assert (semantic.small_instance_weight, semantic.small_crowds) == (
        affinity.small_instance_weight,
        False,
    )
    assert (
        cfg.optim_wrapper.optimizer.lr,
        cfg.train_cfg.max_iters,
        cfg.warmup_iters,
        gpus * train.batch_size,
        list(resize.short_edge),
        resize.max_size,
        tuple(step(train.dataset.pipeline, "RandomCrop").crop_size),
        (shown.short_edge, shown.max_size),
        cfg.model.data_preprocessor.pad_size_divisor,
        semantic.loss.top_k,
        (affinity.instance_weight, affinity.small_instance_weight),
        cfg.model.fusion_head.stuff_area,
        test.batch_size,
    ) == RECIPES[name]


@each_recipe
def test_all_parts_agree_on_edges_and_areas(name):
    model = load(name).model
    distances = (1, 4, 16, 32) if "coco" in name else (1, 4, 16, 32, 64)
    assert tuple(model.instance_head.distances) == distances
    assert tuple(model.fusion_head.distances) == distances
    assert model.fusion_head.instance_area == 200
    loss = model.get("multicut_loss")
    assert (loss is None) == ("pretrain" in name)
    if loss is not None:
        assert tuple(loss.distances) == distances
        assert (loss.stuff_area, loss.instance_area, loss.ignore_area) == (
            model.fusion_head.stuff_area,
            model.fusion_head.instance_area,
            model.fusion_head.ignore_area,
        )
        expected = (100.0, (1000.0, 5000.0)) if "coco" in name else (10.0, (1.0, 5000.0))
        assert (loss.loss_weight, tuple(loss.step_range)) == expected
        assert model.semantic_head.loss.loss_weight == 0
        assert model.instance_head.loss.loss_weight == 0


@pytest.mark.parametrize(
    ("second", "first"),
    [
        ("cops_r52_e2e_1xb24-20k_cityscapes-512x1024", "cops_r52_pretrain_1xb12-50k_cityscapes"),
        ("cops_r52_e2e_1xb24-20k_coco-640x640", "cops_r52_pretrain_4xb12-50k_coco"),
        ("cops_r18-tiny_e2e_1xb8-200_shapes", "cops_r18-tiny_pretrain_1xb8-600_shapes"),
    ],
)
def test_the_second_stage_starts_from_the_last_checkpoint_of_the_first(second, first):
    folder, file = Path(load(second).load_from).parts[-2:]
    assert folder.startswith(first)
    assert (CONFIGS / f"{folder}.py").is_file()
    assert file == f"iter_{load(folder).train_cfg.max_iters}.pth"
