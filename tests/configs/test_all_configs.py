"""Every config loads, says what it is, names no class count and builds."""

import ast
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch.utils.data import TensorDataset

from mmpanoptic.apis import get_config, list_configs
from mmpanoptic.engine.argument_names import check_against_model, check_arguments, taken_by
from mmpanoptic.engine.auto_scale import scale_to_batch
from mmpanoptic.engine.config import resolve_config, resolve_variables
from mmpanoptic.engine.config_keys import apply_options, check_keys
from mmpanoptic.engine.runner import PanopticRunner
from mmpanoptic.engine.type_names import check_types
from mmpanoptic.registry import DATASETS, METRICS, MODELS, TRANSFORMS

CONFIGS = Path(__file__).parent.parent.parent / "configs"
LEAVES = sorted(p for p in CONFIGS.glob("*/*.py") if p.parent.name != "_base_")
# {system}_{backbone}_{options}_{gpus}xb{batch}-{schedule}_{dataset}, as docs/configs.md says
NAME = re.compile(r"[a-z0-9-]+(_[a-z0-9.-]+)*_\d+xb\d+-[a-z0-9]+_[a-z0-9-]+")
FIELDS = ("Paper:", "Reproduces:", "Published:", "Measured:", "Hardware:", "Command:")
SAMPLER = {"type": "SeededSampler", "shuffle": False}
COUNT_KEYS = {"num_classes", "num_things", "num_stuff", "num_things_classes", "num_stuff_classes"}


def is_main(path):
    """The one file of a system that holds its model; it is no leaf to be trained."""
    return not NAME.fullmatch(path.stem)


def bases(path):
    """Paths that a config text names in ``_base_``."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_base_":
            value = ast.literal_eval(node.value)
            return [path.parent / name for name in ([value] if isinstance(value, str) else value)]
    return []


def depth(path):
    return max((1 + depth(base) for base in bases(path)), default=0)


def walk(node, place="cfg"):
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{place}.{key}", key, value
            yield from walk(value, f"{place}.{key}")
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from walk(value, f"{place}[{index}]")


TRAINABLE = [path for path in LEAVES if not is_main(path)]
each_leaf = pytest.mark.parametrize("path", TRAINABLE, ids=lambda p: p.stem)


def test_there_are_configs_for_the_built_in_and_the_real_datasets():
    datasets = {path.stem.split("_")[-1].split("-")[0] for path in TRAINABLE}
    assert {"shapes", "coco", "cityscapes", "own"} <= datasets


@pytest.mark.parametrize("path", LEAVES, ids=lambda p: p.stem)
def test_inheritance_is_at_most_two_levels_deep(path):
    assert depth(path) <= 2
    assert len(bases(path)) <= 5


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.py")), ids=lambda p: p.stem)
def test_no_config_inherits_from_another_package(path):
    assert "::" not in path.read_text(encoding="utf-8")


@each_leaf
def test_the_header_says_what_the_config_is(path):
    header = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert header, "no docstring"
    for field in FIELDS:
        assert field in header
    command = header.split("Command:")[1]
    assert path.name in command


@each_leaf
def test_something_reads_every_setting(path):
    cfg = Config.fromfile(path)
    check_keys(cfg)
    check_types(cfg._cfg_dict)


@each_leaf
def test_class_counts_are_never_written(path):
    cfg = Config.fromfile(path)
    for place, key, value in walk(cfg.to_dict()):
        if key in COUNT_KEYS:
            assert isinstance(value, str), f"{place} = {value}"
            assert value.startswith("$"), f"{place} = {value}"


@pytest.fixture
def resolved(path, tmp_path):
    """The config as the runner sees it; where classes come from the JSON, it gets a small one."""
    cfg = Config.fromfile(path)
    if "classes" not in DATASETS.get(cfg.dataset_type).METAINFO:
        annotation = tmp_path / "panoptic.json"
        annotation.write_text(
            '{"images": [], "annotations": [], "categories": ['
            '{"id": 1, "name": "cell", "isthing": 1}, {"id": 2, "name": "ground", "isthing": 0}]}'
        )
        cfg.merge_from_dict({"data_root": str(tmp_path), "train_ann_file": annotation.name})
    return resolve_config(cfg)


@each_leaf
def test_the_model_builds_and_its_counts_are_the_tables(resolved):
    init_default_scope("mmpanoptic")
    with torch.device("meta"):
        model = MODELS.build(resolved.model)
    assert sum(parameter.numel() for parameter in model.parameters()) > 0
    check_against_model(resolved, model)


@each_leaf
def test_loaders_work_without_workers_and_with_any_batch(path):
    """num_workers=0 and eval_batch_size are the original COPS's options for evaluation."""
    cfg = Config.fromfile(path)
    init_default_scope("mmpanoptic")
    options = {"num_workers": 0, "eval_batch_size": 3}
    apply_options(cfg, options)
    cfg = resolve_variables(cfg)
    for name in ("val_dataloader", "test_dataloader"):
        assert cfg[name].batch_size == 3
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        settings = {**cfg[name], "dataset": TensorDataset(torch.zeros(8, 1)), "sampler": SAMPLER}
        settings.pop("batch_sampler", None)
        PanopticRunner.build_dataloader(settings, seed=0)


@each_leaf
def test_the_name_says_for_which_batch_the_schedule_is(path):
    gpus, batch = map(int, re.search(r"_(\d+)xb(\d+)-", path.stem).groups())
    cfg = resolve_variables(Config.fromfile(path))
    assert cfg.train_dataloader.batch_size == batch
    if cfg.train_cfg.type.endswith("SearchLoop"):
        assert cfg.auto_scale_lr is None  # a search trains nothing
        return
    assert cfg.auto_scale_lr.base_batch_size == gpus * batch
    assert not cfg.auto_scale_lr.enable


@each_leaf
def test_the_whole_schedule_follows_the_number_of_iterations(path):
    """Four times the iterations: every later change of the rate comes four times as late."""
    found = []
    for factor in (1, 4):
        cfg = Config.fromfile(path)
        if cfg.train_cfg.type.endswith("SearchLoop"):
            return
        cfg.auto_scale_lr.enable = factor > 1
        images = cfg.auto_scale_lr.base_batch_size // factor
        if images < 1 or cfg.auto_scale_lr.base_batch_size % factor:
            pytest.skip("no quarter of this batch")
        cfg.merge_from_dict({"batch_size": images})
        scale_to_batch(cfg, 1)
        found.append(resolve_variables(cfg))
    small, large = found
    assert large.train_cfg.max_iters == 4 * small.train_cfg.max_iters
    assert large.optim_wrapper.optimizer.lr == pytest.approx(small.optim_wrapper.optimizer.lr / 4)
    for before, after in zip(small.param_scheduler, large.param_scheduler, strict=True):
        assert before["type"] == after["type"]
        if "milestones" in before:
            distances = [
                a - 4 * b for a, b in zip(after["milestones"], before["milestones"], strict=True)
            ]
            assert all(0 <= d <= 3 for d in distances)  # rounded, or one less than a round number
        elif before["type"] == "LinearLR":
            assert before["end"] == after["end"]  # the warm-up
        elif "end" in before:
            assert 4 * before["end"] - after["end"] in (0, 3)


@each_leaf
def test_pipelines_and_metrics_build(resolved):
    init_default_scope("mmpanoptic")
    check_arguments(resolved)
    for name in ("train_dataloader", "val_dataloader"):
        taken, is_all = taken_by(DATASETS.get(resolved[name].dataset.type))
        assert not is_all or {*resolved[name].dataset} - {"type"} <= taken
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for step in resolved[name].dataset.pipeline:
            TRANSFORMS.build(step)
    for name in ("val_evaluator", "test_evaluator"):
        evaluator = resolved[name]
        for metric in evaluator if isinstance(evaluator, list | tuple) else [evaluator]:
            METRICS.build(metric)


@pytest.mark.parametrize("head", ["RelationHead", "OcclusionHead"])
def test_the_heads_of_rap_are_written_once(head):
    files = [p.name for p in (CONFIGS / "rap").glob("*.py") if f'"{head}"' in p.read_text()]
    assert len(files) == 1, files


def learns_to_segment(name):
    """Whether a config trains something that validation measures."""
    return ("_own" in name or "shapes" in name) and not any(
        part in name for part in ("supernet", "search", "crops")
    )


@pytest.mark.parametrize("name", [name for name in list_configs() if learns_to_segment(name)])
def test_small_data_are_validated_on_the_way_and_the_best_is_kept(name):
    cfg = resolve_variables(get_config(name))
    assert cfg.default_hooks.checkpoint.save_best in ("PQ", "mIoU", "segm_mAP")
    assert 4 <= cfg.train_cfg.max_iters // cfg.train_cfg.val_interval <= 5
    short = resolve_variables(get_config(name, {"max_iters": 3}))
    assert short.train_cfg.val_interval >= 1
