"""Compile and load what lets a CPU build of torch accept tensors that claim to be on a GPU.

Nothing here imports torch: the library has to be loaded before it.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("guard.cpp")


def compiler() -> str | None:
    """Find a C++ compiler: ``CXX`` or the system's ``c++``; None if there is none."""
    return shutil.which(os.environ.get("CXX", "c++"))


def library(folder: Path) -> Path:
    """Compile the guard for the torch at hand (half a minute), once a folder.

    Args:
        folder (Path): Where compiled guards are kept.

    Returns:
        Path: The shared library.
    """
    torch_folder = Path(importlib.util.find_spec("torch").submodule_search_locations[0])
    key = SOURCE.read_text() + importlib.metadata.version("torch") + sys.version
    target = folder / f"guard-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            built = Path(scratch) / target.name
            command = [compiler(), "-std=c++20", "-O1", "-shared", "-fPIC"]
            command += [f"-I{torch_folder / 'include'}", str(SOURCE), "-o", str(built)]
            command += [f"-L{torch_folder / 'lib'}", "-lc10", "-ltorch_cpu"]
            command += [f"-Wl,-rpath,{torch_folder / 'lib'}"]
            subprocess.run(command, check=True, capture_output=True, text=True)
            os.replace(built, target)
    return target


def load(path: Path) -> None:
    """Load a compiled guard; torch must not have been imported."""
    if "torch" in sys.modules:
        raise RuntimeError("torch was imported before the guard of the pretended GPU was loaded")
    ctypes.CDLL(str(path))
