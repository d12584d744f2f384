"""The one way a command reads its arguments, shows progress, reports an error and exits.

A command, a module below ``commands/``, is two functions: ``build_parser()``, which says what it
takes, and ``run(args)``, which does the work and yields the lines to print;
``main = cli.Command(build_parser, run)`` joins them. What ``run`` needs it imports itself, so that
``--help`` and wrong arguments are answered at once.

Exit status: 0 done, 1 something went wrong, 2 wrong arguments, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import difflib
import os
import shlex
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

from .utils import jobs, write_json
from .utils.cfg_options import ConfigOptions
from .utils.files import refuse_overwriting

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn

Item = TypeVar("Item")

DONE, FAILED, WRONG_ARGUMENTS, STOPPED = 0, 1, 2, 130
LOG_LEVELS = ("debug", "info", "warning", "error")
RESUME_NOTE = (
    "A run that was stopped goes on where it was: what was made from the same sources with the "
    "same\noptions stays. The result does not depend on --nproc."
)
_PACKAGE = Path(__file__).resolve().parent


class UsageError(Exception):
    """Arguments that are wrong together, or for what they name; the exit status is 2."""


class Failure(Exception):  # noqa: N818 - no fault of the program
    """The work is done, and its outcome is a failure; the exit status is 1."""


def at_least(least: float, kind: type[int] | type[float] = int) -> Callable[[str], Any]:
    """Make an argparse type for numbers that are not below a bound."""

    def read(text: str) -> int | float:
        try:
            number = kind(text)
        except ValueError:
            number = kind(least) - 1
        if not number >= least:
            noun = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"must be a {noun} of at least {least}, got {text!r}")
        return number

    return read


def table_file(text: str) -> Path:
    """Read the name of a table; an argparse type."""
    if Path(text).suffix not in (".csv", ".json"):
        raise argparse.ArgumentTypeError(f"must end in .csv or .json, got {text}")
    return Path(text)


def _argument(flag: str, text: str, **settings: Any) -> tuple[str, dict[str, Any]]:
    return flag, {"help": text, **settings}


COMMON = {
    "config": _argument(
        "config", "config file, name of a shipped config, or folder of a run", metavar="CONFIG"
    ),
    "checkpoint": _argument(
        "checkpoint",
        "weights; of a run's folder its best checkpoint, else its newest (default: those of the "
        "run that CONFIG is the folder of)",
        metavar="CHECKPOINT",
        nargs="?",
    ),
    "cfg_options": _argument(
        "--cfg-options",
        "replace settings of the config: a.b=3 list='[1,2]' name=text",
        nargs="+",
        action=ConfigOptions,
        metavar="KEY=VALUE",
    ),
    "device": _argument("--device", "cpu, cuda, cuda:N (default: cuda if there is one)"),
    "trust": _argument(
        "--trust",
        "admit bookkeeping classes of mmengine, mmdet and mmsegmentation in checkpoints",
        action="store_true",
    ),
    "json": _argument("--json", "write the figures as JSON", type=Path, metavar="FILE"),
    "per_image": _argument(
        "--per-image",
        "write one row per image; .csv or .json by the name",
        type=table_file,
        metavar="FILE",
    ),
    "nproc": _argument(
        "--nproc",
        "processes (default: the CPUs this process may use, %(default)s here)",
        type=at_least(1),
        default=jobs.usable_cpus(),
        metavar="N",
    ),
    "threads": _argument(
        "--threads",
        "threads of PyTorch and OpenCV (default: as they are)",
        type=at_least(1),
        metavar="N",
    ),
    "palette": _argument(
        "--palette", "colours of segments", choices=("classes", "colorblind"), default="classes"
    ),
    "size": _argument(
        "--size", "of the network's input", nargs=2, type=at_least(1), metavar=("H", "W")
    ),
    "batch_size": _argument(
        "--batch-size", "images at once (default %(default)s)", type=at_least(1), default=1
    ),
    "work_dir": _argument(
        "--work-dir", "folder for logs and checkpoints (default work_dirs/NAME_OF_CONFIG)"
    ),
    "launcher": _argument(
        "--launcher",
        "set by dist_*.sh and slurm_*.sh",
        choices=("none", "pytorch", "slurm", "mpi"),
        default="none",
    ),
    "source": _argument("source", "published weights (.pkl or .pth)", metavar="SOURCE"),
    "weights_out": _argument("out", "the .pth file to write", metavar="OUT"),
    "drop": _argument(
        "--drop",
        "drop tensors whose names begin like this; each is listed",
        nargs="+",
        default=[],
        metavar="REGEX",
    ),
    "variant": _argument(
        "--config", "config of the same variant: a file or a shipped name", required=True
    ),
    "new_classes": _argument(
        "--new-classes",
        "the config has other classes: leave out what depends on them (fine-tuning)",
        action="store_true",
    ),
    "to_published": _argument(
        "--to-published", "the other way: SOURCE is ours", action="store_true"
    ),
    "verbose": _argument(
        "--verbose",
        "show everything that goes to the log file, too: config, environment, hooks, every line",
        action="store_true",
    ),
    # torch.distributed.launch passes one of them; torchrun sets the variable instead.
    "local_rank": _argument("--local_rank", argparse.SUPPRESS, type=int),
    "local-rank": _argument("--local-rank", argparse.SUPPRESS, type=int),
}
"""Arguments that mean the same in every tool: name and settings, see :meth:`Parser.take`."""
RUN_ARGUMENTS = (
    *("work_dir", "cfg_options", "launcher", "trust", "verbose"),
    *("local_rank", "local-rank"),
)
"""What a tool with a runner takes, see :func:`read_run_config`."""
CONVERSION_ARGUMENTS = (
    *("source", "weights_out", "variant", "drop", "new_classes"),
    *("to_published", "cfg_options"),
)
"""What a converter of whole models takes."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with what every tool takes.

    Args:
        description (str | None): The tool's docstring.
        examples (str): Lines for the end of ``--help``; ``%(prog)s`` is the program.
        resumes (bool): The same command goes on where it was stopped.
        timed (bool): Print how long the work took.
    """

    def __init__(
        self, description: str | None, examples: str, resumes: bool = False, timed: bool = False
    ) -> None:
        epilog = f"examples:\n{examples.strip(chr(10))}" + (f"\n\n{RESUME_NOTE}" * resumes)
        super().__init__(
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.resumes = resumes
        self.timed = timed or resumes
        self.renamed: dict[str, str] = {}
        group = self.add_argument_group("every tool")
        group.add_argument("--log-level", choices=LOG_LEVELS, help="least urgent message to show")
        group.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def add(self, name: str, *more: str, old: Sequence[str] = (), **settings: Any) -> None:
        """Add an argument.

        Args:
            name (str): Its name.
            *more (str): Other names that are shown.
            old (Sequence[str]): Names of the last version, which work for one more.
            **settings: Of ``add_argument``.
        """
        action = self.add_argument(name, *more, *old, **settings)
        if old:
            action.option_strings = [name, *more]  # what is shown; all are parsed
            self.renamed.update(dict.fromkeys(old, name))

    def take(self, *names: str, old: Sequence[str] = (), **changes: Any) -> None:
        """Add arguments of :data:`COMMON`.

        Args:
            *names (str): Their names.
            old (Sequence[str]): See :meth:`add`.
            **changes: Settings to replace.
        """
        for name in names:
            flag, settings = COMMON[name]
            self.add(flag, old=old, **{**settings, **changes})

    def error(self, message: str) -> NoReturn:
        """Exit with one line."""
        self.exit(WRONG_ARGUMENTS, f"error: {message}; {self.prog} --help explains\n")


def parse(parser: Parser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; an unknown option is answered with the nearest known one.

    Raises:
        SystemExit: With status 2 if the arguments are wrong, 0 after ``--help``.
    """
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        known = [name for name in parser._option_string_actions if name not in parser.renamed]
        near = difflib.get_close_matches(unknown[0].partition("=")[0], known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        parser.error(f"unknown argument {unknown[0]}{hint}")
    for word in sys.argv[1:] if argv is None else argv:
        name = word.partition("=")[0]
        if name in parser.renamed:
            _say(f"warning: {name} is called {parser.renamed[name]} now")
    return args


def main(
    parser: Parser,
    run: Callable[[argparse.Namespace], Iterable[object] | None],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse, work, print; turn whatever happens into a line and an exit status.

    Args:
        parser (Parser): The tool's.
        run (Callable): The work; returns, or yields as they come, the lines to print.
        argv (Sequence[str] | None): Arguments; those of the process by default.

    Returns:
        int: The exit status.
    """
    try:
        args = parse(parser, argv)
    except SystemExit as stop:
        return _status(stop)

    def work() -> None:
        start = time.perf_counter()
        with _console(args):
            _keep_inputs(parser, args)
            for line in run(args) or ():
                show(str(line))
            if parser.timed:
                show(f"took {time.perf_counter() - start:.1f} s")

    return run_command(work, f"; {parser.prog} --help explains", parser.resumes, args.debug)


_WRITTEN = frozenset(
    ("--json", "--report", "--per-image", "--out", "--fix", "--relations", "--pickle")
)
"""Options that name a file to write."""


def _keep_inputs(parser: Parser, args: argparse.Namespace) -> None:
    """Refuse to write a file over one that the same command reads.

    Raises:
        ValueError: Naming the file.
    """
    read: list[str | Path] = []
    written: list[str | Path] = []
    for action in parser._actions:
        value = getattr(args, action.dest, None)
        values = value if isinstance(value, list | tuple) else [value]
        paths = [v for v in values if isinstance(v, str | Path)]
        if _WRITTEN.isdisjoint(action.option_strings):
            paths += [v.partition("=")[2] for v in paths if isinstance(v, str)]  # NAME=FILE
            read += [path for path in paths if os.path.isfile(path)]
        else:
            written += paths
    refuse_overwriting(read, written)


def run_command(
    work: Callable[[], object], help_text: str = "", resumes: bool = False, debug: bool = False
) -> int:
    """Work; turn whatever happens into a line and an exit status.

    Several processes end together.

    Args:
        work (Callable): What to do.
        help_text (str): Follows the message about wrong arguments.
        resumes (bool): The same command goes on where it was stopped.
        debug (bool): Show the traceback of an error.

    Returns:
        int: The exit status.
    """
    try:
        work()
        _end_together()
    except UsageError as error:
        _say(f"error: {error}{help_text}")
        return WRONG_ARGUMENTS
    except KeyboardInterrupt:
        _say("stopped" + "; the same command goes on where it was" * resumes)
        return STOPPED
    except SystemExit as stop:
        return _status(stop)
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        _say(f"error: {_describe(error, debug)}")
        return FAILED
    return DONE


class Command(NamedTuple):
    """A tool that can be called with its arguments.

    Attributes:
        build_parser (Callable): Says what it takes.
        run (Callable): Does the work, see :func:`main`.
    """

    build_parser: Callable[[], Parser]
    run: Callable[[argparse.Namespace], Iterable[object] | None]

    def __call__(self, argv: Sequence[str] | None = None, prog: str | None = None) -> int:
        """Run.

        Args:
            argv (Sequence[str] | None): Arguments; those of the process by default.
            prog (str | None): Name of the program in its help; the script's by default.

        Returns:
            int: The exit status.
        """
        parser = self.build_parser()
        parser.prog = prog or parser.prog
        return main(parser, self.run, argv)


def _describe(error: Exception, debug: bool) -> str:
    """Say what went wrong; an error that nobody foresaw keeps its traceback in a file."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    text = str(error) or type(error).__name__
    if debug or _is_foreseen(error):
        return text
    handle, name = tempfile.mkstemp("-error.txt", "mmpanoptic-")
    with open(handle, "w", encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    line = text.splitlines()[0]
    return f"{type(error).__name__}: {line} (not foreseen; --debug shows the traceback in {name})"


def _is_foreseen(error: Exception) -> bool:
    """Tell errors that our code raises with a message for the user from faults of the program."""
    if isinstance(error, Failure | OSError | ImportError | SyntaxError | MemoryError):
        return True
    if type(error).__module__.startswith("mmpanoptic."):
        return True
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    ours = (_PACKAGE, _PACKAGE.parent / "tools")
    # The pool of utils.jobs raises again what a worker raised.
    raised_by_us = last.startswith(tuple(map(str, ours))) or "concurrent" in Path(last).parts
    return isinstance(error, ValueError | RuntimeError) and raised_by_us


def track(items: Iterable[Item], label: str, total: int | None = None) -> Iterable[Item]:
    """Show on the standard error how far a loop is, with its label and number of items."""
    from rich.console import Console
    from rich.progress import track as show

    return show(items, label, total, console=Console(stderr=True))


def complete_model(args: argparse.Namespace) -> None:
    """Put the run's weights where ``config`` is a run's folder, and say which they are.

    Raises:
        UsageError: If the weights are not named.
    """
    from .apis import find_config
    from .apis.configs import differing_settings
    from .apis.model import find_weights
    from .checkpoints.shipped_models import get_shipped_model, is_shipped_model

    if args.checkpoint is None and is_shipped_model(args.config):
        _say((model := get_shipped_model(args.config)).describe())
        args.checkpoint = str(model.weights)
        return
    if args.checkpoint is None and not Path(args.config).expanduser().is_dir():
        raise UsageError(
            f"the weights are missing: behind the config {args.config} stands a CHECKPOINT; the "
            "folder of a run stands for both"
        )
    folder = args.config if args.checkpoint is None else args.checkpoint
    chosen = find_weights(args.config, args.checkpoint)
    if Path(folder).expanduser().is_dir():
        _say(f"model: {find_config(args.config)} with {chosen}")
        mixed = folder is args.checkpoint
        if mixed and (other := differing_settings(read_config(args), folder)):
            _show_warning(
                f"the config is not the one of the run {folder}: {', '.join(other[:4])} "
                f"{'and more ' * (len(other) > 4)}differ; {folder} alone stands for both"
            )
    args.checkpoint = str(chosen)


def read_config(args: argparse.Namespace) -> Config:
    """Read the config that the arguments name and apply ``--cfg-options``."""
    from .apis import get_config

    return get_config(args.config, args.cfg_options)


def read_run_config(args: argparse.Namespace) -> Config:
    """Read a config and apply :data:`RUN_ARGUMENTS`; its placeholders are not filled in yet."""
    if args.local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    cfg = read_config(args)
    cfg.launcher = args.launcher
    cfg.setdefault("runner_type", "PanopticRunner")
    cfg.setdefault("default_scope", "mmpanoptic")
    cfg.trust_checkpoint = args.trust
    if args.log_level:
        cfg.log_level = args.log_level.upper()
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif Path(args.config).is_dir():
        cfg.work_dir = args.config  # the run's, which may have been moved since
    elif not cfg.get("work_dir"):
        cfg.work_dir = os.path.join("work_dirs", Path(cfg.filename).stem)
    return cfg


@contextmanager
def run_console(args: argparse.Namespace) -> Iterator[None]:
    """Let the runners of this block tell their progress only, unless ``--verbose`` is there."""
    from .engine.console import quiet_console

    quiet = not (args.verbose or args.log_level)
    given = {**(args.cfg_options or {})} if quiet else {}
    if given.keys() - {"data_root"}:
        _say(f"with {' '.join(f'{name}={value}' for name, value in given.items())}")
    with quiet_console(_progress) if quiet else nullcontext():
        yield


def _progress(line: str, stays: bool) -> None:
    """Show a line; on a terminal, the next one replaces one that does not stay."""
    if sys.stderr.isatty():
        _say(f"\r\x1b[K{line}", end="\n" * stays)
    elif stays:
        _say(line)


def load_model(
    args: argparse.Namespace, device: str | None = None, may_be_random: bool = False
) -> nn.Module:
    """Build the model of ``config``, ``cfg_options``, ``checkpoint``, ``device`` and ``trust``."""
    from .apis import init_model

    given = vars(args)
    if "checkpoint" in given and not (may_be_random and args.checkpoint is None):
        complete_model(args)
    return init_model(
        args.config,
        given.get("checkpoint"),
        device or given.get("device"),
        given.get("cfg_options"),
        given.get("trust", False),
    )


def save_json(args: argparse.Namespace, content: Any) -> None:
    """Write figures where ``--json`` says, if it says so."""
    if args.json is not None:
        write_json(args.json, content, indent=1)


def tools_folder() -> Path:
    """Return the folder of the scripts: in the wheel, or in the clone."""
    found = [root / "tools" for root in (_PACKAGE / ".mim", _PACKAGE.parent)]
    return next((path for path in found if path.is_dir()), found[-1])


def call_tool(
    name: str, *arguments: object, folder: Path | None = None, silent: bool = False
) -> float:
    """Run another tool in a process of its own; return its seconds.

    Args:
        name (str): Its path below ``tools``.
        *arguments: Its arguments.
        folder (Path | None): Where it runs; here by default.
        silent (bool): Leave out what it prints; errors and progress stay.

    Raises:
        Failure: If it fails.
    """
    import subprocess

    command = [sys.executable, str(tools_folder() / name), *map(str, arguments)]
    _say(f"== {shlex.join(command)}")
    start = time.perf_counter()
    out = subprocess.DEVNULL if silent else None
    if subprocess.run(command, cwd=folder, stdout=out).returncode:  # noqa: S603 - our own tools
        raise Failure(f"{name} failed; its message stands above")
    return time.perf_counter() - start


@contextmanager
def _console(args: argparse.Namespace) -> Iterator[None]:
    """Give warnings one line each, jobs a progress bar and loggers their level."""
    if getattr(args, "threads", None):
        _set_threads(args.threads)
    with warnings.catch_warnings(), jobs.shown_by(track), _logging(args.log_level):
        warnings.showwarning = _show_warning
        if args.log_level == "error":
            warnings.simplefilter("ignore")
        yield


@contextmanager
def _logging(level: str | None) -> Iterator[None]:
    """Give mmengine's logger a level, and its own back in the end."""
    if level is None:
        yield
        return
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    before = logger.level
    logger.setLevel(level.upper())
    try:
        yield
    finally:
        logger.setLevel(before)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _say(f"warning: {message}")


def _set_threads(number: int) -> None:
    """Bound the threads of OpenMP, BLAS, PyTorch and OpenCV, before they are imported."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(number)
    import cv2
    import torch

    cv2.setNumThreads(number)
    torch.set_num_threads(number)


def _end_together() -> None:
    """Let the processes of a run end at once."""
    if "torch.distributed" in sys.modules:
        from .engine.distributed import close_process_group

        close_process_group()


def _status(stop: SystemExit) -> int:
    if not isinstance(stop.code, str):
        return int(stop.code or DONE)
    _say(stop.code)
    return FAILED


def show(text: str) -> None:
    """Print a text on the standard output."""
    print(text, flush=True)  # noqa: T201


def _say(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)  # noqa: T201
