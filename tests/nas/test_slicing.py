import pytest
import torch
from mmengine.config import ConfigDict

from mmpanoptic.models.layers import set_path, slice_path
from mmpanoptic.nas.space import SearchSpace
from mmpanoptic.registry import MODELS
from tests.nas.toy import MODEL, SPACE

ARCH = (0, 1, 1, 2, 1)


def build_subnet(cfg, space, arch, supernet):
    subnet = MODELS.build(space.fix(cfg, arch))
    subnet.load_state_dict(slice_path(supernet, supernet.state_dict(), space.path(arch)))
    return subnet.eval()


@pytest.fixture
def space():
    return SearchSpace(SPACE)


@pytest.fixture
def supernet():
    torch.manual_seed(0)
    model = MODELS.build(MODEL)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model.eval()


@pytest.mark.parametrize("digits", ["00000", "01121", "11122"])
def test_a_subnet_computes_what_its_path_computes_bit_for_bit(space, supernet, digits):
    arch = space.parse(digits)
    subnet = build_subnet(ConfigDict(MODEL), space, arch, supernet)
    set_path(supernet, space.path(arch))
    inputs = torch.randn(2, 3, 8, 8)
    assert torch.equal(subnet(inputs), supernet(inputs))


def test_a_subnet_of_a_real_backbone_is_exact():
    cfg = ConfigDict(type="ShuffleNetV2Plus", widths=(8, 12, 16), depths=(2, 1), out_indices=(0, 1))
    groups = [{"name": "backbone", "size": 3, "choices": ["a", "b", "c", "d"], "key": "choices"}]
    space = SearchSpace(groups)
    torch.manual_seed(1)
    supernet = MODELS.build(cfg).train()
    inputs = torch.randn(2, 3, 32, 32)
    for arch in [(0, 1, 2), (3, 2, 1)]:
        set_path(supernet, space.path(arch))
        supernet(inputs)  # running statistics of the path
    supernet.eval()
    subnet = build_subnet(cfg, space, (3, 2, 1), supernet)
    for ours, theirs in zip(subnet(inputs), supernet(inputs), strict=True):
        assert torch.equal(ours, theirs)


def test_a_slice_shares_the_tensors_and_drops_the_other_paths(space, supernet):
    state = supernet.state_dict()
    chosen = slice_path(supernet, state, space.path(ARCH))
    assert chosen["head.0.weight"] is state["head.0.2.weight"]
    assert not any(".2.weight" in name for name in chosen if name.startswith("head"))
    assert (
        chosen.keys() == build_subnet(ConfigDict(MODEL), space, ARCH, supernet).state_dict().keys()
    )


def test_weights_of_another_model_are_an_error(space, supernet):
    state = supernet.state_dict()
    state.pop("last.weight")
    with pytest.raises(KeyError, match=r"without last\.weight"):
        slice_path(supernet, state, space.path(ARCH))


def test_an_open_supernet_says_what_to_do():
    model = MODELS.build(MODEL)
    with pytest.raises(RuntimeError, match=r"the supernet has no path: decision backbone\.0"):
        model(torch.zeros(1, 3, 8, 8))


def test_a_path_that_does_not_fit_is_an_error(supernet, space):
    with pytest.raises(ValueError, match="path and model do not fit"):
        set_path(supernet, {"backbone.0": 0})
    with pytest.raises(ValueError, match=r"decision head\.0 has the choices 0\.\.2, got 5"):
        set_path(supernet, {**space.path(ARCH), "head.0": 5})
