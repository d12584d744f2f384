"""Names of the published Panoptic-DeepLab checkpoints and ours, in both directions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

_COUNTER = "num_batches_tracked"
CLASSIFIERS = (
    r"(stem\.)?fc\.",  # ResNet, Xception
    r"(incre_modules|downsamp_modules|final_layer|classifier)\.",  # HRNet
)
"""Patterns of the names in ImageNet checkpoints that the backbones have no place for."""


class CheckpointMismatchError(ValueError):
    """The tensors of a checkpoint are not those of the model."""


def _stem_name(match: re.Match[str]) -> str:
    conv, part = divmod(int(match[1]), 3)
    return f"backbone.stem.conv{conv + 1}." + ("norm." if part else "")


# Applied in order to our names. Xception and HRNet keep their published names.
_RESNET_RULES: tuple[tuple[str, Any], ...] = (
    (r"^backbone\.stem\.(\d)\.", _stem_name),
    (r"^backbone\.layer(\d)\.", lambda m: f"backbone.res{int(m[1]) + 1}."),
    (r"^(backbone\.res\d\.\d+)\.bn(\d)\.", r"\1.conv\2.norm."),
    (r"^(backbone\.res\d\.\d+)\.downsample\.0\.", r"\1.shortcut."),
    (r"^(backbone\.res\d\.\d+)\.downsample\.1\.", r"\1.shortcut.norm."),
)
_HEAD = r"^((?:sem_seg|ins_embed|AFF_EMBED)_head\..*)\."
_HEAD_RULES: tuple[tuple[str, Any], ...] = (
    (r"^semantic_head\.", "sem_seg_head."),
    (r"\.decoder\.projects\.(\d+)\.", lambda m: f".decoder.res{int(m[1]) + 2}.project_conv."),
    (r"\.decoder\.fuses\.(\d+)\.", lambda m: f".decoder.res{int(m[1]) + 2}.fuse_conv."),
    (r"\.decoder\.aspp\.image_pool\.", ".decoder.res5.project_conv.convs.4.1."),
    (r"\.decoder\.aspp\.", ".decoder.res5.project_conv."),
    (_HEAD + r"depthwise_conv\.", r"\1.depthwise."),
    (_HEAD + r"pointwise_conv\.", r"\1.pointwise."),
    (_HEAD + r"conv\.(weight|bias)$", r"\1.\2"),
    (_HEAD + r"bn\.", r"\1.norm."),
)


_INSTANCE_RULES = ((r"^instance_head\.", "ins_embed_head."),)


def published_names(
    names: Iterable[str], instance_rules: Sequence[tuple[str, Any]] = _INSTANCE_RULES
) -> dict[str, str]:
    """Translate the names of one of our models into the published ones.

    Args:
        names (Iterable[str]): All names of the model's state dict; which backbone it is follows
            from them.
        instance_rules (Sequence): Patterns and replacements for the names of the instance head.

    Returns:
        dict[str, str]: Published name by our name.

    Raises:
        ValueError: If two names would become one.
    """
    names = list(names)
    is_resnet = any(name.startswith("backbone.layer4.") for name in names)
    rules = (*(_RESNET_RULES if is_resnet else ()), *instance_rules, *_HEAD_RULES)
    table = {}
    for name in names:
        published = name
        for pattern, replacement in rules:
            published = re.sub(pattern, replacement, published)
        table[name] = published
    if len(set(table.values())) != len(table):
        raise ValueError("two parameters of this model would get the same published name")
    return table


class PublishedKeyMap:
    """Convert state dicts between the published naming and that of one of our models.

    The last level of a decoder is called ``res5``, level i of the finer ones ``res{i + 2}``, as in
    all published variants.

    Args:
        model (nn.Module): A ``PanopticSegmentor`` built from the config of the variant.

    Attributes:
        instance_rules (Sequence): Patterns and replacements for the names of the instance head.
        class_bound (Sequence[str]): Beginnings of the published names of the tensors whose shape
            depends on the number of classes.
        dropped (Sequence[str]): Patterns of published names that have no place in any model.
    """

    instance_rules: Sequence[tuple[str, Any]] = _INSTANCE_RULES
    class_bound: tuple[str, ...] = ("sem_seg_head.predictor.",)
    dropped: tuple[str, ...] = ()

    def __init__(self, model: nn.Module) -> None:
        state = model.state_dict()
        self.shapes = {name: tuple(value.shape) for name, value in state.items()}
        self.published = published_names(state, self.instance_rules)

    def to_ours(
        self,
        state: Mapping[str, Any],
        backbone_only: bool = False,
        drop: Sequence[str] = (),
        new_classes: bool = False,
    ) -> dict[str, Any]:
        """Rename the tensors of a published checkpoint.

        Args:
            state (Mapping): Tensors or arrays by published name. Batch counters may be missing
                and become 0.
            backbone_only (bool): The names are those of an ImageNet checkpoint, without
                ``backbone.``; what :data:`CLASSIFIERS` matches is dropped.
            drop (Sequence[str]): Regular expressions of further names to drop, matched at the
                beginning of a name.
            new_classes (bool): Leave the tensors of ``class_bound`` out, since the model has other
                classes than the checkpoint.

        Returns:
            dict: The values under our names.

        Raises:
            CheckpointMismatchError: If tensors are missing, unexpected or of another shape.
        """
        dropped = [*drop, *self.dropped, *(CLASSIFIERS if backbone_only else ())]
        values = {n: v for n, v in state.items() if not any(re.match(d, n) for d in dropped)}
        wanted = self.published
        if backbone_only:
            values = {f"backbone.{name}": value for name, value in values.items()}
            wanted = {o: p for o, p in wanted.items() if o.startswith("backbone.")}
        if new_classes:
            values = {n: v for n, v in values.items() if not n.startswith(self.class_bound)}
            wanted = {o: p for o, p in wanted.items() if not p.startswith(self.class_bound)}
        return place_tensors(values, wanted, self.shapes)

    def to_published(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Rename the tensors of one of our state dicts.

        Args:
            state (Mapping): Tensors or arrays by our name, complete.

        Returns:
            dict: The values under the published names.

        Raises:
            CheckpointMismatchError: If tensors are missing, unexpected or of another shape.
        """
        check_names(state, self.published)
        check_shapes(state, self.shapes)
        return {theirs: state[ours] for ours, theirs in self.published.items()}


def place_tensors(
    values: Mapping[str, Any],
    wanted: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    arrange: Callable[[str, Any], Any] | None = None,
) -> dict[str, Any]:
    """Give the tensors of a published checkpoint our names.

    Args:
        values (Mapping): By published name; batch counters may be missing and become 0.
        wanted (Mapping[str, str]): Published name by ours.
        shapes (Mapping[str, tuple[int, ...]]): By our name.
        arrange (Callable | None): From our name and a published tensor to ours.

    Returns:
        dict: The values under our names.

    Raises:
        CheckpointMismatchError: If tensors are missing, unexpected or of another shape.
    """
    counters = (name for name in wanted.values() if name.endswith(_COUNTER))
    values = {**{name: torch.zeros((), dtype=torch.int64) for name in counters}, **values}
    check_names(values, wanted.values())
    ours = {name: values[theirs] for name, theirs in wanted.items()}
    if arrange is not None:
        ours = {name: arrange(name, value) for name, value in ours.items()}
    check_shapes(ours, shapes)
    return ours


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


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:5], "..."] if len(names) > 5 else names) or "none"
