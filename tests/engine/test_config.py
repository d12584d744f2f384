import pytest
from mmengine.config import Config

from mmpanoptic.engine.config import resolve_config
from mmpanoptic.structures import LabelTable

META = LabelTable.from_categories(
    [
        {"id": 5, "name": "sky", "isthing": 0},
        {"id": 2, "name": "car", "isthing": 1},
        {"id": 9, "name": "dog", "isthing": 1},
    ]
).to_metainfo()


def test_class_counts_come_from_the_table_at_any_depth():
    cfg = Config(
        {
            "model": {
                "head": {"num_classes": "$num_classes", "branches": [{"n": "$num_things"}]},
                "fusion": {"things": "$thing_labels", "stuff": "$stuff_labels", "k": "$num_stuff"},
            }
        }
    )
    resolve_config(cfg, META)
    assert cfg.model.head.num_classes == 3
    assert cfg.model.head.branches[0].n == 2
    assert cfg.model.fusion.to_dict() == {"things": [1, 2], "stuff": [0], "k": 1}


def test_variables_reach_every_place_after_an_override():
    cfg = Config(
        {
            "data_root": "data/a",
            "max_iters": 100,
            "val_interval": "$max_iters",
            "train_cfg": {"max_iters": "$max_iters", "val_interval": "$val_interval"},
            "param_scheduler": [{"end": "$max_iters+1"}],
            "train_dataloader": {"dataset": {"data_root": "$data_root"}},
        }
    )
    cfg.merge_from_dict({"data_root": "data/b", "max_iters": 7})
    resolve_config(cfg)
    assert cfg.train_cfg.to_dict() == {"max_iters": 7, "val_interval": 7}
    assert cfg.param_scheduler[0].end == 8
    assert cfg.train_dataloader.dataset.data_root == "data/b"


def test_a_config_with_numbers_is_left_alone_and_needs_no_dataset():
    cfg = Config({"model": {"num_classes": 7}})
    assert resolve_config(cfg).model.num_classes == 7


def test_resolving_twice_changes_nothing():
    cfg = Config({"model": {"num_classes": "$num_classes"}})
    once = resolve_config(cfg, META).to_dict()
    assert resolve_config(cfg).to_dict() == once


def test_unknown_placeholders_are_named_with_their_place():
    cfg = Config({"model": {"head": {"num_classes": "$classes"}}})
    with pytest.raises(ValueError, match=r"model\.head\.num_classes = '\$classes'"):
        resolve_config(cfg, META)


def test_a_config_without_dataset_says_what_to_do():
    cfg = Config({"model": {"num_classes": "$num_classes"}})
    with pytest.raises(ValueError, match="train_dataloader"):
        resolve_config(cfg)


def test_a_share_of_a_variable_is_rounded_down():
    cfg = Config({"n": 59500, "a": "$n*27/40", "b": ["$n*33/40-1"], "c": "$n*1/2+3"})
    resolve_config(cfg)
    assert (cfg.a, cfg.b, cfg.c) == (40162, [49086], 29753)
