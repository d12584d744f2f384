"""Every command of the documentation and of the tools' help: its tool and its config take it."""

import re
import shlex
from importlib import import_module
from itertools import chain

import pytest

from mmpanoptic import cli, commands
from mmpanoptic.apis import get_config

from .test_docs import PAGES, ROOT
from .tools.load_tool import load_tool
from .tools.test_all_tools import NAMES

CODE_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
COMMAND = re.compile(
    r"(?:[A-Z_]+=\S+ )*(?:python tools/|mmpanoptic [a-z]|tools/\S+\.sh\b|make [a-z])"
)
SCRIPTS = {
    "tools/dist_train.sh": ("train.py", ["config", "processes"]),
    "tools/dist_test.sh": ("test.py", ["config", "checkpoint", "processes"]),
    "tools/slurm_train.sh": ("train.py", ["partition", "job", "config", "work_dir"]),
    "tools/slurm_test.sh": ("test.py", ["partition", "job", "config", "checkpoint"]),
}
SHIPPED = re.compile(r"_\d+xb\d+-")
TOOL_ALONE = "[arguments]"
"""Stands for the arguments where a page names no more than the tool."""
ENDS = ("|", "&&", ";", ">", "&")


def commands_of(text):
    """Commands in the code of a page: lines of blocks, and code in a line of text."""
    blocks = [match[2] for match in CODE_BLOCK.finditer(text)]
    for block in blocks:
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            line = line.strip().removeprefix("$ ")
            if COMMAND.match(line):
                yield line
    for match in CODE.finditer(CODE_BLOCK.sub("", text)):
        if COMMAND.match(match[1]) and " " in match[1]:
            yield match[1]


def meant_by(command):
    """Commands that a line with ``[optional]`` or ``{one,other,...}`` parts stands for."""
    command = re.sub(r"\[(--[^]]*)\]", r"\1", command)
    several = re.search(r"\{([\w,]+?)(?:,\.\.\.)?\}(?=\.py)", command)
    if several is None:
        return [command]
    return [f"{command.replace(several[0], name)} {TOOL_ALONE}" for name in several[1].split(",")]


def documented():
    for page in PAGES:
        commands = map(meant_by, commands_of(page.read_text(encoding="utf-8")))
        for command in dict.fromkeys(chain.from_iterable(commands)):
            yield pytest.param(command, id=f"{page.relative_to(ROOT)}: {command}")
    for name in NAMES:
        parser = load_tool(name).build_parser()
        examples = parser.epilog.partition("examples:\n")[2].partition("\n\n")[0]
        for line in re.sub(r"\\\n\s*", " ", examples).splitlines():
            command = line.strip().replace("%(prog)s", f"python tools/{name}").replace("%%", "%")
            if COMMAND.match(command):
                yield pytest.param(command, id=f"{name} --help: {command}")


def words_of(command):
    """Split a command as a shell does, up to a pipe or the next command; without variables."""
    words = shlex.split(command, comments=True)
    for number, word in enumerate(words):
        if word in ENDS or word.endswith(";"):
            words = [*words[:number], *([word[:-1]] if word.endswith(";") and word != ";" else [])]
            break
    while re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    return words


def tool_of(words):
    """Name of the Python tool and its arguments."""
    if words[0] == "mmpanoptic":
        module, count = commands.find(words[1:])
        return f"{module.replace('.', '/')}.py", words[1 + count :]
    if words[0] == "python":
        return words[1].removeprefix("tools/"), words[2:]
    assert words[0] in SCRIPTS, f"{words[0]} is no script of ours"
    assert (ROOT / words[0]).is_file()
    name, positional = SCRIPTS[words[0]]
    given = dict(zip(positional, words[1:], strict=False))
    assert len(given) == len(positional), f"{words[0]} takes {' '.join(positional)}"
    assert given.get("processes", "8").isdecimal() or given["processes"].isupper()
    kept = [value for name, value in given.items() if name in ("config", "checkpoint")]
    rest = words[1 + len(positional) :]
    if name == "train.py" and "--max-restarts" in rest:  # of the script, tools/dev/launch.py
        place = rest.index("--max-restarts")
        assert rest[place + 1].isdecimal()
        rest = rest[:place] + rest[place + 2 :]
    return name, [*kept, *rest]


def is_readers_own(config):
    """Whether a name stands for a config of the reader's, or of a run's folder."""
    return not (config.startswith("configs/") or SHIPPED.search(config))


def command_module(name):
    """Module of a command, which need not have a script."""
    return import_module("mmpanoptic.commands." + name.removesuffix(".py").replace("/", "."))


@pytest.mark.parametrize("command", documented())
def test_a_documented_command_is_accepted(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert "   " not in re.split(r"\s+#", command)[0], "a comment begins with #"
    words = words_of(command)
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text()
        assert all(re.search(rf"^{t}:", makefile, re.MULTILINE) for t in words[1:] if "=" not in t)
        return
    name, arguments = tool_of(words)
    tool = command_module(name) if words[0] == "mmpanoptic" else load_tool(name)
    named_alone = words[0] == "mmpanoptic" and not arguments
    if named_alone or arguments in ([TOOL_ALONE], ["--help"]):
        return
    args = cli.parse(tool.build_parser(), arguments)
    config = getattr(args, "config", None)
    assert config is None or not str(config).endswith((".pth", ".pkl")), "weights for a config"
    assert config is None or "://" not in str(config), "an address for a config"
    inputs = getattr(args, "inputs", None) or ()
    assert all(is_readers_own(str(word)) for word in inputs), "a config among the inputs"
    if isinstance(config, str) and not is_readers_own(config):
        get_config(config, getattr(args, "cfg_options", None))
