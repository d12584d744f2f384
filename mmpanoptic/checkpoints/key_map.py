"""Published names and ours: a system's map is data, :class:`KeyMap` does the work."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .errors import CheckpointMismatchError

Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
"""Patterns of our names and what they become, as in :func:`re.sub`; applied one after the other."""

_COUNTER = ".num_batches_tracked"


@dataclass(frozen=True)
class Layout:
    """What one code base calls the tensors of a model; all patterns match at the beginning.

    Attributes:
        rules (Rules): From our names to the published ones.
        mark (str): Pattern of a published name that only files of this layout hold.
        model (str): Pattern of one of our names that only models of this layout have.
        part (str): Pattern of our names of the tensors that its files hold.
        dropped (tuple[str, ...]): Patterns of published names that have no place in our models.
    """

    rules: Rules = ()
    mark: str = ""
    model: str = ""
    part: str = ""
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Placement:
    """The tensors of a published checkpoint under our names.

    Attributes:
        tensors (dict[str, Any]): By our name.
        zeroed (int): Batch counters among them that the checkpoint lacks; they are 0.
        dropped (list[str]): Names of the checkpoint without a place.
    """

    tensors: dict[str, Any]
    zeroed: int
    dropped: list[str]


class KeyMap:
    """Convert state dicts between the published namings of one system and that of a model.

    A subclass is data: its layouts, of which the first that fits the model is the one that
    :meth:`to_published` writes. What no rule can say overrides :meth:`read`, :meth:`name`,
    :meth:`arrange` and :meth:`restore`.

    Args:
        model (nn.Module): The model built from the config of the variant, or a module dict with
            some of its parts; weights on the meta device suffice.

    Attributes:
        layouts (tuple[Layout, ...]): The published namings; of those that fit the model, the first
            whose mark a file shows is the file's.
        class_bound (str): Pattern of our names whose shapes depend on the classes of the dataset.
        groups (tuple[str, ...]): Patterns of our names of which weights to start from hold all or
            none; of the first one all.
        nameless (tuple): Patterns of what stays without a published name, and what is needed.
        counts_batches (bool): Published norm layers count batches; frozen ones do not.
        shapes (dict[str, tuple[int, ...]]): Shapes of the model's tensors by our name.
        published (dict[str, str]): Published name by our name, in the first layout.

    Raises:
        CheckpointMismatchError: If a tensor of the model has no published name.
        ValueError: If two would get the same one.
    """

    layouts: tuple[Layout, ...] = (Layout(),)
    class_bound: str = "$"
    groups: tuple[str, ...] = ()
    nameless: tuple[tuple[str, str], ...] = ()
    counts_batches = True

    def __init__(self, model: nn.Module) -> None:
        self.shapes = {
            name: tuple(value.shape)
            for name, value in model.state_dict().items()
            if self.counts_batches or not name.endswith(_COUNTER)
        }
        self.fitting = [one for one in self.layouts if _any_matches(one.model, self.shapes)]
        self.published = self.names(self.fitting[0])

    def read(self, state: Mapping[str, Any], initial: bool) -> tuple[dict[str, Any], list[str]]:
        """Bring what differs by more than names into a layout.

        Args:
            state (Mapping): Tensors by the file's names.
            initial (bool): See :meth:`place`.

        Returns:
            tuple: Tensors by published name; the names that were dropped.
        """
        return dict(state), []

    def name(self, ours: str, layout: Layout) -> str:
        """Translate one of our names into that of a layout."""
        for pattern, replacement in layout.rules:
            ours = re.sub(pattern, replacement, ours)
        return ours

    def arrange(self, ours: str, value: Any, layout: Layout) -> Any:
        """Turn a published tensor into that of our model, see :meth:`restore`."""
        return value

    def restore(self, ours: str, value: Any, layout: Layout) -> Any:
        """Reverse :meth:`arrange`.

        Args:
            ours (str): Our name of the tensor.
            value (Any): The tensor or array.
            layout (Layout): The naming.

        Returns:
            Any: The published tensor or array.
        """
        return value

    def names(self, layout: Layout) -> dict[str, str]:
        """Translate the names of the tensors that files of a layout hold: published name by ours.

        Raises:
            CheckpointMismatchError: If a tensor of the model has no published name.
            ValueError: If two would get the same one.
        """
        held = [name for name in self.shapes if re.match(layout.part, name)]
        table = {ours: self.name(ours, layout) for ours in held}
        for ours, theirs in table.items():
            for pattern, need in self.nameless:
                if re.match(pattern, theirs):
                    raise CheckpointMismatchError(f"{ours} has no published name: {need}")
        if len(set(table.values())) != len(table):
            raise ValueError("two parameters of this model would get the same published name")
        return table

    def place(
        self,
        state: Mapping[str, Any],
        drop: Sequence[str] = (),
        new_classes: bool = False,
        initial: bool = False,
    ) -> Placement:
        """Rename and rearrange the tensors of a published checkpoint, completely and strictly.

        Args:
            state (Mapping): Tensors or arrays by published name. Batch counters may be missing
                and become 0. A file of ImageNet weights gives a model its backbone.
            drop (Sequence[str]): Regular expressions of further names to drop, matched at the
                beginning of a name.
            new_classes (bool): Leave out what depends on the classes, since the model has others
                than the checkpoint.
            initial (bool): The checkpoint starts a training: it may lack all but the first of
                :attr:`groups`.

        Returns:
            Placement: The tensors under our names, and what else happened.

        Raises:
            CheckpointMismatchError: If tensors are missing, unexpected or of another shape.
        """
        named, dropped = self.read(state, initial)
        layout = next((one for one in self.fitting if _any_matches(one.mark, named)), None)
        layout = layout or self.fitting[0]
        wanted = self.names(layout)
        patterns = (*layout.dropped, *drop)
        values = {n: v for n, v in named.items() if not any(re.match(p, n) for p in patterns)}
        if new_classes:
            bound = {ours for ours in wanted if re.match(self.class_bound, ours)}
            values = {n: v for n, v in values.items() if n not in {wanted[o] for o in bound}}
            wanted = {o: t for o, t in wanted.items() if o not in bound}
        if initial:
            wanted = self._present(wanted, values)
        dropped = sorted([*dropped, *(named.keys() - values.keys())])
        counters = {t for t in wanted.values() if t.endswith(_COUNTER)} - values.keys()
        values |= {name: torch.zeros((), dtype=torch.int64) for name in counters}
        check_names(values, wanted.values())
        tensors = {
            ours: self.arrange(ours, values[theirs], layout) for ours, theirs in wanted.items()
        }
        check_shapes(tensors, self.shapes)
        return Placement(tensors, len(counters), dropped)

    def to_ours(self, state: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        """Return the tensors of :meth:`place`, which has the same options."""
        return self.place(state, **options).tensors

    def to_published(
        self, state: Mapping[str, Any], layout: Layout | None = None
    ) -> dict[str, Any]:
        """Rename and rearrange the tensors of one of our state dicts.

        Args:
            state (Mapping): Tensors or arrays by our name, complete.
            layout (Layout | None): The naming; the first one by default.

        Returns:
            dict: The values under the published names.

        Raises:
            CheckpointMismatchError: If tensors are missing, unexpected or of another shape.
        """
        layout = layout or self.fitting[0]
        names = self.names(layout)
        kept = {n: v for n, v in state.items() if self.counts_batches or not n.endswith(_COUNTER)}
        check_names(kept, names)
        check_shapes(kept, self.shapes)
        return {theirs: self.restore(ours, kept[ours], layout) for ours, theirs in names.items()}

    def _present(self, wanted: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, str]:
        """Reduce names to those of the groups of which a checkpoint holds something."""
        found: dict[str, str] = {}
        for number, group in enumerate(self.groups):
            names = {o: t for o, t in wanted.items() if re.match(group, o)}
            if number == 0 or any(theirs in values for theirs in names.values()):
                found |= names
        return {ours: theirs for ours, theirs in wanted.items() if ours in found}


def check_shapes(state: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Compare the shapes of converted tensors with those of the model.

    Args:
        state (Mapping): Tensors or arrays by our name.
        shapes (Mapping): Shapes of the model's tensors by name.

    Raises:
        CheckpointMismatchError: If one differs.
    """
    wrong = [
        f"{name} {tuple(value.shape)} instead of {shapes[name]}"
        for name, value in state.items()
        if tuple(value.shape) != shapes[name]
    ]
    if wrong:
        raise CheckpointMismatchError(
            f"{len(wrong)} tensors have another shape than the model's: {_some(wrong)}; "
            "choose the config of the published variant (flavour, number of classes), or say "
            "that only the classes are new"
        )


def check_names(found: Iterable[str], wanted: Iterable[str]) -> None:
    """Compare the names of a checkpoint with those that a model needs.

    Raises:
        CheckpointMismatchError: If some are missing or unexpected.
    """
    found, wanted = set(found), set(wanted)
    missing, unexpected = sorted(wanted - found), sorted(found - wanted)
    if missing or unexpected:
        raise CheckpointMismatchError(
            f"the checkpoint does not fit the model: {len(missing)} tensors are missing "
            f"({_some(missing)}), {len(unexpected)} are unexpected ({_some(unexpected)}); choose "
            "the config of the published variant"
        )


def _any_matches(pattern: str, names: Iterable[str]) -> bool:
    return not pattern or any(re.match(pattern, name) for name in names)


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:5], "..."] if len(names) > 5 else names) or "none"
