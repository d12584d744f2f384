import argparse

import pytest

from mmpanoptic.utils.cfg_options import ConfigOptions, parse_value

NESTED = [{"type": "A", "n": 1}, {"type": "mmseg.B", "k": (1, -2)}]


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
        ("a,b,", ["a", "b"]),
        ("none", "none"),
        ("'1'", "1"),
        ("1, 2", (1, 2)),
        ("[train/,val/]", ["train/", "val/"]),
        ("[{'type':'A','n':1},dict(type=mmseg.B,k=(1,-2))]", NESTED),
        ("[dict(type='A', n=1), {'type': 'mmseg.B', 'k': (1, -2)}]", NESTED),
        ("dict(_delete_=True,type='A',on=true)", {"_delete_": True, "type": "A", "on": True}),
    ],
)
def test_values(text, value):
    assert parse_value(text) == value


@pytest.mark.parametrize("text", ["[a", "{'a': 1", "(old)/x", "dict(1)", "[{a=1}]", "['a'"])
def test_brackets_that_do_not_close_are_refused(text, capsys):
    with pytest.raises(ValueError, match="quotes"):
        parse_value(text)
    with pytest.raises(SystemExit):
        parse("--cfg-options", f"key={text}")
    assert "--cfg-options key: cannot read" in capsys.readouterr().err


def test_what_was_typed_is_kept():
    options = parse("--cfg-options", "a='x,y'", "b=007", "--cfg-options", "c=1,2")
    assert options == {"a": "x,y", "b": 7, "c": [1, 2]}
    assert options.texts == {"a": "x,y", "b": "007", "c": "1,2"}


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
