import json

import numpy as np
import pytest
from mmengine.config import ConfigDict

from mmpanoptic.nas.space import DecisionGroup, SearchSpace
from mmpanoptic.registry import MODELS
from tests.nas.toy import MODEL, SPACE


@pytest.fixture
def space():
    return SearchSpace(SPACE)


def test_a_space_has_named_decisions_and_a_size(space):
    assert space.decisions == ("backbone.0", "backbone.1", "backbone.2", "head.0", "head.1")
    assert space.size == 2**3 * 3**2
    assert space.window == 6


@pytest.mark.parametrize(
    "code",
    [
        "01121",
        [0, 1, 1, 2, 1],
        {"backbone": [0, 1, 1], "head": [2, 1]},
        [{"backbone": [0, 1, 1], "head": [2, 1]}],
        json.dumps({"backbone": [0, 1, 1], "head": [2, 1]}),
    ],
)
def test_every_form_of_a_code_is_read(space, code):
    arch = space.parse(code)
    assert arch == (0, 1, 1, 2, 1)
    assert space.digits(arch) == "01121"
    assert space.describe(arch) == {"backbone": ["k1", "k3", "k3"], "head": ["c", "b"]}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("0112", "has 5 choices"),
        ("01131", "head.0 has the choices 0..2"),
        ("21121", "backbone.0 has the choices 0..1"),
        ("abc", "no architecture"),
        ("{1", "no architecture"),
        ({"backbone": [0, 1, 1]}, "has the lists backbone, head"),
        ({"backbone": [0, 1], "head": [2, 1]}, "backbone needs 3 choices, got 2"),
        ([0, 1, 1, 2, 0.5], "got 0.5"),
    ],
)
def test_a_wrong_code_is_an_error(space, code, message):
    with pytest.raises(ValueError, match=message):
        space.parse(code)


def test_sections_hold_groups_one_behind_the_other():
    groups = [{**group, "section": "all"} for group in SPACE]
    space = SearchSpace(groups)
    assert space.to_json((0, 1, 1, 2, 1)) == {"all": [0, 1, 1, 2, 1]}
    assert space.parse({"all": [0, 1, 1, 2, 1]}) == space.parse(
        {"backbone": [0, 1, 1], "head": [2, 1]}
    )


def test_samples_cover_the_space(space):
    rng = np.random.RandomState(0)
    drawn = {space.sample(rng) for _ in range(2000)}
    assert len(drawn) == space.size


def test_choices_go_to_their_place_in_the_config(space):
    cfg = ConfigDict(MODEL)
    fixed = space.fix(cfg, (0, 1, 1, 2, 1))
    assert fixed.backbone.choices == [0, 1, 1]
    assert fixed.head_choices == [2, 1]
    assert "choices" not in cfg.backbone


def test_a_config_without_the_place_is_an_error(space):
    with pytest.raises(ValueError, match=r"no 'backbone.choices'"):
        space.fix(ConfigDict(type="ToySupernet"), (0, 1, 1, 2, 1))


def test_a_model_of_another_space_is_an_error(space):
    space.check_model(MODELS.build(MODEL))
    with pytest.raises(ValueError, match=r"no supernet of this search space.*head\.0"):
        space.check_model(MODELS.build({**MODEL, "head_choices": [0, 0]}))


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"size": 0}, "at least one decision"),
        ({"choices": ["a"] * 2}, "different choices"),
        ({"choices": [str(i) for i in range(11)]}, "1 to 10 different choices"),
        ({"choices": "$head_ops"}, "placeholders"),
    ],
)
def test_a_wrong_group_is_an_error(group, message):
    with pytest.raises(ValueError, match=message):
        DecisionGroup(**{"name": "a", "size": 1, "choices": ("x", "y"), "key": "k", **group})


def test_two_groups_of_one_name_are_an_error():
    with pytest.raises(ValueError, match="different names"):
        SearchSpace([SPACE[0], SPACE[0]])
