"""The commands that follow a conversion, ready to copy: check, train, test."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

CONFIG = "panoptic-deeplab_r18-tiny_1xb4-5k_own"
"""The config for own data that the commands name."""


def describe_commands(
    tools: Path | Sequence[str], out: Path, images: Path, splits: Sequence[str]
) -> str:
    """Write the commands that check, train and test a converted dataset.

    Args:
        tools: Folder of the scripts, or the words that call ``mmpanoptic``.
        out: Folder of the dataset.
        images: Folder of its images.
        splits: Names of its splits; training takes ``train`` (else the first one), testing
            ``val`` (else the one of training).

    Returns:
        str: Several lines.
    """
    train = "train" if "train" in splits else splits[0]
    val = "val" if "val" in splits else train
    # Two paths of one kind lead to each other; else the images' own is clearer.
    alike = not images.is_absolute() and not out.is_absolute()
    place = Path(os.path.relpath(images, out) if alike else os.path.abspath(images)).as_posix()
    options = [f"data_root={out}", *_variables("train", train), *_variables("val", val)]
    options += [f"train_img={place}/", f"val_img={place}/"]
    names = [f"{out}/annotations/panoptic_{split}.json" for split in splits]
    commands = [["check", name, "--img-dir", str(images)] for name in names]
    commands.append(["train", CONFIG, "--cfg-options", *options])
    commands.append(["test", f"work_dirs/{CONFIG}"])
    lines = [f"  {shlex.join([*_call(tools, name), *rest])}" for name, *rest in commands]
    if val == train:
        lines.insert(0, f"  (there is no split val: testing takes {train}, on which it trained)")
    return "\n".join(["next, to check, train and test:", *lines])


def _call(tools: Path | Sequence[str], name: str) -> list[str]:
    """Say how a command is called: as ``mmpanoptic``, or as a script."""
    if not isinstance(tools, Path):
        return [*tools, name]
    relative = os.path.relpath(tools)
    root = tools if relative.startswith("..") else Path(relative)
    folder = "dataset_converters/" if name == "check" else ""
    return ["python", str(root / f"{folder}{name}.py")]


def _variables(part: str, split: str) -> list[str]:
    """Name the variables of the config that differ from their defaults."""
    if part == split:
        return []
    file = f"annotations/panoptic_{split}"
    return [f"{part}_ann_file={file}.json", f"{part}_seg={file}/"]
