"""Positions of a supernet: several modules, of which the chosen one runs.

A component that can be searched takes its choices as a constructor argument: a list of numbers
gives a fixed network without any trace of the search, None gives a supernet with a
:class:`ChoiceModule` at every position. :func:`make_choice` builds either::

    chosen = check_choices("choices", choices, 40)
    for i in range(40):
        makers = [partial(make_block, op, i) for op in OPS]
        self.layers.append(make_choice(f"backbone.{i}", makers, chosen[i]))

So ``layers.3.2.conv.weight`` in the supernet is ``layers.3.conv.weight`` in the network that takes
choice 2 at position 3. The path is set on the model (:func:`set_path`); no forward method knows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn


class ChoiceModule(nn.ModuleList):
    """One decision of a supernet: alternatives, of which the chosen one runs.

    Args:
        decision (str): Name of the decision, unique in the model: ``backbone.0``, ``f2b.3``.
        alternatives (Sequence[nn.Module]): The modules, in the order of the space's choices. All
            take the same inputs.
    """

    def __init__(self, decision: str, alternatives: Sequence[nn.Module]) -> None:
        super().__init__(alternatives)
        self.decision = decision
        self._choice: int | None = None

    @property
    def choice(self) -> int | None:
        """Index of the module that runs; None before the first :meth:`set_choice`."""
        return self._choice

    def set_choice(self, index: int | None) -> None:
        """Choose the module that runs.

        Args:
            index (int | None): Number of the alternative; None forgets the choice.

        Raises:
            ValueError: If there is no such alternative.
        """
        if index is not None and not 0 <= index < len(self):
            raise ValueError(
                f"decision {self.decision} has the choices 0..{len(self) - 1}, got {index!r}"
            )
        self._choice = index

    def chosen(self) -> nn.Module:
        """Return the module that runs.

        Raises:
            RuntimeError: If no path was set.
        """
        if self._choice is None:
            raise RuntimeError(
                f"the supernet has no path: decision {self.decision} is open. Set one with "
                "mmpanoptic.models.layers.set_path(model, path), or build a fixed network by "
                "giving the choices in the config"
            )
        return self[self._choice]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the chosen module."""
        return self.chosen()(*args, **kwargs)


def make_choice(
    decision: str, makers: Sequence[Callable[[], nn.Module]], choice: int | None
) -> nn.Module:
    """Build one position of a network that can be searched.

    Args:
        decision (str): Name of the decision, see :class:`ChoiceModule`.
        makers (Sequence[Callable]): One function per choice that builds its module.
        choice (int | None): Number of the choice of a fixed network; None builds all.

    Returns:
        nn.Module: The chosen module itself, or a :class:`ChoiceModule` of all.

    Raises:
        ValueError: If there is no such choice.
    """
    if choice is None:
        return ChoiceModule(decision, [make() for make in makers])
    if not 0 <= choice < len(makers):
        raise ValueError(
            f"decision {decision} has the choices 0..{len(makers) - 1}, got {choice!r}"
        )
    return makers[choice]()


def check_choices(
    name: str, choices: Sequence[int] | None, positions: int
) -> Sequence[int] | list[None]:
    """Turn the ``choices`` argument of a component into one value per position.

    Args:
        name (str): Name of the argument, for the message.
        choices (Sequence[int] | None): Choices of a fixed network; None for a supernet.
        positions (int): Number of positions.

    Returns:
        Sequence[int] | list[None]: As many values as positions, for :func:`make_choice`.

    Raises:
        ValueError: If their number is another.
    """
    if choices is None:
        return [None] * positions
    if len(choices) != positions:
        raise ValueError(f"{name} needs {positions} values, one per position; got {len(choices)}")
    return choices


def iter_choices(model: nn.Module) -> Iterator[tuple[str, ChoiceModule]]:
    """Walk through the decisions of a model.

    Args:
        model (nn.Module): A supernet, or a part of one.

    Yields:
        tuple[str, ChoiceModule]: Name in the model (``backbone.layers.3``) and module.
    """
    for name, module in model.named_modules():
        if isinstance(module, ChoiceModule):
            yield name, module


def set_path(model: nn.Module, path: Mapping[str, int]) -> None:
    """Choose the modules of a supernet that run.

    Args:
        model (nn.Module): The supernet, also wrapped for distributed training.
        path (Mapping[str, int]): Choice by name of the decision.

    Raises:
        ValueError: If a decision of the model is missing from ``path``, ``path`` names one that
            the model does not have, or a choice does not exist.
    """
    blocks = {block.decision: block for _, block in iter_choices(model)}
    if blocks.keys() != path.keys():
        missing, unknown = blocks.keys() - path.keys(), path.keys() - blocks.keys()
        raise ValueError(
            f"path and model do not fit: without choice {sorted(missing)[:5]}, unknown to the "
            f"model {sorted(unknown)[:5]}"
        )
    for name, block in blocks.items():
        block.set_choice(path[name])


def slice_path(
    model: nn.Module, state: Mapping[str, Tensor], path: Mapping[str, int]
) -> dict[str, Tensor]:
    """Take the weights of one path out of those of a supernet.

    Args:
        model (nn.Module): The supernet; only its structure is used, it may live on ``meta``.
        state (Mapping[str, Tensor]): State dict of the supernet.
        path (Mapping[str, int]): Choice by name of the decision.

    Returns:
        dict[str, Tensor]: State dict of the fixed network; the tensors are not copied.

    Raises:
        KeyError: If ``state`` is not that of the supernet.
    """
    missing = model.state_dict().keys() - state.keys()
    if missing:
        raise KeyError(
            f"the weights are not those of the supernet: without {', '.join(sorted(missing)[:3])}"
        )
    blocks = {f"{name}.": path[block.decision] for name, block in iter_choices(model)}
    chosen = {}
    for name in model.state_dict():
        block = next((block for block in blocks if name.startswith(block)), "")
        index, _, rest = name.removeprefix(block).partition(".")
        if not block:
            chosen[name] = state[name]
        elif int(index) == blocks[block]:
            chosen[block + rest] = state[name]
    return chosen
