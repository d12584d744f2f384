"""Calling the commands of tools/dataset_converters inside this process."""

from __future__ import annotations

import importlib.util
import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

TOOLS = Path(__file__).parents[3] / "tools" / "dataset_converters"


def call(name: str, *args: object) -> tuple[int, str, str]:
    """Return exit status, standard output and standard error of a command."""
    spec = importlib.util.spec_from_file_location(f"tool_{name}", TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = module.main([str(arg) for arg in args])
        except SystemExit as stop:
            status = stop.code
    return status, out.getvalue(), err.getvalue()


def contents(folder: Path, records: bool = True) -> dict[str, bytes]:
    """Return the content of every file below a folder by relative path.

    ``records=False`` leaves the records of conversions out, which hold times of the sources.
    """
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name != ".conversion.lock"  # says which process wrote last
        and (records or ".conversion." not in path.name)
    }
