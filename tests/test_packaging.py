import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SETUP = ROOT / "tools" / "dev" / "setup_env.sh"
BASH = shutil.which("bash")


SOLVER = "mmpanoptic/ops/amwc/_solver."


def copy_clone(folder):
    """A copy to build in, so that no build folder is left in the clone."""
    for name in ("mmpanoptic", "configs", "tools", "requirements"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".mim", "*.so")
        )
    for name in (
        "setup.py",
        "pyproject.toml",
        "MANIFEST.in",
        "README.md",
        "CITATION.cff",
        "model-index.yml",
    ):
        shutil.copy(ROOT / name, folder)
    return folder


def build_wheel(clone, out, **environment):
    """Build a wheel; the file and what pip had to say."""
    command = [sys.executable, "-m", "pip", "wheel", "-v", str(clone), "--no-deps", "-w", str(out)]
    done = subprocess.run(
        [*command, "--no-build-isolation"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    return next(out.glob("*.whl")), done.stdout + done.stderr


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return copy_clone(tmp_path_factory.mktemp("clone with space"))


@pytest.fixture(scope="module")
def wheel(clone, tmp_path_factory):
    return build_wheel(clone, tmp_path_factory.mktemp("wheel"))[0]


@pytest.fixture(scope="module")
def source_archive(clone, tmp_path_factory):
    out = tmp_path_factory.mktemp("sdist")
    command = [sys.executable, "setup.py", "-q", "sdist", "-d", str(out)]
    subprocess.run(command, check=True, capture_output=True, cwd=clone)
    return next(out.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def names(wheel):
    return set(zipfile.ZipFile(wheel).namelist())


def files(folder):
    """Parameters: the files of a folder of the clone, without what running them makes."""
    paths = [path.relative_to(ROOT) for path in sorted((ROOT / folder).rglob("*"))]
    made = {"__pycache__", ".mim"}
    return [p for p in paths if (ROOT / p).is_file() and made.isdisjoint(p.parts)]


@pytest.mark.parametrize("path", [*files("configs"), *files("tools")], ids=str)
def test_the_wheel_carries_every_config_and_tool(names, path):
    assert f"mmpanoptic/.mim/{path}" in names


@pytest.mark.parametrize(
    "path", [path for path in files("mmpanoptic") if path.suffix in (".py", ".pyi")], ids=str
)
def test_the_wheel_carries_every_module(names, path):
    assert str(path) in names


@pytest.mark.parametrize("path", files("mmpanoptic/checkpoints/shipped"), ids=str)
def test_wheel_and_source_archive_carry_the_shipped_models(names, source_archive, path):
    assert path.name in ("card.yml", "weights.pth")
    assert str(path) in names
    with tarfile.open(source_archive) as archive:
        assert str(path) in {name.split("/", 1)[-1] for name in archive.getnames()}


def test_the_wheel_carries_the_index_of_models_and_no_test(names):
    assert "mmpanoptic/.mim/model-index.yml" in names
    assert not [name for name in names if name.startswith("tests")]


def test_the_wheel_carries_the_compiled_solver_and_not_its_sources(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.startswith(SOLVER) and not name.endswith(".pyi")]
    assert not [name for name in names if name.endswith((".h", ".cpp"))]


def test_the_source_archive_carries_the_solver_s_sources(source_archive):
    with tarfile.open(source_archive) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    sources = {
        str(path.relative_to(ROOT))
        for pattern in ("*.h", "*.cpp")
        for path in (ROOT / "mmpanoptic" / "ops" / "amwc").glob(pattern)
    }
    assert len(sources) > 5
    assert sources <= names


def test_without_a_compiler_the_rest_is_built_with_a_warning(tmp_path):
    (tmp_path / "clone").mkdir()
    (tmp_path / "out").mkdir()
    absent = {"CXX": "no-such-compiler", "CC": "no-such-compiler"}
    path, words = build_wheel(copy_clone(tmp_path / "clone"), tmp_path / "out", **absent)
    names = zipfile.ZipFile(path).namelist()
    assert "mmpanoptic/ops/amwc/api.py" in names
    assert not [name for name in names if name.endswith((".so", ".pyd"))]
    assert "WARNING: the AMWC solver was not built" in words


def test_without_pybind11_the_rest_is_built_with_a_warning(tmp_path):
    (tmp_path / "clone").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "pybind11.py").write_text("raise ImportError('hidden')")
    path, words = build_wheel(
        copy_clone(tmp_path / "clone"), tmp_path / "out", PYTHONPATH=str(tmp_path / "path")
    )
    assert "mmpanoptic/ops/amwc/api.py" in zipfile.ZipFile(path).namelist()
    assert "not built (pybind11 is absent)" in words


def test_the_wheel_never_asks_for_torch(wheel):
    archive = zipfile.ZipFile(wheel)
    metadata = next(name for name in archive.namelist() if name.endswith("METADATA"))
    requires = re.findall(r"^Requires-Dist: (.*)$", archive.read(metadata).decode(), re.M)
    assert requires
    assert not [line for line in requires if line.startswith("torch") and "extra" not in line]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name
)
def test_every_requirement_says_why_it_is_there(path):
    bare = [line for line in path.read_text().splitlines() if line and "#" not in line]
    assert not bare


def run_setup(tmp_path, **tools):
    """Run the set-up in a copy where only the given programs can be found."""
    root = tmp_path / "a clone"
    (root / "tools" / "dev").mkdir(parents=True)
    shutil.copy(SETUP, root / "tools" / "dev")
    shutil.copytree(ROOT / "requirements", root / "requirements")
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("dirname", "cat", "cksum", "sed", "grep", "rm"):
        os.symlink(shutil.which(name), programs / name)
    for name, text in tools.items():
        (programs / name).write_text(f"#!{BASH}\n{text}\n")
        (programs / name).chmod(0o755)
    return subprocess.run(
        [BASH, str(root / "tools" / "dev" / "setup_env.sh")],
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
    )


def test_setup_without_a_recent_python_says_so(tmp_path):
    done = run_setup(tmp_path, python3="exit 1")
    assert done.returncode == 1
    assert "no Python >= 3.10 found" in done.stderr
    assert "PYTHON=" in done.stderr


def test_setup_without_the_venv_module_names_the_package(tmp_path):
    done = run_setup(tmp_path, python3='[[ "$2" == *ensurepip* ]] && exit 1; exit 0')
    assert done.returncode == 1
    assert "has no venv module" in done.stderr
    assert "python3-venv" in done.stderr


def test_setup_without_a_compiler_mentions_it_and_goes_on(tmp_path):
    fake = '[ "$1 $2" = "-m venv" ] && { echo "making venv"; exit 1; }; exit 0'
    done = run_setup(tmp_path, python3=fake)
    assert "no C++ compiler found: COPS will lack its AMWC solver" in done.stderr
    assert "making venv" in done.stdout


FAKE_ENVIRONMENT = """
echo "$@" >> "$(dirname "$0")/calls"
[ "$1" = - ] || exit 0
script="$(cat)"
[[ "$script" == *torchvision* ]] && { echo 'torchvision==0.28.*'; exit 0; }
echo ok
"""


def test_setup_installs_the_torchvision_that_belongs_to_torch_and_nothing_else_with_it(tmp_path):
    venv = tmp_path / "a clone" / ".venv" / "bin"
    venv.mkdir(parents=True)
    (venv / "python").write_text(f"#!{BASH}\n{FAKE_ENVIRONMENT}")
    (venv / "python").chmod(0o755)
    done = run_setup(tmp_path, python3="exit 0")
    assert "installing torchvision==0.28.* next to torch for CUDA" in done.stdout, done.stderr
    calls = (venv / "calls").read_text().splitlines()
    (installed,) = [call for call in calls if "torchvision" in call]
    assert installed.startswith("-m pip install")
    assert "--no-deps" in installed


@pytest.mark.parametrize(
    ("version", "cuda", "wanted"),
    [
        ("2.13.0+cu130", "13.0", "torchvision==0.28.*"),
        ("2.6.1", "12.4", "torchvision==0.21.*"),
        ("2.13.0+cpu", None, ""),
    ],
)
def test_setup_knows_which_torchvision_belongs_to_torch(tmp_path, version, cuda, wanted):
    script = re.search(r'torchvision="\$.*?PY\'\n(.*?)\nPY', SETUP.read_text(), re.S).group(1)
    (tmp_path / "torch.py").write_text(
        f"class version: cuda = {cuda!r}\n__version__ = {version!r}\n"
    )
    found = subprocess.run(
        [sys.executable, "-S", "-c", script],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == wanted
