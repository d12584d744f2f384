"""Rules of CONTRIBUTING.md that a machine can check."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    path
    for folder in ("mmpanoptic", "tools")
    for path in (ROOT / folder).rglob("*.py")
    if ".mim" not in path.parts
)
FORBIDDEN = {"eval", "exec", "pickle.load", "pickle.loads"}
each_file = pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))


def calls(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


@each_file
def test_nothing_executes_or_unpickles_strangers_data(path):
    for node, name in calls(path):
        assert name not in FORBIDDEN, f"line {node.lineno} calls {name}"
        assert not name.endswith(".extractall"), f"line {node.lineno} calls {name}"
        if name == "torch.load":
            safe = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
            assert safe.get("weights_only") is True, (
                f"line {node.lineno}: weights_only=True missing"
            )
        if name == "np.load":
            assert "allow_pickle" not in {k.arg for k in node.keywords}, f"line {node.lineno}"


@each_file
def test_nothing_is_bound_to_one_device(path):
    for node, name in calls(path):
        assert not name.endswith(".cuda") or name.startswith("torch.cuda"), f"line {node.lineno}"


COMMAND_LINE = {"print", "sys.exit", "exit", "argparse.ArgumentParser", "input"}
WRITES = {"sys.stdout.write", "sys.stderr.write"}


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if path != ROOT / "mmpanoptic" / "cli.py"],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_only_the_command_line_prints_parses_shows_progress_and_exits(path):
    for node, name in calls(path):
        assert name not in COMMAND_LINE | WRITES, f"line {node.lineno} calls {name}"
    text = path.read_text(encoding="utf-8")
    assert "rich.progress" not in text
    assert "track_iter_progress" not in text


@each_file
def test_files_and_functions_are_short(path):
    assert path.read_text(encoding="utf-8").count("\n") <= 620
    long = {name: length for name, length in lengths(path) if length > 60}
    assert not long


@each_file
def test_most_functions_are_under_forty_lines(path):
    functions = lengths(path)
    long = {name: length for name, length in functions if length > 40}
    assert len(long) <= len(functions) / 2, long


def lengths(path):
    """Names of the functions and lines of their bodies, without docstrings."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            found.append((node.name, node.end_lineno - body[0].lineno + 1 if body else 0))
    return found
