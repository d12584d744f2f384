"""Files of the published search: architectures without a suffix, and its log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .space import Architecture, SearchSpace

_CHOICES, _FITNESS = "_rngs", "pq"


def read_architecture(space: SearchSpace, code: str) -> Architecture:
    """Read an architecture from a file, whatever its suffix, or from the text itself.

    Args:
        space (SearchSpace): The space.
        code (str): Path of a file (``model_0.json``, or ``COCO_3.8G`` of the published
            ``test_models``), digits, or JSON.

    Raises:
        ValueError: If it is neither a file nor an architecture, or does not fit the space.
    """
    is_text = code.isdigit() or code.lstrip().startswith(("[", "{"))
    # A JSON text can be longer than the name of a file may be.
    is_file = (code.isdigit() or not is_text) and Path(code).is_file()
    try:
        return space.parse(_read_text(Path(code)) if is_file else code)
    except ValueError as error:
        if is_file:
            raise ValueError(f"{code}: {error}") from error
        raise ValueError(f"{error}{'' if is_text else '; no such file'}") from error


def read_evaluations(space: SearchSpace, source: Path) -> list[tuple[Architecture, float]]:
    """Read evaluated architectures: of a search here, or of the published log.

    The published log is a JSON file, or has one JSON object per line; an entry has the field ``pq``
    and its choices in ``backbone_rngs``, and, where the search had heads, ``head_rngs`` and
    ``inter_rngs``.

    Args:
        space (SearchSpace): The space.
        source (Path): Folder of a search with ``search.json``, such a file, or a log.

    Returns:
        list[tuple[Architecture, float]]: In the order of the source; failed ones are left out.

    Raises:
        ValueError: If an entry lacks something or does not fit the space, or if there is none.
    """
    path = source / "search.json" if source.is_dir() else source
    content = _parse(path)
    if isinstance(content, Mapping) and "evaluations" in content:
        pairs = [(one["digits"], one["fitness"]) for one in content["evaluations"]]
        found = [(space.parse(code), float(value)) for code, value in pairs if value is not None]
    else:
        if isinstance(content, Mapping) and _FITNESS not in content:  # entries by name
            entries = list(content.items())
        else:
            entries = list(enumerate(content if isinstance(content, list) else [content]))
        found = [_read_entry(space, entry, f"{path}, entry {place}") for place, entry in entries]
    if not found:
        raise ValueError(f"{path} holds no evaluated architecture")
    return found


def _parse(path: Path) -> Any:
    text = _read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as whole:
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError:
            raise ValueError(f"{path} is no JSON, and its lines are none: {whole}") from whole


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text: {error}") from error


def _read_entry(space: SearchSpace, entry: Any, place: str) -> tuple[Architecture, float]:
    """Read an entry of the published log."""
    if not isinstance(entry, Mapping):
        raise ValueError(
            f"{place}: expected an object with {_FITNESS} and the choices (backbone{_CHOICES}, "
            f"...), got {str(entry)[:60]!r}"
        )
    names = dict.fromkeys(group.section for group in space.groups)
    lists = {name: entry[name + _CHOICES] for name in names if name + _CHOICES in entry}
    try:
        fitness = float(entry[_FITNESS])
        # One list may hold the choices of all parts.
        only = next(iter(lists.values())) if len(lists) == 1 else ()
        return space.parse(only if len(only) == len(space) else lists), fitness
    except KeyError as error:
        raise ValueError(f"{place}: there is no field {error}") from error
    except (ValueError, TypeError) as error:
        fields = ", ".join(name + _CHOICES for name in names)
        raise ValueError(
            f"{place} does not fit this search space, whose choices stand in {fields}: {error}"
        ) from error
