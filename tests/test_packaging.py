import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

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
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000", **environment},
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
    return build_source_archive(clone, out)


def build_source_archive(clone, out):
    command = [sys.executable, "setup.py", "-q", "sdist", "-d", str(out)]
    env = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    subprocess.run(command, check=True, capture_output=True, cwd=clone, env=env)
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


@pytest.mark.parametrize("path", files("mmpanoptic/visualization/templates"), ids=str)
def test_wheel_and_source_archive_carry_the_templates_of_pages(names, source_archive, path):
    assert path.suffix in (".html", ".css", ".js")
    assert str(path) in names
    with tarfile.open(source_archive) as archive:
        assert str(path) in {name.split("/", 1)[-1] for name in archive.getnames()}


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


@pytest.fixture(scope="module")
def another_build(tmp_path_factory):
    """Wheel and source archive from another folder, at another time."""
    clone = copy_clone(tmp_path_factory.mktemp("elsewhere"))
    for path in clone.rglob("*"):
        os.utime(path, (1600000000, 1600000000))
    out = tmp_path_factory.mktemp("again")
    return build_source_archive(clone, out), build_wheel(clone, out)[0]


def test_two_builds_are_equal_bit_by_bit(source_archive, wheel, another_build):
    for one, other in zip((source_archive, wheel), another_build, strict=True):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes(), one.name


EVERY_DAY = """
import os, sys
import mmpanoptic
from mmpanoptic.commands import main

assert mmpanoptic.__file__.startswith(sys.prefix), mmpanoptic.__file__
config = "panoptic-deeplab_r18-tiny_1xb8-500_shapes"
small = "max_iters=2 batch_size=2 num_workers=0 warmup_iters=1".split()
for words in (
    "info",
    "convert shapes data/shapes --train 4 --val 2 --size 64 96",
    "check data/shapes/annotations/panoptic_train.json --img-dir data/shapes/train",
    f"train {config} --work-dir run --cfg-options {' '.join(small)}",
    "test run --work-dir tested",
    "infer data/shapes/val run --out-dir found --device cpu",
    "infer data/shapes/val/000001.jpg --model nuclei --out-dir nuclei --device cpu",
):
    status = main(words.split())
    assert status == 0, (words, status)
"""


def test_a_fresh_wheel_in_an_empty_folder_does_what_people_do_every_day(wheel, tmp_path):
    """In an environment whose only mmpanoptic is the wheel; the dependencies are the tests'."""
    environment, folder = tmp_path / "environment", tmp_path / "empty"
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "-q"]
    subprocess.run([*install, wheel], check=True, capture_output=True)
    shared = [path for path in sys.path if path.endswith("site-packages")]
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text("\n".join(shared))
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    run = {"cwd": folder, "env": env, "capture_output": True, "text": True}
    version = subprocess.run([environment / "bin" / "mmpanoptic", "--version"], **run)
    assert version.stdout.startswith("mmpanoptic ")
    done = subprocess.run([python, "-c", EVERY_DAY], **run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Panoptic quality by class" in done.stdout
    for name in ("run/best_checkpoint", "found/overlay/000002.png", "nuclei/panoptic.json"):
        assert (folder / name).is_file(), name


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


def test_the_extra_all_takes_everything_that_is_optional(wheel):
    archive = zipfile.ZipFile(wheel)
    metadata = next(name for name in archive.namelist() if name.endswith("METADATA"))
    lines = archive.read(metadata).decode().splitlines()
    words = ("Provides-Extra: all", "Requires-Dist: ")
    assert words[0] in lines
    required = [Requirement(line[len(words[1]) :]) for line in lines if line.startswith(words[1])]
    names = {
        one.name for one in required if "extra" in str(one.marker) and "all" in str(one.marker)
    }
    assert {"supervision", "pandas", "onnxruntime", "wandb", "tensorboard"} <= names
    assert not {"torch", "mmcv", "mmcv-lite"} & names


def test_what_the_package_imports_fits_together():
    """As ``pip check``, for mmpanoptic and all that it needs."""
    waiting, seen, problems = [("mmpanoptic", frozenset())], set(), []
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        for text in distribution(name).requires or ():
            one = Requirement(text)
            asked = [{"extra": extra} for extra in (extras or {""})]
            if one.marker is not None and not any(map(one.marker.evaluate, asked)):
                continue
            try:
                found = distribution(one.name).version
            except PackageNotFoundError:
                problems.append(f"{name} needs {one}, which is missing")
                continue
            if not one.specifier.contains(found, prereleases=True):
                problems.append(f"{name} needs {one}, found {found}")
            waiting.append((one.name, frozenset(one.extras)))
    assert len(seen) > 20
    assert not problems


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


KNOWN = """
echo "$@" >> "$(dirname "$0")/calls"
[ "$1" = - ] || exit 0
script="$(cat)"
[[ "$script" == *importlib.metadata* ]] || {{ echo ok; exit 0; }}
PYTHONPATH="{packages}" exec "{python}" -S -c "$script"
"""


@pytest.mark.parametrize(
    ("installed", "words"),
    [
        ({"onedl-mmcv": "2.3.6"}, "onedl-mmcv in .venv would share its folders with mmengine"),
        ({"mmcv": "2.2.0", "mmdet": "3.3.0"}, "mmdet 3.3.0 refuses mmcv 2.2.0"),
        ({"mmcv": "2.1.0", "mmcv-lite": "2.1.0"}, "both in .venv"),
        ({"mmcv": "2.1.0"}, None),
        ({"mmcv-lite": "2.1.0"}, None),
    ],
)
def test_setup_refuses_what_is_known_to_fail_together(tmp_path, installed, words):
    packages = tmp_path / "packages"
    for name, version in installed.items():
        info = packages / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    folder = tmp_path / "a clone" / ".venv" / "bin"
    folder.mkdir(parents=True)
    fake = KNOWN.format(packages=packages, python=sys.executable)
    (folder / "python").write_text(f"#!{BASH}\n{fake}")
    (folder / "python").chmod(0o755)
    done = run_setup(tmp_path, python3="exit 0")
    calls = (folder / "calls").read_text()
    if words is None:
        text = (folder.parent / "runtime.txt").read_text() if "mmcv" in installed else "mmcv-lite"
        assert ("mmcv-lite" in text) == ("mmcv-lite" in installed)
        assert "pip install" in calls
    else:
        assert done.returncode == 1
        assert words in done.stderr
        assert "pip install" not in calls.replace("--version", "")


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
