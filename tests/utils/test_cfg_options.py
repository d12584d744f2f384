import argparse

import pytest

from mmpanoptic.utils.cfg_options import ConfigOptions, parse_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-4", 1e-4),
        ("true", True),
        ("None", None),
        ("data/shapes", "data/shapes"),
        ("/my data/set 1", "/my data/set 1"),
        ("'/my data'", "/my data"),
        ("a,b", ["a", "b"]),
        ("[(1,2),a]", [(1, 2), "a"]),
        ("[1, 2]", [1, 2]),
        ("{'a': [1]}", {"a": [1]}),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_values(text, value):
    assert parse_value(text) == value


def parse(*arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=ConfigOptions)
    return parser.parse_args(arguments).cfg_options


def test_pairs_are_collected_over_several_options():
    assert parse("--cfg-options", "a=1", "b.c=x=y", "--cfg-options", "d=2") == {
        "a": 1,
        "b.c": "x=y",
        "d": 2,
    }
    assert parse() is None


def test_a_pair_without_sign_is_an_error_of_the_command_line(capsys):
    for wrong in ("a", "=1"):
        with pytest.raises(SystemExit):
            parse("--cfg-options", wrong)
        assert "takes KEY=VALUE pairs" in capsys.readouterr().err
