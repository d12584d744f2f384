"""Every system and guest learns with shared weights as with whole ones."""

import copy

import pytest
import torch
import torch.distributed as dist
from mmengine.dataset import pseudo_collate
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope

from mmpanoptic.engine.distributed import init_cpu_process_group
from mmpanoptic.engine.fully_sharded import FullyShardedModel, clip_norm
from mmpanoptic.models.layers import iter_choices, set_path
from mmpanoptic.registry import DATASETS, register_all_modules
from tests.models import mask_transformer_builders as guests
from tests.pretended_gpu.systems import TINY, build, make_shapes, read_config

from .ranks import run_ranks

register_all_modules()  # here, not in each process
STEPS = 2
QUICK = ("rap, relation",)
"""Two stages, frozen in part; the others are for -m slow."""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp("shapes"))


def system(rank, name, data):
    """Return a function that builds the model, and batches of this process."""
    cfg = read_config(name, data)
    batches = []
    for loader, first in ((cfg.train_dataloader, rank), (cfg.val_dataloader, 0)):
        dataset = DATASETS.build(copy.deepcopy(loader.dataset))
        batches.append(pseudo_collate([dataset[first], dataset[first + 1]]))
    return lambda: build(cfg.model), *batches


def guest(rank, name, _):
    inputs = list(guests.images() * 50 + 20 * rank)
    batch = {"inputs": inputs, "data_samples": [guests.sample(), guests.sample(empty=rank == 1)]}
    return lambda: guests.build(name), batch, batch


def whole(model):
    return MMDistributedDataParallel(model, find_unused_parameters=True)


def spread(model):
    return FullyShardedModel(model, min_unit_params=2000)


def learn(rank, make, name, data):
    """Take steps with either wrapper and predict; return losses and names of the units."""
    init_default_scope("mmpanoptic")
    init_cpu_process_group("pytorch")
    build_model, batch, test_batch = make(rank, name, data)
    traces = []
    for wrap in (whole, spread):
        torch.manual_seed(0)
        built = build_model()
        if "supernet" in name:  # every process takes the same path
            set_path(built, {block.decision: 0 for _, block in iter_choices(built)})
        model = wrap(built)
        weights = [one for one in model.parameters() if one.requires_grad]
        optim = OptimWrapper(torch.optim.SGD(weights, 1e-3), clip_grad={"max_norm": 1.0})
        if wrap is spread:
            optim.clip_func = clip_norm
        model.train()
        torch.manual_seed(rank)
        trace = [model.train_step(copy.deepcopy(batch), optim) for _ in range(STEPS)]
        traces.append([{key: float(value) for key, value in one.items()} for one in trace])
        model.eval()
        with torch.no_grad():
            seen = model.test_step(copy.deepcopy(test_batch))
        assert len(seen) == 2
    dist.destroy_process_group()
    return traces, model.unit_names


CASES = [
    pytest.param(make, name, marks=() if name in QUICK else pytest.mark.slow, id=name)
    for make, names in ((system, TINY), (guest, guests.NETWORKS))
    for name in names
]


@pytest.mark.parametrize(("make", "name"), CASES)
def test_losses_are_those_of_whole_weights(shapes, make, name):
    if make is guest:
        pytest.importorskip("transformers", reason="pip install 'mmpanoptic[transformers]'")
    for result in run_ranks(learn, make, name, shapes):
        if isinstance(result, BaseException):
            raise result
        (losses, others), units = result
        assert units
        for one, other in zip(losses, others, strict=True):
            assert one.keys() == other.keys()
            for key in one:
                assert one[key] == pytest.approx(other[key], rel=1e-5, abs=1e-5), key
