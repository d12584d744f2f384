"""Search spaces: named decisions, and the codes of architectures."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import lcm, prod
from typing import Any

import numpy as np
from mmengine.config import ConfigDict
from torch import nn

from ..models.layers import iter_choices

Architecture = tuple[int, ...]
"""One choice per decision, in the order of the space."""

MAX_CHOICES = 10  # of one decision; more would not fit into one digit of the code


@dataclass(frozen=True)
class DecisionGroup:
    """Decisions of one component, which all have the same choices.

    Attributes:
        name (str): Name of the group; its decisions are called ``name.0``, ``name.1``, ...
        size (int): Number of decisions.
        choices (tuple[str, ...]): Names of the choices.
        key (str): Where the model's config takes the choices of a fixed network, from ``model``
            on: ``backbone.choices``.
        section (str): Name under which architecture files hold the group; groups of one section
            stand one behind the other. Empty for the group's name.
    """

    name: str
    size: int
    choices: tuple[str, ...]
    key: str
    section: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.choices, str):
            raise ValueError(
                f"group {self.name!r} of a search space needs a list of choices, got "
                f"{self.choices!r}; placeholders are filled in by resolve_config"
            )
        object.__setattr__(self, "choices", tuple(self.choices))
        object.__setattr__(self, "section", self.section or self.name)
        different = len(set(self.choices)) == len(self.choices)
        if self.size < 1 or not 1 <= len(self.choices) <= MAX_CHOICES or not different:
            raise ValueError(
                f"group {self.name!r} of a search space needs at least one decision and 1 to "
                f"{MAX_CHOICES} different choices, got {self.size} and {self.choices}"
            )


class SearchSpace:
    """An ordered list of decisions.

    Args:
        groups (Sequence[DecisionGroup | Mapping]): The groups, or their attributes.

    Attributes:
        decisions (tuple[str, ...]): Their names.
        num_choices (tuple[int, ...]): Numbers of choices of the decisions.
        window (int): Least number of paths that use every choice equally often.
        size (int): Number of architectures.

    Raises:
        ValueError: If there is no group, or two have one name.
    """

    def __init__(self, groups: Sequence[DecisionGroup | Mapping[str, Any]]) -> None:
        self.groups = tuple(
            g if isinstance(g, DecisionGroup) else DecisionGroup(**g) for g in groups
        )
        names = [group.name for group in self.groups]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"a search space needs groups of different names, got {names}")
        self.decisions = tuple(f"{g.name}.{i}" for g in self.groups for i in range(g.size))
        self.num_choices = tuple(len(g.choices) for g in self.groups for _ in range(g.size))
        self.window, self.size = lcm(*self.num_choices), prod(self.num_choices)

    def __len__(self) -> int:
        return len(self.decisions)

    def validate(self, arch: Sequence[int]) -> Architecture:
        """Return an architecture as a tuple of Python integers.

        Raises:
            ValueError: If its length or a choice does not fit the space.
        """
        if len(arch) != len(self):
            raise ValueError(
                f"an architecture of this space has {len(self)} choices "
                f"({', '.join(f'{g.size} {g.name}' for g in self.groups)}), got {len(arch)}"
            )
        for name, count, choice in zip(self.decisions, self.num_choices, arch, strict=True):
            if int(choice) != choice or not 0 <= choice < count:
                raise ValueError(f"decision {name} has the choices 0..{count - 1}, got {choice!r}")
        return tuple(int(choice) for choice in arch)

    def split(self, arch: Sequence[int]) -> dict[str, list[int]]:
        """Cut an architecture into the lists of its groups."""
        rest = list(self.validate(arch))
        return {group.name: [rest.pop(0) for _ in range(group.size)] for group in self.groups}

    def path(self, arch: Sequence[int]) -> dict[str, int]:
        """Name the choices by their decisions, as :func:`set_path` takes them."""
        return dict(zip(self.decisions, self.validate(arch), strict=True))

    def sample(self, rng: np.random.RandomState) -> Architecture:
        """Draw an architecture; every one has the same probability."""
        return tuple(int(rng.randint(count)) for count in self.num_choices)

    def digits(self, arch: Sequence[int]) -> str:
        """Write an architecture as one digit per decision."""
        return "".join(map(str, self.validate(arch)))

    def to_json(self, arch: Sequence[int]) -> dict[str, list[int]]:
        """Write an architecture as the lists of its sections (``backbone``, ``head``, ...)."""
        sections: dict[str, list[int]] = {}
        parts = self.split(arch)
        for group in self.groups:
            sections.setdefault(group.section, []).extend(parts[group.name])
        return sections

    def parse(self, code: Any) -> Architecture:
        """Read an architecture in any of its forms.

        Args:
            code: A string of digits, text of a JSON file, the lists by section (alone or as the
                only entry of a list, as in published files), the lists by group, or a flat list.

        Raises:
            ValueError: If the code does not fit the space.
        """
        if isinstance(code, str):
            text = code.strip()
            if text.isascii() and text.isdigit():
                return self.validate([int(digit) for digit in text])
            if not text.startswith(("[", "{")):
                raise ValueError(f"{text!r} is no architecture: digits, JSON or a list of numbers")
            try:
                code = json.loads(text)
            except json.JSONDecodeError as error:
                raise ValueError(f"{text[:60]!r} is no architecture: {error}") from error
        if isinstance(code, Sequence) and len(code) == 1 and isinstance(code[0], Mapping):
            code = code[0]
        return self._parse_lists(code) if isinstance(code, Mapping) else self.validate(code)

    def _parse_lists(self, lists: Mapping[str, Sequence[int]]) -> Architecture:
        by_name = {group.name: group.size for group in self.groups}
        sizes: Counter[str] = Counter()
        for group in self.groups:
            sizes[group.section] += group.size
        wanted = by_name if lists.keys() == by_name.keys() else sizes
        if lists.keys() != wanted.keys():
            raise ValueError(
                f"an architecture of this space has the lists {', '.join(sizes)}, "
                f"got {', '.join(map(str, lists))}"
            )
        for name, size in wanted.items():
            if len(lists[name]) != size:
                raise ValueError(f"{name} needs {size} choices, got {len(lists[name])}")
        return self.validate([choice for name in wanted for choice in lists[name]])

    def describe(self, arch: Sequence[int]) -> dict[str, list[str]]:
        """Name the choices of every group."""
        parts = self.split(arch)
        return {g.name: [g.choices[choice] for choice in parts[g.name]] for g in self.groups}

    def fix(self, model_cfg: ConfigDict, arch: Sequence[int]) -> ConfigDict:
        """Turn the config of a supernet, or of another fixed network, into that of ``arch``.

        Raises:
            ValueError: If the config has no place for a group's choices.
        """
        fixed = copy.deepcopy(ConfigDict(model_cfg))
        parts = self.split(arch)
        for group in self.groups:
            *parents, last = group.key.split(".")
            node: Any = fixed
            for parent in parents:
                node = node.get(parent) if isinstance(node, Mapping) else None
            if not isinstance(node, dict):
                raise ValueError(f"the model's config has no {group.key!r} for group {group.name}")
            node[last] = parts[group.name]
        return fixed

    def check_model(self, model: nn.Module) -> None:
        """Check that a model is a supernet of this space.

        Raises:
            ValueError: If its decisions or their numbers of choices differ.
        """
        own = dict(zip(self.decisions, self.num_choices, strict=True))
        found = {block.decision: len(block) for _, block in iter_choices(model)}
        if own != found:
            wrong = sorted(k for k in own.keys() | found.keys() if own.get(k) != found.get(k))
            raise ValueError(
                f"the model is no supernet of this search space; they differ in "
                f"{', '.join(wrong[:5])}{' ...' if len(wrong) > 5 else ''}"
            )
