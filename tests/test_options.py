"""No option without a use: each is set by a config or by a test that shows its effect."""

import pytest

from mmpanoptic.models.losses import HardPixelMiningLoss
from mmpanoptic.registry import MODELS
from tests import options


def test_every_option_is_set_by_a_config_or_a_test():
    names = ", ".join(".".join(option) for option in options.unset())
    assert not names, f"delete them, or test what they do: {names}"


def test_options_of_all_parts_are_tested_where_the_table_says():
    for reason in options.OF_ALL.values():
        for word in reason.split():
            if word.startswith("tests/"):
                assert (options.ROOT / word).is_file()


@pytest.fixture
def part():
    class Unused(HardPixelMiningLoss):
        """A part with an option of its own, and those of its base."""

        def __init__(self, forgotten_option: int = 3, **kwargs: float) -> None:
            super().__init__(**kwargs)

    Unused.__module__ = "mmpanoptic.models.losses"
    options.parts.cache_clear()
    MODELS.register_module(module=Unused)
    yield Unused
    MODELS.module_dict.pop("Unused")
    options.parts.cache_clear()


def test_an_option_that_nobody_sets_is_found(part):
    assert options.unset() == [("Unused", "forgotten" + "_option")]
