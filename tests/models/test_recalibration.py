import pytest
import torch

from mmpanoptic.models.layers import set_path
from mmpanoptic.models.layers.recalibration import path_norms, recalibrated_norms
from mmpanoptic.nas.space import SearchSpace
from mmpanoptic.registry import MODELS
from tests.nas.toy import MODEL, SPACE

SPACE = SearchSpace(SPACE)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = MODELS.build(MODEL)
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(1, 2)
            norm.num_batches_tracked.fill_(7)
    set_path(model, SPACE.path((0, 1, 1, 2, 1)))
    return model


@pytest.fixture
def batches():
    return list(torch.randn(3, 4, 3, 8, 8))


def expected_first(model, batches, mode):
    """Statistics of the first norm of the path, computed from its inputs."""
    inputs = [model.backbone.blocks[0][0][0](model.backbone.stem(batch)) for batch in batches]
    means = torch.stack([x.mean((0, 2, 3)) for x in inputs])
    variances = torch.stack([x.var((0, 2, 3)) for x in inputs])
    if mode == "mean":
        return means.mean(0), variances.mean(0)
    mean, var = torch.zeros(4), torch.ones(4)
    for m, v in zip(means, variances, strict=True):
        mean, var = 0.9 * mean + 0.1 * m, 0.9 * var + 0.1 * v
    return mean, var


@pytest.mark.parametrize("mode", ["mean", "ema"])
def test_statistics_are_those_of_the_batches(model, batches, mode):
    with recalibrated_norms(model, model.backbone, batches, mode) as count:
        assert count == 3
        norm = path_norms(model)[0]
        mean, var = expected_first(model, batches, mode)
        assert torch.allclose(norm.running_mean, mean, atol=1e-6)
        assert torch.allclose(norm.running_var, var, atol=1e-6)
        assert norm.momentum == 0.1
        assert not any(module.training for module in model.modules())


def test_everything_is_as_before_afterwards(model, batches):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    with pytest.raises(RuntimeError), recalibrated_norms(model, model.backbone, batches):
        raise RuntimeError
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(module.training for module in model.modules())


def test_other_paths_are_not_touched_meanwhile(model, batches):
    other = model.backbone.blocks[0][1][1]
    mean = other.running_mean.clone()
    with recalibrated_norms(model, model.backbone, batches):
        assert torch.equal(other.running_mean, mean)


def test_the_backbone_alone_gives_what_the_whole_model_gives(model, batches):
    with recalibrated_norms(model, model.backbone, batches):
        alone = [norm.running_var.clone() for norm in path_norms(model)]
    with recalibrated_norms(model, model, batches):
        whole = [norm.running_var.clone() for norm in path_norms(model)]
    assert all(torch.equal(a, b) for a, b in zip(alone, whole, strict=True))


def test_an_unknown_mode_is_an_error(model):
    with pytest.raises(ValueError, match="mode"), recalibrated_norms(model, model, [], "median"):
        pass
