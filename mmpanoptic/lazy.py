"""Rooms whose public names are imported at their first use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a package whose light modules must stay light to import.

    Importing a module imports its package first; a package that imports all of its modules makes
    each of them as heavy as the heaviest.

    Args:
        package (str): ``__name__`` of the package.
        modules (Mapping[str, str]): Public names, separated by spaces, by module of the package.

    Returns:
        Callable: Finds a public name, and keeps it in the package.
    """
    homes = {name: module for module, names in modules.items() for name in names.split()}

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f".{homes[name]}", package), name)
        setattr(sys.modules[package], name, value)
        return value

    # Who lists the package (documentation, an editor) sees them, too.
    vars(sys.modules[package])["__dir__"] = lambda: sorted({*vars(sys.modules[package]), *homes})
    return find
