"""Two processes that share the weights do what two with whole ones do."""

import pytest
import torch
from torch import nn

from mmpanoptic.checkpoints.errors import CheckpointError
from mmpanoptic.checkpoints.loading import load_checkpoint
from mmpanoptic.engine.fully_sharded import _policy, choose_units, refuse_settings
from mmpanoptic.engine.resume import find_checkpoint
from mmpanoptic.engine.runner import PanopticRunner
from mmpanoptic.registry import ConfigError

from .ranks import run_ranks
from .toy import assert_same, toy_config

WHOLE = {"type": "MMDistributedDataParallel"}
SPREAD = {"type": "FullyShardedModel", "min_unit_params": 1}


def run(rank, cfg, wrapper):
    """Train; return losses by iteration, bytes of weights and optimizer of this process."""
    cfg.launcher = "pytorch"
    cfg.model_wrapper_cfg = wrapper
    runner = PanopticRunner.from_cfg(cfg)
    losses = []
    step = runner.model.train_step

    def noted(*args, **kwargs):
        losses.append({k: float(v) for k, v in step(*args, **kwargs).items()})
        return losses[-1]

    runner.model.train_step = noted
    runner.train()
    held = [w.to_local() if hasattr(w, "to_local") else w for w in runner.model.parameters()]
    states = [
        value.to_local() if hasattr(value, "to_local") else value
        for state in runner.optim_wrapper.optimizer.state.values()
        for value in state.values()
        if torch.is_tensor(value) and value.dim()
    ]
    return losses, sum(t.numel() * t.element_size() for t in [*held, *states])


def trained(cfg, wrapper):
    results = run_ranks(run, cfg, wrapper)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def assert_close(first, second, tolerance=1e-5):
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name] == pytest.approx(other[name], rel=tolerance, abs=tolerance), name


CHANGES = {
    "model.width": 64,
    "optimizer": {"type": "AdamW", "lr": 0.001},
    "optim_wrapper.clip_grad": {"max_norm": 0.1},
    "optim_wrapper.accumulative_counts": 2,  # a checkpoint lies in the middle of two iterations
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder of a run with whole and of one with spread weights, and what they have told."""
    folder = tmp_path_factory.mktemp("spread")
    wrappers = {"whole": WHOLE, "spread": SPREAD}
    return folder, {
        name: trained(toy_config(folder / name, **CHANGES), wrapper)
        for name, wrapper in wrappers.items()
    }


def test_losses_are_equal_and_half_of_the_memory_is_held(runs):
    for (losses, many), (others, few) in zip(*runs[1].values(), strict=True):
        assert_close(losses, others)
        assert 0.45 < few / many < 0.55


def test_a_checkpoint_is_that_of_whole_weights(runs):
    folder, names = runs
    whole, spread = (load_checkpoint(folder / name / "iter_5.pth") for name in names)
    assert whole.keys() == spread.keys()
    assert "gradients" in whole  # the average of the processes, with either
    for part in ("state_dict", "ema_state_dict"):
        assert whole[part].keys() == spread[part].keys()
        for key, value in whole[part].items():
            assert type(spread[part][key]) is torch.Tensor
            if "net.0.bias" not in key:  # in front of a batch norm: its gradient is rounding
                torch.testing.assert_close(spread[part][key], value, rtol=1e-4, atol=1e-5)
    assert whole["optimizer"]["param_groups"] == spread["optimizer"]["param_groups"]
    for key, state in whole["optimizer"]["state"].items():
        other = spread["optimizer"]["state"][key]
        assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in other.items()}


def resumed(rank, cfg):
    cfg.resume = True
    return run(rank, cfg, SPREAD)


def test_a_run_goes_on_exactly(runs):
    folder = runs[0] / "resumed"
    folder.mkdir()
    (folder / "iter_5.pth").symlink_to(runs[0] / "spread" / "iter_5.pth")
    losses, _ = run_ranks(resumed, toy_config(folder, **CHANGES))[0]
    assert losses == runs[1]["spread"][0][0][5:]
    ends = [load_checkpoint(runs[0] / name / "iter_10.pth") for name in ("spread", "resumed")]
    for part in ("state_dict", "ema_state_dict"):
        assert_same(ends[0][part], ends[1][part])
    for key, state in ends[0]["optimizer"]["state"].items():
        assert_same(state, ends[1]["optimizer"]["state"][key])


IN_PARTS = {**SPREAD, "sharded_checkpoints": True, "reshard_after_forward": False}


def trained_in_parts(rank, cfg):
    cfg.resume = True
    return run(rank, cfg, IN_PARTS)


def test_checkpoints_in_parts_are_those_in_one_file(runs):
    """Written after a resume from one file, resumed from, damaged, outdated, read without FSDP."""
    folder = runs[0] / "parts"
    folder.mkdir()
    (folder / "iter_5.pth").symlink_to(runs[0] / "spread" / "iter_5.pth")
    options = {"default_hooks.checkpoint.interval": 2, "default_hooks.checkpoint.max_keep_ckpts": 2}
    cfg = toy_config(folder, **CHANGES, **options)
    run_ranks(trained_in_parts, cfg)
    ends = [load_checkpoint(runs[0] / name / "iter_10.pth") for name in ("spread", "parts")]
    assert ends[0].keys() == ends[1].keys()
    for part in ("state_dict", "ema_state_dict"):
        assert_same(ends[0][part], ends[1][part])
    for key, state in ends[0]["optimizer"]["state"].items():
        assert_same(state, ends[1]["optimizer"]["state"][key])
    shares = sorted(file.name for file in folder.glob("*.share-*"))
    assert [name.split(".share-")[0] for name in shares] == ["iter_10.pth"] * 2 + ["iter_8.pth"] * 2
    last = folder / shares[0]
    last.write_bytes(last.read_bytes()[:-100])
    told = []
    assert find_checkpoint(folder, told.append).name == "iter_8.pth"
    assert last.name in told[0]
    losses, _ = run_ranks(trained_in_parts, cfg)[0]
    assert losses == runs[1]["spread"][0][0][8:]
    last.unlink(missing_ok=True)
    again = load_checkpoint(folder / "iter_10.pth")["state_dict"]  # shares of another id
    assert_same(ends[0]["state_dict"], again)
    for file in folder.glob("iter_10.pth.share-*-1-of-2"):
        file.unlink()
    with pytest.raises(CheckpointError, match="in 2 parts, of which 1 are missing"):
        load_checkpoint(folder / "iter_10.pth")


def test_units_are_the_innermost_large_blocks_that_every_process_runs():
    def block(width):
        return nn.Sequential(nn.Conv2d(width, width, 3), nn.ReLU())

    class Block(nn.Module):
        def __init__(self, width, *inner):
            super().__init__()
            self.convs = nn.ModuleList([block(width)])  # its members are layers
            self.inner = nn.ModuleList(inner)

    model = nn.Module()
    model.backbone = nn.Module()
    model.backbone.stages = nn.ModuleList([Block(2), Block(8), Block(4, Block(8), Block(2))])
    model.roi_head = nn.Module()
    model.roi_head.heads = nn.ModuleList([Block(8)])
    names = [name for name, _ in choose_units(model, 500)]
    assert names == ["backbone.stages.1", "backbone.stages.2.inner.0"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"find_unused_parameters": True}, "find_unused_parameters=True: it is for MMDistributed"),
        ({"compile": True}, "compile=True: it cannot follow"),
        ({"optim_wrapper.dtype": "float16"}, "scales losses for float16"),
        ({"optim_wrapper.type": "AmpOptimWrapper"}, "scales losses for float16"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, changes, told):
    with pytest.raises(ConfigError, match=f"(?s)FullyShardedModel does not go with .*{told}"):
        refuse_settings(toy_config(tmp_path, **changes))


def test_several_optimizers_are_refused(tmp_path):
    cfg = toy_config(tmp_path)
    cfg.optim_wrapper = {"first": {}, "second": {}}
    with pytest.raises(ConfigError, match="it holds several optimizers"):
        refuse_settings(cfg)


def test_precisions_are_checked():
    with pytest.raises(ConfigError, match="each one of bfloat16, float32"):
        _policy({"param_dtype": "float8"})
    assert _policy({"param_dtype": "bfloat16"}).param_dtype is torch.bfloat16


def test_one_process_keeps_the_model_whole_and_says_so(tmp_path):
    runner = PanopticRunner.from_cfg(toy_config(tmp_path, model_wrapper_cfg=SPREAD))
    log = next(tmp_path.glob("*/*.log")).read_text()
    assert "one process: FullyShardedModel leaves the model whole" in log
    assert type(runner.model).__name__ == "ToyModel"


def in_bfloat16(rank, cfg):
    return run(rank, cfg, {**SPREAD, "mixed_precision": {"param_dtype": "bfloat16"}})


def test_layers_compute_in_bfloat16_and_the_optimizer_in_float32(tmp_path):
    cfg = toy_config(tmp_path, steps=2)
    losses, _ = run_ranks(in_bfloat16, cfg)[0]
    assert len(losses) == 2
    weights = load_checkpoint(tmp_path / "iter_2.pth")["state_dict"]
    assert {value.dtype for value in weights.values()} == {torch.float32, torch.int64}
