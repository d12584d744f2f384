"""Try the package beside other versions of what it needs, each set in an environment of its own."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmpanoptic import cli
from mmpanoptic.utils import read_json, write_json
from mmpanoptic.utils.limited import Outcome, run_part

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = """
  %(prog)s                          # all sets that cost minutes
  %(prog)s --list                   # what there is
  %(prog)s forks numpy-1.26         # these
  %(prog)s --big --max-download 4000    # also those that compile for minutes or fetch gigabytes

An environment is a thin layer over the one that runs this command: what differs lies in front of
it, so that a set costs little disk. Other versions of Python get everything anew. An environment
is deleted when its set is done.

A run that was stopped goes on where it was: sets and steps that have an outcome stay. --again
forgets them. The table is WORK_DIR/table.md; what each step said is in WORK_DIR/SET.
"""


class Set(NamedTuple):
    """Versions to try together.

    Attributes:
        name (str): What the command takes.
        says (str): What differs, in words.
        front (tuple[str, ...]): Requirements that lie in front of the environment below, without
            what they need; built apart from it.
        compiled (tuple[str, ...]): Requirements that are compiled against torch.
        more (tuple[str, ...]): Requirements that bring what they need, unless it is there.
        python (str): Version of another Python, which gets everything anew.
        big (bool): Whether it takes many minutes or gigabytes.
    """

    name: str
    says: str
    front: tuple[str, ...] = ()
    compiled: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    python: str = ""
    big: bool = False


FORKS = ("onedl-mmengine==0.10.12", "onedl-mmcv==2.3.6", "onedl-mmdetection==3.5.1")
SEGMENTATION_FORK = "onedl-mmsegmentation==1.4.2"
SETS = (
    Set("pinned", "the set of requirements/constraints.txt"),
    Set(
        "forks",
        "onedl-mmengine, -mmcv (without its operators), -mmdetection, -mmsegmentation",
        (*FORKS, SEGMENTATION_FORK),
        more=("imaug",),
    ),
    Set("numpy-1.26", "the oldest numpy", ("numpy==1.26.*",)),
    Set("numpy-2", "the newest numpy", ("numpy>=2,<3",)),
    Set("opencv-4", "OpenCV 4", ("opencv-python>=4.8,<5",)),
    Set("opencv-5", "OpenCV 5", ("opencv-python>=5,<6",)),
    Set("oldest", "the oldest numpy and OpenCV", ("numpy==1.26.*", "opencv-python==4.8.*")),
    Set("mmcv-full", "mmcv 2.1.0 with its operators", compiled=("mmcv==2.1.0",), big=True),
    Set("torch-oldest", "torch 2.6.0", more=("torch==2.6.0",), big=True),
    Set("torch-newest", "the newest torch of the index", more=("torch>2.13",), big=True),
    *(
        Set(f"python-{version}", f"Python {version}", python=version, big=True)
        for version in ("3.10", "3.11", "3.12", "3.13", "3.14")
    ),
)

SMOKE = ("tests/usability", "tests/tools/test_every_system.py", "-k", "usability or test_test")
PARITY = (
    *(f"tests/parity/test_{name}.py" for name in ("rap_fusion", "rap_heads", "evaluation")),
    *(f"tests/parity/test_{name}.py" for name in ("solov2", "panoptic_deeplab", "cops_solver")),
    *("tests/ops/test_parity.py", "-k", "not (h48 or x65 or hard)"),
)
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
LIMITS = {"install": 2400, "import": 300, "smoke": 1200, "parity": 1200}
"""Seconds of each step."""
VERSIONS = ("Python", "torch", "numpy", "cv2", "mmengine", "mmcv", "mmdet", "mmseg")
IMPORT = f"""
import importlib, json, platform, sys
names = {VERSIONS[1:]!r}
found = {{"Python": platform.python_version()}}
for name in names:
    found[name] = importlib.import_module(name).__version__
json.dump([found], open(sys.argv[1], "w"))
for name in ("mmpanoptic.apis", "mmdet.apis", "mmseg.apis"):
    importlib.import_module(name)
"""
LAYER = """
import site, sysconfig
from pathlib import Path
line = "import site; site.addsitedir({folder!r})"
Path(sysconfig.get_path("purelib"), "zz_below.pth").write_text(line)
"""
_COUNTS = re.compile(r"\d+ (?:failed|passed|error|errors)\b")


# ---- environments -------------------------------------------------------------------------------


def find_python(version: str) -> str | None:
    """Find an interpreter of a version, on the path or of pyenv."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    listed = sorted(kept.glob(f"{version}.*/bin/python{version}"), reverse=True)
    for candidate in (*map(str, listed), shutil.which(f"python{version}")):
        # pyenv has a command of each name on the path that fails where no version is chosen.
        if candidate and not subprocess.run([candidate, "-V"], capture_output=True).returncode:
            return candidate
    return None


def install_commands(one: Set, env: Path) -> Iterator[list[str]]:
    """Yield the commands that make the environment of a set.

    Args:
        one (Set): What to install.
        env (Path): Its folder.

    Yields:
        list[str]: A command line.
    """
    python = str(env / "bin" / "python")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "-q"]
    install.append("--disable-pip-version-check")
    interpreter = find_python(one.python) if one.python else sys.executable
    yield [interpreter or "", "-m", "venv", "--clear", "--without-pip", str(env)]
    if one.python:
        yield [*install, _base_torch()]
        files = [("-r", f"requirements/{name}.txt") for name in ("runtime", "search", "tests")]
        yield [*install, "setuptools<82", "wheel", "pybind11", *(x for pair in files for x in pair)]
        yield [*install, "--no-deps", "--no-build-isolation", "-e", "."]
        yield [sys.executable, "-m", "pip", "--python", python, "check"]
        yield [*install, "--no-deps", "-r", "requirements/judges.txt"]  # they ask for old packages
        return
    if one.front:  # before the layer: a build must not meet what lies below
        yield [*install, "--no-deps", *one.front]
    yield [python, "-c", LAYER.format(folder=sysconfig.get_path("purelib"))]
    if one.compiled:
        yield [*install, "--no-deps", "--no-build-isolation", *one.compiled]
    if one.more:
        yield [*install, "--ignore-installed", *one.more]


def _base_torch() -> str:
    """Name the torch of the environment that runs this, without its build."""
    import torch

    return f"torch=={torch.__version__.partition('+')[0]}"


def megabytes_to_fetch(one: Set) -> float:
    """Ask how much of the heavy packages of a set comes from an index.

    Args:
        one (Set): Only torch and what it brings are looked at.

    Returns:
        float: Megabytes; files of this machine count nothing.

    Raises:
        Failure: If the index has no such package.
    """
    wanted = [_base_torch()] if one.python else [r for r in one.more if r.startswith("torch")]
    if not wanted:
        return 0.0
    command = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed"]
    with tempfile.TemporaryDirectory() as unused:
        if one.python:
            command += ["--python-version", one.python, "--only-binary", ":all:"]
            command += ["--target", unused]
        command += ["--report", "-", *wanted]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise cli.Failure(f"the index has no {' '.join(wanted)}: {done.stderr.strip()[-300:]}")
    report = json.loads(done.stdout[done.stdout.index("{") :])
    urls = [entry["download_info"]["url"] for entry in report["install"]]
    heavy = [url for url in urls if re.match(r"torch|nvidia|triton|cuda", url.rpartition("/")[2])]
    return sum(_size(url) for url in heavy if not url.startswith("file:")) / 1e6


def _size(url: str) -> int:
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - pip named it
    with urllib.request.urlopen(request, context=context, timeout=60) as answer:  # noqa: S310
        return int(answer.headers["Content-Length"])


def why_left_out(one: Set, most: float) -> str:
    """Say why a set cannot be tried here; empty if it can.

    Args:
        one (Set): What to try.
        most (float): Megabytes that may be fetched.
    """
    if one.python and find_python(one.python) is None:
        return f"this machine has no Python {one.python}"
    try:
        size = megabytes_to_fetch(one)
    except cli.Failure as error:
        return str(error)
    return f"{size:.0f} MB to fetch, more than --max-download {most:.0f}" if size > most else ""


# ---- running ------------------------------------------------------------------------------------


def steps_of(one: Set, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the steps of a set.

    Args:
        one (Set): What to try.
        folder (Path): Receives what the steps say.

    Yields:
        tuple[str, list[str]]: Name, which begins with the column's, and command line.
    """
    env = folder / "env"
    python = sys.executable
    if one.name != "pinned":
        python = str(env / "bin" / "python")
        for number, command in enumerate(install_commands(one, env), 1):
            yield f"install-{number}", command
    yield "import", [python, "-c", IMPORT, str(folder / "import.json")]
    yield "smoke", [python, *PYTEST, *SMOKE]
    yield "parity", [python, *PYTEST, *PARITY]


def run_set(
    steps: Sequence[tuple[str, list[str]]],
    folder: Path,
    known: Mapping[str, Mapping[str, Any]],
    limits: Mapping[str, float] = LIMITS,
) -> Iterator[Outcome]:
    """Run the steps that have no outcome yet.

    What is installed is installed again if a later step has none: the environment may be half
    made, or deleted. After an installation or import that failed nothing more is tried.

    Args:
        steps (Sequence): Names and command lines.
        folder (Path): Receives what they say.
        known (Mapping): Outcomes of a run before, by step.
        limits (Mapping): Seconds by column.

    Yields:
        Outcome: Of each step that ran, when it is over.
    """
    if all(name in known for name, _ in steps):
        return
    folder.mkdir(parents=True, exist_ok=True)
    usable = True
    for name, command in steps:
        column = name.partition("-")[0]
        if not usable:
            yield Outcome(name, "skipped", 0.0, "what comes before failed", [])
        elif column == "install" or name not in known:
            done = run_part(name, command, folder, limits[column], ROOT)
            if done.status == "passed" and column in ("smoke", "parity"):
                done = done._replace(words=_counts((folder / f"{name}.log").read_text("utf-8")))
            yield done
            usable = done.status == "passed" or column in ("smoke", "parity")


def _counts(log: str) -> str:
    """Take the numbers of the last line of a test run."""
    lines = log.strip().splitlines()
    return ", ".join(_COUNTS.findall(lines[-1])) if lines else ""


def _key(one: Set) -> str:
    """Tell a set from an earlier one of its name."""
    return json.dumps([list(one), SMOKE, PARITY])


# ---- table --------------------------------------------------------------------------------------


def to_markdown(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Lay the outcomes out as a table.

    Args:
        results (Mapping): By set: ``says``, ``date``, ``commit``, ``left_out`` and ``steps``.

    Returns:
        str: Markdown.
    """
    columns = ("set", "what differs", *VERSIONS, *LIMITS, "date", "commit")
    rows = [columns, ("---",) * len(columns)]
    for name, found in results.items():
        versions = _versions(found["steps"])
        rows.append(
            (
                f"`{name}`",
                found["says"],
                *(str(versions.get(one, "—")) for one in VERSIONS),
                *(_cell(found, column) for column in LIMITS),
                found["date"],
                found["commit"],
            )
        )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _versions(steps: Mapping[str, Mapping[str, Any]]) -> Mapping[str, str]:
    figures = steps.get("import", {}).get("figures", [])
    return figures[0] if figures else {}


def _cell(found: Mapping[str, Any], column: str) -> str:
    """Say how the steps of a column went, by the first that did not pass."""
    if found["left_out"]:
        return f"not tried: {found['left_out']}" if column == "install" else "—"
    steps = [step for name, step in found["steps"].items() if name.partition("-")[0] == column]
    if not steps:
        return "—"
    bad = [step for step in steps if step["status"] != "passed"]
    if not bad:
        return steps[0]["words"] or "passed"
    counts = _counts(bad[0]["words"])
    return f"**{bad[0]['status']}**" + (f" ({counts})" if counts else "")


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    )
    return done.stdout.strip() or "—"


# ---- command ------------------------------------------------------------------------------------


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.add("sets", nargs="*", metavar="SET", help="what to try (default: all that are not big)")
    parser.add("--big", action="store_true", help="also sets of many minutes or gigabytes")
    parser.add("--list", action="store_true", help="name the sets")
    parser.add("--again", action="store_true", help="forget the outcomes of the sets")
    parser.add("--keep", action="store_true", help="keep the environments")
    parser.add(
        "--max-download",
        type=cli.at_least(0),
        default=500,
        metavar="MB",
        help="leave sets out whose torch is more to fetch (default: %(default)s)",
    )
    parser.take("work_dir", default="work_dirs/test_matrix", help="folder of the results")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Try the sets; write results.json and table.md after each step.

    Raises:
        UsageError: If a set is unknown.
        Failure: If a step did not pass.
    """
    if args.list:
        yield from (f"{one.name:14} {'big  ' if one.big else '     '}{one.says}" for one in SETS)
        return
    # Its default ends this process alone, and a step of minutes would go on without it.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield from _run(args)
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(args: argparse.Namespace) -> Iterator[str]:
    folder = (ROOT / args.work_dir).resolve()
    results = _read(folder)
    chosen = _choose(args.sets, args.big)
    for one in chosen:
        found = results.get(one.name, {})
        if args.again or found.get("key") != _key(one) or found.get("left_out"):
            found = {}
        found = results[one.name] = {
            "key": _key(one),
            "says": one.says,
            "left_out": "",
            "steps": {},
            "date": "",
            "commit": "",
            **found,
        }
        yield from _try(one, folder, results, found, args)
    yield f"table: {folder / 'table.md'}"
    bad = [one.name for one in chosen if _failed(results[one.name])]
    if bad:
        raise cli.Failure(f"did not pass: {', '.join(bad)}")


def _choose(names: Sequence[str], big: bool) -> list[Set]:
    known = {one.name for one in SETS}
    if unknown := set(names) - known:
        raise cli.UsageError(
            f"there is no set {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}"
        )
    return [one for one in SETS if (one.name in names if names else big or not one.big)]


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / "results.json"
    return dict(read_json(path)) if path.exists() else {}


def _try(
    one: Set,
    folder: Path,
    results: Mapping[str, Mapping[str, Any]],
    found: dict[str, Any],
    args: argparse.Namespace,
) -> Iterator[str]:
    """Try one set; what it says is a line a step."""
    place = folder / one.name
    known = dict(found["steps"])
    if not known:
        found["left_out"] = why_left_out(one, args.max_download)
    if found["left_out"]:
        found.update(date=time.strftime("%Y-%m-%d"), commit=_commit())
        _write(folder, results)
        yield f"{one.name:14} not tried: {found['left_out']}"
        return
    steps = list(steps_of(one, place))
    for outcome in run_set(steps, place, known):
        found["steps"][outcome.part] = outcome._asdict()
        found.update(date=time.strftime("%Y-%m-%d"), commit=_commit())
        _write(folder, results)
        yield f"{one.name:14} {outcome.part:10} {outcome.status:8} {outcome.seconds:6.1f} s"
        if outcome.status not in ("passed", "skipped"):
            yield outcome.words
    if known and known.keys() == found["steps"].keys() == {name for name, _ in steps}:
        yield f"{one.name:14} done before, on {found['date']}"
    if not args.keep:
        shutil.rmtree(place / "env", ignore_errors=True)


def _failed(found: Mapping[str, Any]) -> bool:
    return any(step["status"] != "passed" for step in found["steps"].values())


def _write(folder: Path, results: Mapping[str, Mapping[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    order = {one.name: number for number, one in enumerate(SETS)}
    kept = {name: results[name] for name in sorted(results, key=lambda n: order.get(n, 99))}
    write_json(folder / "results.json", kept, indent=1)
    (folder / "table.md").write_text(to_markdown(kept), "utf-8")


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
