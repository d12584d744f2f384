"""The directive ``registered``: every registered part of some packages, with its docstring.

.. code-block:: rst

    .. registered:: mmpanoptic.models.backbones mmpanoptic.models.necks

A part stands under the shortest name that Python users import it by.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from mmpanoptic.registry import register_all_modules, registries


def registered_parts() -> Iterator[type]:
    """Yield the classes of all parts of mmpanoptic."""
    register_all_modules()
    for registry in registries():
        for part in registry.module_dict.values():
            if part.__module__.startswith("mmpanoptic."):
                yield part


def room_of(part: type) -> str:
    """Return the dotted name of the package that a class lies in."""
    return part.__module__.rpartition(".")[0]


def public_name(part: type) -> str:
    """Return the dotted name of a class in the package that exports it, else in its module."""
    package = room_of(part)
    exports = getattr(import_module(package), part.__name__, None) is part
    return f"{package if exports else part.__module__}.{part.__name__}"


class Registered(SphinxDirective):
    """List the parts that lie in the packages of the argument; one without parts is an error."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Write an ``autoclass`` for each part, sorted by name, and parse it."""
        packages = self.arguments[0].split()
        found = [part for part in registered_parts() if room_of(part) in packages]
        if {room_of(part) for part in found} != set(packages):
            raise self.error(f"nothing is registered in one of {', '.join(packages)}")
        lines: list[str] = []
        for name in sorted(map(public_name, found), key=lambda n: n.rpartition(".")[2].lower()):
            options = [":members:", ":show-inheritance:", ":special-members: __call__"]
            lines += [f".. autoclass:: {name}", *(f"   {option}" for option in options), ""]
        holder = nodes.Element()
        self.state.nested_parse(StringList(lines, "registered"), self.content_offset, holder)
        return list(holder.children)


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive."""
    app.add_directive("registered", Registered)
    return {"parallel_read_safe": True}
