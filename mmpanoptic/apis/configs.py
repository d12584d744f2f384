"""Finding the configs that come with the package."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from mmengine.config import Config

_PACKAGE = Path(__file__).resolve().parent.parent


def config_root() -> Path:
    """Return the folder of the shipped configs: in the wheel, or in the clone.

    Raises:
        FileNotFoundError: If there is neither.
    """
    for folder in (_PACKAGE / ".mim" / "configs", _PACKAGE.parent / "configs"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"no configs beside {_PACKAGE}; install the wheel or use a clone of the repository"
    )


def list_configs() -> dict[str, Path]:
    """List the shipped configs that can be run.

    Returns:
        dict[str, Path]: File by name (without ``.py``), sorted; the ``_base_`` parts are left out.
    """
    root = config_root()
    files = (path for path in root.rglob("*.py") if "_base_" not in path.relative_to(root).parts)
    return {path.stem: path for path in sorted(files)}


def find_config(name: str | os.PathLike[str]) -> Path:
    """Find a config by path, or a shipped one by name.

    Args:
        name: Path of a file, or name of a shipped config with or without folder and ``.py``.

    Returns:
        Path: The file.

    Raises:
        FileNotFoundError: If there is none; the message lists names that are alike.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    shipped = list_configs()
    stem = path.name.removesuffix(".py")
    if stem in shipped:
        return shipped[stem]
    alike = difflib.get_close_matches(stem, shipped, n=3, cutoff=0.4) or sorted(shipped)
    raise FileNotFoundError(
        f"there is no config file {str(name)!r} and none of this name comes with mmpanoptic; "
        f"alike: {', '.join(alike)}"
    )


def get_config(name: str | os.PathLike[str]) -> Config:
    """Load a config by path, or a shipped one by name; see :func:`find_config`.

    Configs are Python files and are executed: load only those you trust.
    """
    return Config.fromfile(find_config(name))
