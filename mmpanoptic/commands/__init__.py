"""``mmpanoptic COMMAND``: one door to the commands, each of them a module of this folder.

A script below ``tools/`` is a door to the module of the same path here. A module is imported when
its command is called, so that ``mmpanoptic --help`` is answered at once.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from mmpanoptic import cli

COMMANDS = {
    "train": ("train", "train a model"),
    "test": ("test", "test a checkpoint: tables of the config's metrics"),
    "tune": ("tune", "tune learning rate, loss weights, thresholds of a config"),
    "infer": ("infer", "segment images, folders, videos or what a camera sees"),
    "serve": ("serve", "try a model in the browser, or ask it by JSON"),
    "report": ("analysis_tools.report", "report the errors of predictions as a page, and why"),
    "check": ("dataset_converters.check", "check a dataset in COCO-panoptic format"),
    "export": ("export_onnx", "export the network to ONNX"),
    "weights": ("weights", "list, explain, fetch and verify published weights"),
    "info": ("info", "say what is installed, or what a config or the folder of a run is"),
}
"""Module and meaning by command."""
GROUPS = {
    "convert": (("dataset_converters", "model_converters"), "convert a dataset, or weights"),
    "eval": (("analysis_tools",), "evaluate predictions in files"),
    "analyse": (("analysis_tools",), "measure, draw and look: tools/analysis_tools"),
    "search": (("search",), "after an architecture search: choose, describe, measure"),
}
"""Folders and meaning by command with a second word."""
_EVALUATION = "eval_"


def members(group: str) -> dict[str, str]:
    """List the second words of a group.

    Args:
        group (str): Key of :data:`GROUPS`.

    Returns:
        dict[str, str]: Module by word.
    """
    found = {}
    for folder in GROUPS[group][0]:
        for path in sorted((Path(__file__).parent / folder).glob("[a-z]*.py")):
            is_evaluation = path.stem.startswith(_EVALUATION)
            module = f"{folder}.{path.stem}"
            if module == COMMANDS["check"][0] or is_evaluation != (group == "eval"):
                continue
            found[path.stem.removeprefix(_EVALUATION)] = module
    return found


def find(words: Sequence[str]) -> tuple[str, int]:
    """Find the module that the first words name.

    Args:
        words (Sequence[str]): Of the command line, behind ``mmpanoptic``.

    Returns:
        tuple[str, int]: The module below this folder, and how many words name it.

    Raises:
        UsageError: If there is none; with the nearest name.
    """
    if words[0] in COMMANDS:
        return COMMANDS[words[0]][0], 1
    if words[0] not in GROUPS:
        raise cli.UsageError(_unknown("command", words[0], [*COMMANDS, *GROUPS]))
    choices = members(words[0])
    if len(words) < 2 or words[1].startswith("-"):
        raise cli.UsageError(f"{words[0]} what? one of: {', '.join(choices)}")
    name = words[1].removesuffix(".py")
    if name not in choices:
        raise cli.UsageError(_unknown(f"{words[0]} command", words[1], list(choices)))
    return choices[name], 2


def _unknown(kind: str, word: str, choices: list[str]) -> str:
    near = difflib.get_close_matches(word, choices, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(choices)}"
    return f"unknown {kind} {word!r}; {hint}"


def overview() -> str:
    """Say what there is."""
    lines = ["usage: mmpanoptic COMMAND ...", "", "Panoptic segmentation toolbox.", "", "commands:"]
    lines += [f"  {name:8} {meaning}" for name, (_, meaning) in COMMANDS.items()]
    for name, (_, meaning) in GROUPS.items():
        lines += [f"  {name:8} {meaning}:", f"           {', '.join(members(name))}"]
    return "\n".join([*lines, "", "mmpanoptic COMMAND --help says more; --version the version."])


def _answer(words: Sequence[str]) -> str | None:
    """Answer words that only ask."""
    if not words or words[0] in ("-h", "--help", "help"):
        return overview()
    if words[0] == "--version":
        from mmpanoptic.version import __version__

        return f"mmpanoptic {__version__}"
    if words[0] in GROUPS and list(words[1:]) in (["-h"], ["--help"]):
        return f"usage: mmpanoptic {words[0]} NAME ...\n\nnames: {', '.join(members(words[0]))}"
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Call a command.

    Args:
        argv (Sequence[str] | None): The words behind ``mmpanoptic``; of the process by default.

    Returns:
        int: The exit status.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    text = _answer(words)
    if text is not None:
        cli.show(text)
        return cli.DONE if words else cli.WRONG_ARGUMENTS
    found: list[tuple[str, int]] = []
    status = cli.run_command(lambda: found.append(find(words)), "; mmpanoptic --help explains")
    if status != cli.DONE:
        return status
    module, count = found[0]
    command: cli.Command = import_module(f".{module}", __name__).main
    return command(words[count:], " ".join(["mmpanoptic", *words[:count]]))
