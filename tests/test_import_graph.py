"""The rooms of docs/map.md import one way, and light things stay light."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mmpanoptic"

BASE = {"registry", "structures", "ops", "utils"}

ALLOWED = {
    "version": set(),
    "lazy": set(),
    "registry": set(),
    "structures": {"lazy"},
    "ops": {"utils"},
    "utils": {"structures"},
    "models": BASE,
    "checkpoints": {*BASE, "models"},
    "datasets": {"lazy", "registry", "structures", "utils"},
    "evaluation": {"lazy", "registry", "structures", "utils"},
    "visualization": {"registry", "structures", "utils"},
    "engine": {*BASE, "checkpoints", "datasets", "version"},
    "tuning": {"utils"},
    "nas": {
        *("registry", "structures", "utils", "models", "checkpoints", "datasets", "engine"),
        "tuning",
    },
    "apis": {
        *(*BASE, "models", "checkpoints", "datasets", "evaluation", "visualization", "engine"),
        "tuning",
    },
}
ALLOWED["serving"] = {"apis", "structures", "utils", "visualization"}
ALLOWED["runtime"] = {"structures", "utils", "ops", "apis"}
ALLOWED["deployment"] = {"models", "structures", "utils"}
ALLOWED["apis"] |= {"deployment", "lazy", "runtime", "version"}
ALLOWED["commands"] = {"lazy", *ALLOWED}

MODEL_ROOMS = {
    "layers": set(),
    "postprocess": {"layers"},
    "multicut": {"layers", "postprocess"},
    "losses": {"layers", "multicut"},
    "task_modules": set(),
    "data_preprocessors": set(),
    "backbones": {"layers"},
    "necks": {"layers"},
    "semantic_heads": {"layers", "losses", "postprocess"},
    "instance_heads": {"layers", "losses", "task_modules", "multicut"},
    "roi_heads": {"layers", "losses", "task_modules", "postprocess"},
    "fusion_heads": {"layers", "postprocess", "multicut"},
    "segmentors": {"layers", "postprocess"},
}


def imported_modules(path: Path) -> set[str]:
    """Absolute names of the mmpanoptic modules that a file imports, inside functions too."""
    package = ["mmpanoptic", *path.relative_to(PACKAGE).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            found.add(".".join(module))
            found.update(".".join([*module, alias.name]) for alias in node.names)
    return {name for name in found if name.startswith("mmpanoptic.")}


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


FILES = sorted(p for p in PACKAGE.rglob("*.py") if ".mim" not in p.parts and p.parent != PACKAGE)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms_import_one_way(path):
    room = room_of(path)
    used = {name.split(".")[1] for name in imported_modules(path)} & set(ALLOWED)
    assert used - {room} <= ALLOWED[room]


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if room_of(p) == "models" and len(p.relative_to(PACKAGE).parts) > 2],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_model_rooms_import_one_way(path):
    room = path.relative_to(PACKAGE).parts[1]
    names = {name.split(".")[2] for name in imported_modules(path) if name.count(".") >= 2}
    used = {name for name in names if name in MODEL_ROOMS}
    assert used - {room} <= MODEL_ROOMS[room]


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if room_of(p) != "commands"],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_nothing_imports_the_command_line(path):
    assert not {"mmpanoptic.cli", "mmpanoptic.commands"} & imported_modules(path)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_folders_are_at_most_two_levels_deep(path):
    assert len(path.relative_to(PACKAGE).parts) <= 3


def loaded_after(code: str) -> set[str]:
    """Names of the modules in ``sys.modules`` after running ``code`` in a new interpreter."""
    script = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_the_package_imports_no_model_library():
    loaded = loaded_after("import mmpanoptic, mmpanoptic.registry")
    heavy = {"mmdet", "mmseg", "mmcv.ops", "matplotlib", "scipy", "pycocotools", "torchvision"}
    assert not loaded & heavy


LIGHT = [
    "runtime",
    "apis.panoptic_result",
    "datasets.converters.caching",
    "datasets.shapes",
    "evaluation.panoptic_files",
]


@pytest.mark.parametrize("module", LIGHT)
def test_what_reads_and_writes_files_imports_no_torch(module):
    loaded = loaded_after(f"import mmpanoptic.{module}")
    assert not loaded & {"torch", "mmdet", "mmcv"}


@pytest.mark.parametrize("room", ["datasets", "datasets.shapes", "evaluation", "structures"])
def test_lazy_rooms_have_every_name_that_they_promise(room):
    module = importlib.import_module(f"mmpanoptic.{room}")
    for name in module.__all__:
        assert hasattr(module, name), name
    with pytest.raises(AttributeError, match=f"mmpanoptic.{room}.*no attribute 'Nothing'"):
        module.Nothing  # noqa: B018
