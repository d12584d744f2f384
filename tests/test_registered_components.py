"""What holds for every registered part, found by walking the registries."""

import inspect
import re
import subprocess
import sys

import pytest

from mmpanoptic.registry import ConfigError, register_all_modules, registries

register_all_modules()
PARTS = sorted(
    (
        (f"{registry.name}:{name}", registry, name, part)
        for registry in registries()
        for name, part in registry.module_dict.items()
        if part.__module__.startswith("mmpanoptic.")
    ),
    key=lambda entry: entry[0],
)
each_part = pytest.mark.parametrize(
    ("registry", "name", "part"), [entry[1:] for entry in PARTS], ids=[e[0] for e in PARTS]
)


def test_every_kind_of_part_is_there():
    kinds = {registry.name for _, registry, _, _ in PARTS}
    assert {"model", "dataset", "transform", "metric", "hook", "loop", "runner"} <= kinds


WALK = """
import importlib, pkgutil
import mmpanoptic
from mmpanoptic.registry import register_all_modules, registries

def known():
    return {f"{r.name}:{name}" for r in registries() for name in r.module_dict}

register_all_modules()
before = known()
for module in pkgutil.walk_packages(mmpanoptic.__path__, "mmpanoptic."):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        assert not error.name.startswith("mmpanoptic"), error
print(sorted(known() - before))
"""


def test_no_module_registers_a_part_that_its_registry_does_not_look_for():
    done = subprocess.run([sys.executable, "-c", WALK], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stdout + done.stderr


@each_part
def test_a_part_is_found_by_its_own_name(registry, name, part):
    assert registry.get(name) is part
    assert registry.get(f"mmpanoptic.{name}") is part
    assert name == part.__name__


@each_part
def test_a_name_does_not_shadow_one_of_mmengine(registry, name, part):
    parent = registry.parent
    while parent is not None:
        assert name not in parent.module_dict
        parent = parent.parent


@each_part
def test_the_docstring_explains_every_argument(registry, name, part):
    text = inspect.getdoc(part)
    assert text, "no docstring"
    first = text.splitlines()[0]
    assert first.endswith("."), "the first line is a sentence"
    constructor = part.__init__ if "__init__" in vars(part) else None
    if constructor is None:
        return
    documented = set(re.findall(r"^\s+\*{0,2}(\w+)(?: \([^\n]*\))?:", text, re.M))
    names = [
        parameter.name
        for parameter in inspect.signature(constructor).parameters.values()
        if parameter.name != "self"
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    missing = [argument for argument in names if argument not in documented]
    assert not missing, f"{part.__module__}.{name} does not explain {', '.join(missing)}"


@each_part
def test_a_typing_error_in_a_config_is_an_error(registry, name, part):
    """No part swallows unknown keys of its config, nor does what it passes its options on to."""
    if name == "TIMMBackbone":
        pytest.importorskip("timm")  # which it passes its options on to
    required = [
        parameter.name
        for parameter in inspect.signature(part).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and parameter.default is parameter.empty
    ]
    with pytest.raises((TypeError, ConfigError), match=r"no_such_option|takes no arguments"):
        part(**dict.fromkeys(required), no_such_option=1)
