"""Pages that open from a folder, without a server and without anything from the net."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmpanoptic.structures import find_runs
from mmpanoptic.utils import atomic_write

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_page(path: str | os.PathLike[str], template: str, **values: Any) -> Path:
    """Fill a template of ``templates/`` in, and write it.

    Args:
        path: Of the page; replaced whole or not at all.
        template (str): File name of the template. Everything filled in is escaped, but values of
            :class:`markupsafe.Markup`.
        **values: What the template asks for; a missing one is an error.

    Returns:
        Path: The page.
    """
    text = fill_page(template, **values)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def fill_page(template: str, **values: Any) -> str:
    """Fill a template in, see :func:`write_page`, and return the text."""
    return _environment().get_template(template).render(values)


def list_runs(index_map: np.ndarray) -> list[int]:
    """Write a map down as the scripts of the pages read it.

    Args:
        index_map (np.ndarray): Integer ``(H, W)``; 0 is void, k the k-th segment.

    Returns:
        list[int]: Value and number of pixels of one stretch after the other, row by row.
    """
    runs = find_runs(index_map)
    pairs: list[int] = np.stack([runs.value.astype(np.int64), runs.length], 1).ravel().tolist()
    return pairs
