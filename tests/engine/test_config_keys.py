"""Overrides reach what they name, and names that nothing reads are errors."""

import argparse
import re

import pytest
from mmengine.config import Config

from mmpanoptic.apis import get_config
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.engine.config_keys import apply_options, check_keys, read_names
from mmpanoptic.registry import ConfigError
from mmpanoptic.utils.cfg_options import ConfigOptions

BASE = """
max_iters = 100
base_lr = 0.1
milestones = ["$max_iters*1/2", "$max_iters*3/4"]
data_root = "data/own"
size = (4, 6)
decoder = dict(channels=8)
pipeline = [dict(type="A", size="$size"), dict(type="B", prob=0.5)]
train_dataloader = dict(dataset=dict(data_root="$data_root", ann_file="", pipeline="$pipeline"))
val_dataloader = train_dataloader
model = dict(head=dict(**decoder), widths=[1, 2], loss=None)
param_scheduler = [dict(type="M", milestones="$milestones")]
train_cfg = dict(max_iters="$max_iters")
optim_wrapper = dict(optimizer=dict(lr="$base_lr"), clip_grad=None)
default_hooks = dict(checkpoint=dict(save_best="auto"))
"""


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "base.py"
    path.write_text(BASE)
    return Config.fromfile(path)


def typed(*pairs):
    """What the command line makes of the pairs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=ConfigOptions)
    return parser.parse_args(["--cfg-options", *pairs]).cfg_options


def test_below_a_placeholder_only_the_named_place_changes(base):
    apply_options(
        base,
        {"val_dataloader.dataset.pipeline.1.prob": 0.0, "pipeline.0.type": "C"},
    )
    cfg = resolve_config(base)
    assert cfg.val_dataloader.dataset.pipeline == [{"type": "C", "size": (4, 6)}, step(0.0)]
    assert cfg.train_dataloader.dataset.pipeline == [{"type": "C", "size": (4, 6)}, step(0.5)]


def step(prob):
    return {"type": "B", "prob": prob}


def test_any_item_of_a_list_can_be_replaced(base):
    apply_options(base, typed("model.widths.1=7", "size.0=3", "param_scheduler.0.milestones.0=9"))
    assert (base.model.widths, base.size) == ([1, 7], [3, 6])
    assert resolve_config(base).param_scheduler[0].milestones == [9, 75]


def test_dicts_merge_and_delete(base):
    apply_options(
        base,
        typed(
            "model.head={'depth':2}",
            "optim_wrapper.clip_grad.max_norm=35",
            "train_cfg=dict(_delete_=True,max_epochs=3)",
            "custom_hooks=[{'type':'X','n':1},dict(type='Y')]",
        ),
    )
    assert base.model.head == {"channels": 8, "depth": 2}
    assert base.optim_wrapper.clip_grad == {"max_norm": 35}
    assert base.train_cfg == {"max_epochs": 3}
    assert base.custom_hooks == [{"type": "X", "n": 1}, {"type": "Y"}]


@pytest.mark.parametrize("text", ["data/a,b", "2024", "007", "data/a b", "1e3"])
def test_where_the_config_holds_a_path_the_text_is_one(base, text):
    keys = ("data_root", "train_dataloader.dataset.ann_file", "work_dir", "load_from")
    apply_options(base, typed(*(f"{key}={text}" for key in keys)))
    assert [base.data_root, base.work_dir, base.load_from] == [text] * 3
    assert base.train_dataloader.dataset.ann_file == text


def test_elsewhere_commas_make_lists_and_digits_numbers(base):
    apply_options(base, typed("default_hooks.checkpoint.save_best=PQ,SQ", "model.loss=2024"))
    assert base.default_hooks.checkpoint.save_best == ["PQ", "SQ"]
    assert base.model.loss == 2024
    apply_options(base, typed("data_root=None"))
    assert base.data_root is None


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("max_iter=3", r"max_iter; did you mean max_iters\?"),
        ("optim_wraper.clip_grad.max_norm=3", r"optim_wraper; did you mean optim_wrapper\?"),
        ("batch_size=3", "nothing reads the setting batch_size"),
        ("decoder.channels=3", "decoder is a variable of the Python file"),
        ("num_classes=3", "class counts come from the dataset"),
        ("pipeline.2.prob=1", r"pipeline.2.prob: 2 is not a number of the list's \(0 A, 1 B\)"),
        ("pipeline.B.prob=1", r"B is not a number of the list's \(0 A, 1 B\)"),
        ("base_lr.x=1", "base_lr is 0.1, which has no parts"),
    ],
)
def test_an_override_that_leads_nowhere_is_an_error(base, option, words):
    with pytest.raises(ConfigError, match=words):
        apply_options(base, typed(option))


def test_an_override_may_bring_a_variable_into_use(base):
    apply_options(base, {"work_dir": "$folder", "folder": "runs"})
    assert resolve_config(base).work_dir == "runs"


def test_other_places_with_the_same_object_stay(base):
    shared = {"a": {"b": 1}}
    base.train_cfg, base.val_cfg = shared, shared
    apply_options(base, {"train_cfg.a.b": 2})
    assert (base.train_cfg, base.val_cfg) == ({"a": {"b": 2}}, {"a": {"b": 1}})


def leaf(base, text):
    path = base.filename.replace("base.py", "leaf.py")
    with open(path, "w") as file:
        file.write(f'_base_ = "base.py"\n{text}\n')
    return Config.fromfile(path)


@pytest.mark.parametrize(
    "text",
    [
        "max_iters = 3",
        "width = 3\nmodel = dict(head=dict(width=width))",
        "for depth in (1, 2):\n    model = dict(depth=depth)",
        'folder = "x"\nwork_dir = "$folder"',
        "from os.path import join\nwork_dir = join('a', 'b')",
        "decoder = dict(_delete_=True, channels=9)\nmodel = dict(head=decoder)",
        "shown = 1\nlog_level = 'INFO' if shown else 'ERROR'",
        "decoder = dict(channels={{_base_.max_iters}})\nmodel = dict(head=decoder)",
    ],
)
def test_settings_that_something_reads_are_allowed(base, text):
    check_keys(leaf(base, text))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_iter = 3", r"leaf.py: nothing reads the setting max_iter; did you mean max_iters\?"),
        ("optim_wraper = dict(x=1)", "did you mean optim_wrapper"),
        ("learning_rate = 1", "nothing reads the setting learning_rate; take it out"),
        ("decoder = dict(channels=9)", "nothing reads the setting decoder"),
        ("num_classes = 9", "class counts come from the dataset"),
        ("env_cfg = dict(cudnn_bench=True)", r"env_cfg.cudnn_bench; did you mean cudnn_benchmark"),
        ("auto_scale_lr = dict(enabled=True)", r"auto_scale_lr.enabled; did you mean enable\?"),
    ],
)
def test_settings_that_nothing_reads_are_errors(base, text, words):
    with pytest.raises(ConfigError, match=words):
        check_keys(leaf(base, text))


def test_settings_of_memory_are_looked_at_too(base):
    base.max_iter = 3
    with pytest.raises(ConfigError, match="did you mean max_iters"):
        check_keys(base)


def test_variables_are_followed_through_variables(base):
    assert {"milestones", "max_iters", "size", "pipeline"} <= read_names(base)
    assert "decoder" not in read_names(base)


def test_json_and_lazy_configs_are_read(base, tmp_path):
    path = tmp_path / "c.json"
    path.write_text('{"work_dir": "$folder", "folder": "x"}')
    check_keys(Config.fromfile(path))
    path.write_text('{"work_dirs": "x"}')
    with pytest.raises(ConfigError, match="did you mean work_dir"):
        check_keys(Config.fromfile(path))
    lazy = tmp_path / "lazy.py"
    lazy.write_text("from torch.optim import SGD\nlr = 1\noptim_wrapper = dict(type=SGD, lr=lr)\n")
    check_keys(Config.fromfile(lazy))


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("default_hooks.chekpoint.interval", "did you mean checkpoint?"),
        ("randomness.sede", "did you mean seed?"),
        ("env_cfg.dist_cfg.bakend", "did you mean backend?"),
        ("env_cfg.mp_cfg.mp_start", "did you mean mp_start_method?"),
    ],
)
def test_a_nested_name_with_a_typing_error_is_refused(key, hint):
    cfg = get_config("panoptic-deeplab_r18-tiny_1xb8-500_shapes", {key: 1})
    with pytest.raises(ConfigError, match=re.escape(hint)):
        check_keys(cfg)
