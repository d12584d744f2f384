"""Finding and reading configs: files, and those that come with the package."""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmpanoptic.checkpoints.run_folder import run_config
from mmpanoptic.checkpoints.shipped_models import get_shipped_model, is_shipped_model
from mmpanoptic.engine.config import resolve_variables
from mmpanoptic.engine.config_keys import apply_options, check_keys
from mmpanoptic.engine.type_names import check_custom_imports, explain_failed_import
from mmpanoptic.registry import ConfigError


def config_root(package: str = "mmpanoptic") -> Path:
    """Return the folder of the configs that a package ships: in the wheel, or in the clone.

    Args:
        package (str): Name of a package of the OpenMMLab kind.

    Raises:
        FileNotFoundError: If there is neither.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"there is no package {package}; install it for its configs")
    home = Path(spec.origin).resolve().parent
    for folder in (home / ".mim" / "configs", home.parent / "configs"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"no configs beside {home}; install the wheel or use a clone of the repository"
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
        name: Path of a file; folder of a run, which stands for the config it was trained with;
            name of a shipped config with or without folder and ``.py``; or of a shipped model.

    Returns:
        Path: The file.

    Raises:
        FileNotFoundError: If there is none; the message lists names that are alike.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        return run_config(path)
    if is_shipped_model(name):
        name = get_shipped_model(os.fspath(name)).config
    shipped = list_configs()
    stem = Path(name).name.removesuffix(".py")
    if stem in shipped:
        return shipped[stem]
    alike = ", ".join(difflib.get_close_matches(stem, shipped, n=3, cutoff=0.4))
    raise FileNotFoundError(
        f"there is no config file {str(name)!r} and none of this name comes with mmpanoptic; "
        + (f"alike: {alike}" if alike else f"{config_root()} holds those that do")
    )


def get_config(name: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> Config:
    """Read a config by path, or a shipped one by name; see :func:`find_config`.

    Configs are Python files and are executed: load only those you trust.

    Args:
        name: Path, folder of a run, or name.
        options (Mapping | None): Values in place of the config's, by dotted key, see
            :func:`mmpanoptic.engine.config_keys.apply_options`.

    Returns:
        Config: With its placeholders.

    Raises:
        ConfigError: If the config or an option says something that nothing reads.
    """
    cfg = Config.fromfile(find_config(name), import_custom_modules=False)
    check_keys(cfg)
    apply_options(cfg, options or {})
    import_custom_modules(cfg)
    return cfg


def import_custom_modules(cfg: Config) -> None:
    """Import what ``custom_imports`` of a config names.

    Args:
        cfg (Config): ``imports`` are names of modules; with ``allow_failed_imports`` one that
            cannot be imported is a warning.

    Raises:
        ConfigError: If one cannot be imported; with the nearest name.
    """
    settings = cfg.get("custom_imports") or {}
    check_custom_imports(settings)
    names = settings.get("imports") or ()
    for name in [names] if isinstance(names, str) else names:
        if _is_running(name):
            continue  # what it registers would be registered twice
        try:
            importlib.import_module(name)
        except ImportError as error:
            text = explain_failed_import(name, error)
            if not settings.get("allow_failed_imports"):
                raise ConfigError(text) from error
            warnings.warn(text, stacklevel=2)


def _is_running(name: str) -> bool:
    """Tell whether a module is the script that runs, which has another name then."""
    running = getattr(sys.modules["__main__"], "__file__", None)
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # importing it says what is wrong
        return False
    origin = found.origin if found else None
    if running is None or origin is None:
        return False
    return Path(running).resolve() == Path(origin).resolve()


def differing_settings(cfg: Config, folder: str | os.PathLike[str]) -> list[str]:
    """List what of a model and of its images' preparation is not as in a run.

    Args:
        cfg (Config): With its placeholders.
        folder: The run's; without a config of its own nothing is known to differ.

    Returns:
        list[str]: Dotted keys.
    """
    try:
        own = run_config(folder)
    except FileNotFoundError:
        return []
    one, other = (
        dict(_settings({name: resolve_variables(c).get(name) for name in _OF_MODELS}))
        for c in (cfg, get_config(own))
    )
    keys = (key for key in {**one, **other} if one.get(key) != other.get(key))
    return [key for key in keys if not key.endswith(".checkpoint")]


_OF_MODELS = ("model", "test_dataloader")
_OF_DATA = re.compile(r"test_dataloader\.(?!dataset\.pipeline\.)")


def _settings(node: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what stands in a tree, by dotted key; of loaders the pipeline alone."""
    if _OF_DATA.match(f"{place}.") and not "test_dataloader.dataset.pipeline".startswith(place):
        return
    items: Any = node.items() if isinstance(node, Mapping) else enumerate(node or ())
    for name, part in items:
        key = f"{place}.{name}".lstrip(".")
        if isinstance(part, Mapping | list | tuple):
            yield from _settings(part, key)
        elif not _OF_DATA.match(key):
            yield key, part


def _base_path(name: str, file: str) -> tuple[str, str | None]:
    """Find an entry of ``_base_``: a path, or ``package::path`` for a config that a package ships.

    Stands in for ``Config._get_cfg_path``, which needs ``pkg_resources`` (setuptools 82 has
    removed it) and knows OpenMMLab's packages only.
    """
    package, sign, below = name.partition("::")
    if not sign:
        path = Path(file).parent / name
        if not path.is_file() and Path(name).stem in list_configs():
            raise ConfigError(
                f"{file}: there is no file {path}; a shipped config is inherited with _base_ = "
                f'"mmpanoptic::{find_config(name).relative_to(config_root()).as_posix()}"'
            )
        return str(path), None
    path = config_root(package) / below
    if package != "mmpanoptic":
        return str(path), package
    return str(path if path.is_file() else find_config(below)), None


Config._get_cfg_path = staticmethod(_base_path)
