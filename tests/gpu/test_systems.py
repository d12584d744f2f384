"""Every system and metric on a GPU gives what it gives on a CPU."""

import pytest
import torch

from tests.gpu import metrics
from tests.gpu.comparison import compare, too_far
from tests.pretended_gpu.systems import TINY, System, make_shapes

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.mark.parametrize("system", TINY)
def test_a_gpu_computes_what_a_cpu_computes(system, data):
    made = System(system, data)
    there = System(system, data).model.to("cuda")
    there.load_state_dict(made.model.state_dict())
    found = compare(made.model, there, made.train_batch, made.test_batch)
    assert not too_far(found, hasattr(there, "roi_head")), found


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("system", TINY)
def test_a_system_learns_under_autocast(system, data, dtype):
    made = System(system, data)
    made.model.to("cuda")
    before = [p.detach().clone() for p in made.model.parameters() if p.requires_grad]
    made.train(dtype)
    after = [p.detach() for p in made.model.parameters() if p.requires_grad]
    assert all(torch.isfinite(p).all() for p in after)
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_metrics_take_predictions_from_a_gpu(tmp_path):
    equal = metrics.compare(tmp_path)
    assert equal.keys() == metrics.ALL
    assert all(equal.values()), equal
