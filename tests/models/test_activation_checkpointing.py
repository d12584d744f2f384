"""Every system computes the same to the last bit when its backbone's blocks are computed again."""

import copy

import pytest
import torch
from mmengine.registry import init_default_scope

from mmpanoptic.apis.speed import make_batch
from mmpanoptic.models.layers import checkpoint_backbone
from mmpanoptic.registry import MODELS, ConfigError
from tests.gpu.comparison import learn
from tests.gpu.real_configs import resolve
from tests.pretended_gpu.systems import TINY, build, pick_path

SIZE = (64, 96)
SAME = ("cops, second stage", "panoptic-deeplab, all centers", "panoptic-fpn-modern", "eomt")
"""Frozen backbones, and networks that are tried under another name."""
TRAINED = {
    name: config.rpartition("/")[2]
    for name, config in TINY.items()
    if not name.startswith("rap,") and name not in SAME
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    init_default_scope("mmpanoptic")
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def saved_bytes(step):
    """Bytes that a step saves for its backward pass, and what the step returns."""
    sizes = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        found = step()
    return sum(sizes.values()), found


@pytest.mark.parametrize("system", TRAINED)
def test_losses_gradients_and_statistics_are_equal_to_the_last_bit(system):
    cfg = resolve(TRAINED[system])
    batch = make_batch(cfg, 2, *SIZE)
    plain, lean = build(cfg.model), build({**cfg.model, "activation_checkpointing": True})
    lean.load_state_dict(plain.state_dict())
    kept = []
    for model in (plain, lean):
        pick_path(model, min)
        size, (losses, gradients) = saved_bytes(lambda model=model: learn(model, batch))
        kept.append((size, losses, gradients, dict(model.state_dict()), torch.get_rng_state()))
    (size, *expected), (less, *got) = kept
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    assert less < size


def test_a_copy_computes_with_its_own_weights():
    cfg = resolve(TRAINED["panoptic-deeplab"])
    model = build({**cfg.model, "activation_checkpointing": True}).train()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    images = torch.rand(2, 3, *SIZE)
    assert all(level.abs().max() == 0 for level in twin.extract_feat(images))
    assert model.extract_feat(images)[0].abs().max() > 0


@pytest.mark.parametrize("system", ["cops, second stage", "rap, relation", "rap, ocfusion"])
def test_a_frozen_backbone_refuses_what_would_do_nothing(system):
    cfg = resolve(TINY[system].rpartition("/")[2])
    with pytest.raises(ConfigError, match="activation_checkpointing does nothing here"):
        MODELS.build({**cfg.model, "activation_checkpointing": True})


def test_a_backbone_that_does_it_already_or_has_no_blocks_is_refused():
    backbone = MODELS.build({"type": "DeepLabResNet", "depth": 18, "with_cp": True})
    with pytest.raises(ConfigError, match="DeepLabResNet's with_cp do the same"):
        checkpoint_backbone(backbone)
    with pytest.raises(ConfigError, match="Conv2d has no list of blocks"):
        checkpoint_backbone(torch.nn.Conv2d(3, 3, 1))
