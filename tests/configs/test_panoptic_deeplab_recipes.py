"""The configs of Panoptic-DeepLab and DeepLabV3+ against the published models and recipes."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmpanoptic.checkpoints.panoptic_deeplab_keys import PanopticDeepLabKeyMap
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from tests.golden import golden_dir

CONFIGS = Path(__file__).parents[2] / "configs"
IMAGENET_NORM = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
HALF_NORM = ([128.0] * 3, [128.0] * 3)
PANOPTIC_EDGES = [
    *(512, 640, 704, 832, 896, 1024, 1152, 1216),
    *(1344, 1408, 1536, 1664, 1728, 1856, 1920, 2048),
]
SEMANTIC_EDGES = [512, 768, 1024, 1280, 1536, 1792, 2048]
COCO_EDGES = list(range(320, 961, 64))
MANIFESTS = {
    f"panoptic-deeplab_{backbone}{flavour}_{run}": (f"{backbone}_{golden}", classes)
    for backbone in ("r52", "x65", "h48")
    for flavour, golden in (("", "conv"), ("-dsconv", "dsconv"))
    for run, classes in (("8xb4-90k_cityscapes-512x1024", 19), ("16xb4-200k_coco-640x640", 133))
    if flavour or classes == 19
} | {
    f"deeplabv3plus_{backbone}_8xb2-90k_cityscapes-512x1024": (f"deeplabv3plus_{backbone}", 19)
    for backbone in ("x65", "h48")
}
each_recipe = pytest.mark.parametrize("name", MANIFESTS)


def load(name):
    init_default_scope("mmpanoptic")
    return resolve_config(Config.fromfile(next(CONFIGS.glob(f"*/{name}.py"))))


def build(cfg):
    with torch.device("meta"):
        return MODELS.build(cfg.model)


@each_recipe
def test_the_model_has_exactly_the_published_tensors(name):
    variant, classes = MANIFESTS[name]
    text = (golden_dir("panoptic_deeplab") / f"manifest_{variant}.json").read_text()
    manifest = json.loads(text)
    for part in ("weight", "bias"):
        manifest[f"sem_seg_head.predictor.{part}"][0] = classes
    key_map = PanopticDeepLabKeyMap(build(load(name)))
    shapes = {theirs: list(key_map.shapes[ours]) for ours, theirs in key_map.published.items()}
    assert shapes == manifest


@each_recipe
def test_input_and_padding_are_the_published_ones(name):
    cfg = load(name)
    preprocessor = cfg.model.data_preprocessor
    assert (list(preprocessor.mean), list(preprocessor.std)) == (
        HALF_NORM if "x65" in name else IMAGENET_NORM
    )
    divisor = 640 if "coco" in name else 0 if "r52" in name else 32
    assert preprocessor.pad_size_divisor == divisor
    steps = {step["type"]: step for step in cfg.train_dataloader.dataset.pipeline}
    edges = (
        COCO_EDGES
        if "coco" in name
        else SEMANTIC_EDGES
        if "deeplabv3plus" in name
        else PANOPTIC_EDGES
    )
    crop = (640, 640) if "coco" in name else (512, 1024)
    resize, window = steps["ResizeCrop"]["resize"], steps["ResizeCrop"]["crop"]
    assert (resize["type"], resize["short_edge"]) == ("ResizeShortestEdge", edges)
    assert resize["max_size"] == (960 if "coco" in name else 4096)
    assert (window["type"], tuple(window["crop_size"])) == ("RandomCrop", crop)
    assert steps["PanopticRandomFlip"]["prob"] == 0.5
    assert tuple(cfg.model.semantic_head.pool_crop_size) == crop
    resize = {s["type"]: s for s in cfg.test_dataloader.dataset.pipeline}["ResizeShortestEdge"]
    expected = (640, 640) if "coco" in name else (1024, 2048)
    assert (resize["short_edge"], resize["max_size"]) == expected


def test_the_older_limit_of_the_long_edge_is_one_option():
    cfg = Config.fromfile(
        CONFIGS / "panoptic_deeplab" / "panoptic-deeplab_x65-dsconv_16xb4-200k_coco-640x640.py"
    )
    cfg.merge_from_dict({"max_size_train": 640})
    resize = resolve_config(cfg).train_dataloader.dataset.pipeline[2]["resize"]
    assert resize["max_size"] == 640


@each_recipe
def test_losses_and_post_processing_are_the_published_ones(name):
    cfg = load(name)
    coco = "coco" in name
    model = build(cfg)
    semantic = model.semantic_head
    assert semantic.loss.top_k == (1.0 if coco else 0.2)
    assert semantic.loss.loss_weight == 1.0
    if "deeplabv3plus" in name:
        assert semantic.small_instance_area == 0
        assert model.instance_head is None
        return
    assert (semantic.small_instance_area, semantic.small_instance_weight) == (4096, 3.0)
    instance, fusion = model.instance_head, model.fusion_head
    assert instance.sigma == (8.0 if coco else 10.0)
    assert instance.ignore_stuff_in_offset
    weights = (instance.loss_center.loss_weight, instance.loss_offset.loss_weight)
    assert weights == (200.0, 0.01)
    assert (fusion.stuff_area, fusion.nms_kernel) == ((4096, 41) if coco else (2048, 7))
    assert (fusion.threshold, fusion.top_k) == (0.1, 200)


@each_recipe
def test_optimizer_and_schedule_are_the_published_ones(name):
    cfg = load(name)
    gpus = int(name.split("xb")[0].split("_")[-1])
    semantic = "deeplabv3plus" in name
    batch, iterations = (16, 90000) if semantic else (64, 200000) if "coco" in name else (32, 90000)
    assert gpus * cfg.train_dataloader.batch_size == batch
    assert cfg.train_cfg.max_iters == cfg.train_cfg.val_interval == iterations
    assert cfg.param_scheduler[1]["end"] == iterations + 1
    assert cfg.param_scheduler[0]["end"] == 1001
    assert "clip_grad" not in cfg.optim_wrapper
    assert cfg.default_hooks.checkpoint.interval == 5000
    assert cfg.load_from.startswith("mmpanoptic://imagenet/")
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        {
            "type": "DefaultOptimWrapperConstructor",
            "optim_wrapper_cfg": {k: v for k, v in cfg.optim_wrapper.items() if k[:2] != "pa"},
            "paramwise_cfg": cfg.optim_wrapper.get("paramwise_cfg"),
        }
    )
    model = build(cfg)
    optimizer = constructor(model).optimizer
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    norms = (torch.nn.modules.batchnorm._BatchNorm,)
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            group = groups[id(parameter)]
            decay = 1e-4 if semantic and not isinstance(module, norms) else 0
            lr = 1e-2 if semantic else 5e-4 if "coco" in name else 1e-3
            assert (group["lr"], group["weight_decay"]) == (lr, decay)
    assert type(optimizer).__name__ == ("SGD" if semantic else "Adam")
    if semantic:
        assert optimizer.defaults["momentum"] == 0.9
