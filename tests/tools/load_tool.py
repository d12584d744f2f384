from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools"


def load_script(name: str) -> ModuleType:
    """Import a script of the tools folder, so that tests need no new process."""
    path = TOOLS / name
    spec = importlib.util.spec_from_file_location(f"tool_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_tool(name: str) -> ModuleType:
    """Import a script of the tools folder; of a door to a command, the command's module."""
    script = load_script(name)
    home = script.main.run.__module__
    return importlib.import_module(home) if home.startswith("mmpanoptic.") else script
