"""Resume is exact for each combination of what a run can have."""

import itertools
import random

import pytest
import torch

from tests.engine.toy import assert_same, final_state, toy_config, train

PLATEAU = {
    "type": "ReduceOnPlateauLR", "monitor": "toy/PQ", "rule": "greater",
    "patience": 0, "threshold": 100.0, "threshold_rule": "abs", "factor": 0.5,
}  # fmt: skip
WARM_UP = {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 7}
OPTIONS = {
    "loop": {"iterations": False, "epochs": True},
    "workers": {"none": 0, "two": 2},
    "optimizer": {
        "sgd": {"type": "SGD", "lr": 0.05, "momentum": 0.9},
        "adam": {"type": "AdamW", "lr": 0.01},
    },
    "window": {"1": {}, "4": {"optim_wrapper.accumulative_counts": 4}},
    "precision": {
        "float32": {},
        "bfloat16": {
            "optim_wrapper.type": "AutocastOptimWrapper",
            "optim_wrapper.dtype": "bfloat16",
        },
    },
    "schedule": {
        "poly": {},
        "warm-up": {"param_scheduler": [WARM_UP]},
        "plateau": {"param_scheduler": [PLATEAU]},
    },
    "best": {"none": {}, "PQ": {"default_hooks.checkpoint.save_best": "toy/PQ"}},
    "batches": {
        "plain": {},
        "grouped": {"train_dataloader": {"batch_sampler": {"type": "AspectRatioBatchSampler"}}},
    },
}


def pairwise(options, draw):
    """Choose combinations so that each pair of values of two options meets in one of them."""
    names = list(options)
    missing = {
        frozenset({(one, a), (other, b)})
        for one, other in itertools.combinations(names, 2)
        for a in options[one]
        for b in options[other]
    }
    while missing:
        candidates = [{n: draw.choice(list(options[n])) for n in names} for _ in range(60)]

        met = [{pair for pair in missing if pair <= set(one.items())} for one in candidates]
        best = max(range(len(met)), key=lambda number: len(met[number]))
        missing -= met[best]
        yield tuple(candidates[best].values())


MATRIX = list(pairwise(OPTIONS, random.Random(0)))


@pytest.mark.parametrize(
    "choice",
    [
        pytest.param(choice, marks=() if number < 2 else pytest.mark.faults, id="-".join(choice))
        for number, choice in enumerate(MATRIX)
    ],
)
def test_a_resume_at_any_iteration_is_exact(tmp_path, choice):
    torch.set_num_threads(1)
    values = dict(zip(OPTIONS, choice, strict=True))
    by_epoch = OPTIONS["loop"][values["loop"]]
    changes = {
        "default_hooks.checkpoint.interval": 1,
        "default_hooks.checkpoint.by_epoch": False,
        "default_hooks.checkpoint.max_keep_ckpts": -1,
        "workers": OPTIONS["workers"][values["workers"]],
        "optimizer": OPTIONS["optimizer"][values["optimizer"]],
    }
    for name in ("window", "precision", "schedule", "best", "batches"):
        changes |= OPTIONS[name][values[name]]
    whole = final_state(train(toy_config(tmp_path / "one", by_epoch, **changes)))
    draw = random.Random(str(choice))
    for iteration in draw.sample(range(1, 10), 2):
        torch.manual_seed(99)
        cfg = toy_config(tmp_path / str(iteration), by_epoch, **changes)
        cfg.resume, cfg.load_from = True, str(tmp_path / "one" / f"iter_{iteration}.pth")
        assert_same(final_state(train(cfg)), whole)


def test_the_matrix_has_each_pair_of_values():
    assert len(MATRIX) < 25
    for (i, one), (j, other) in itertools.combinations(enumerate(OPTIONS.values()), 2):
        met = {(choice[i], choice[j]) for choice in MATRIX}
        assert met == set(itertools.product(one, other))
