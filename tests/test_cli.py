import argparse
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from mmpanoptic import cli
from mmpanoptic.utils import jobs
from mmpanoptic.utils.format_errors import format_error

from .test_import_graph import loaded_after


def parser_of(*names, **settings):
    parser = cli.Parser("Do something.", "\n  %(prog)s x", **settings)
    parser.take(*names)
    return parser


def status_of(run, *argv, parser=None):
    return cli.main(parser or parser_of(), run, argv)


def fail_with(error):
    def run(args):
        yield "before"
        raise error

    return run


def test_the_lines_of_the_work_are_printed_as_they_come(capsys):
    assert status_of(lambda args: iter(["one", 2])) == 0
    assert capsys.readouterr().out == "one\n2\n"
    assert status_of(lambda args: None) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("settings", [{"timed": True}, {"resumes": True}])
def test_timed_work_says_how_long_it_took(capsys, settings):
    assert status_of(lambda args: ["done"], parser=parser_of(**settings)) == 0
    assert capsys.readouterr().out.startswith("done\ntook 0.")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (cli.Failure("2 images were left out"), "error: 2 images were left out"),
        (FileNotFoundError(2, "No such file or directory", "a.json"), "a.json: No such file"),
        (FileNotFoundError("there is no config x"), "error: there is no config x"),
        (ImportError("pip install onnx"), "error: pip install onnx"),
        (format_error("bad_id", "id 0", "a.json"), "[bad_id] id 0 (a.json)"),
    ],
)
def test_a_foreseen_error_is_its_message(capsys, error, text):
    assert status_of(fail_with(error)) == 1
    out, err = capsys.readouterr()
    assert out == "before\n"
    assert text in err
    assert "Traceback" not in err
    assert "not foreseen" not in err


def test_an_error_that_our_code_raises_is_foreseen(capsys):
    assert status_of(lambda args: list(jobs.run(str, [1], 0))) == 1
    assert capsys.readouterr().err == "error: nproc must be at least 1, got 0\n"


def refuse(item):
    raise ValueError(f"item {item} is odd")


def test_an_error_of_a_worker_process_is_foreseen(capsys):
    assert status_of(lambda args: list(jobs.run(refuse, [1, 2], 2))) == 1
    assert capsys.readouterr().err == "error: item 1 is odd\n"


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("two\nlines"), RuntimeError("shape")])
def test_an_error_that_nobody_foresaw_keeps_its_traceback_in_a_file(capsys, error):
    assert status_of(fail_with(error)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {type(error).__name__}: ")
    file = Path(line.rpartition(" ")[2].rstrip(")"))
    assert "in run\n    raise error" in file.read_text()
    file.unlink()


def test_debug_shows_the_traceback(capsys):
    assert status_of(fail_with(KeyError("x")), "--debug") == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("error: 'x'\n")


def test_wrong_combinations_are_usage_errors(capsys):
    assert status_of(fail_with(cli.UsageError("--a needs --b"))) == 2
    assert capsys.readouterr().err.startswith("error: --a needs --b; ")


def test_an_exit_code_is_handed_on(capsys):
    assert status_of(fail_with(SystemExit(143))) == 143
    assert status_of(fail_with(SystemExit())) == 0
    assert status_of(fail_with(SystemExit("no"))) == 1
    assert capsys.readouterr().err == "no\n"


@pytest.mark.parametrize(
    ("resumes", "text"),
    [(False, "stopped\n"), (True, "stopped; the same command goes on where it was\n")],
)
def test_ctrl_c_is_one_line_and_its_status(capsys, resumes, text):
    assert status_of(fail_with(KeyboardInterrupt()), parser=parser_of(resumes=resumes)) == 130
    assert capsys.readouterr().err == text


INTERRUPTED = """
import sys, time
from mmpanoptic import cli
def run(args):
    yield "working"
    time.sleep(60)
sys.exit(cli.main(cli.Parser("Sleep.", ""), run, []))
"""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_a_real_ctrl_c_ends_the_process():
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"working\n"
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        assert process.wait(30) == 130
        assert time.monotonic() - start < 20
        assert process.stderr.read() == b"stopped\n"


def test_arguments_that_are_unknown_name_the_nearest(capsys):
    assert status_of(list, "--cfg-optoins", "a=1", parser=parser_of("cfg_options")) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: unknown argument --cfg-optoins (did you mean --cfg-options?); ")
    assert err.count("\n") == 1


def test_help_has_examples_and_exits_with_0(capsys):
    assert status_of(list, "--help", parser=parser_of("json")) == 0
    text = capsys.readouterr().out
    assert "examples:\n  " in text
    assert "--debug" in text
    assert "--json FILE" in text


def test_old_names_work_unseen_and_say_the_new_one(capsys):
    parser = parser_of()
    parser.take("size", required=True, old=["--shape"])
    args = cli.parse(parser, ["--shape", "3", "4"])
    assert args.size == [3, 4]
    assert capsys.readouterr().err == "warning: --shape is called --size now\n"
    assert "--shape" not in parser.format_help()
    assert cli.parse(parser, ["--size", "3", "4"]).size == [3, 4]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many"])
def test_numbers_have_bounds(capsys, value):
    assert status_of(list, "--nproc", value, parser=parser_of("nproc")) == 2
    expected = f"error: argument --nproc: must be a whole number of at least 1, got {value!r}"
    assert capsys.readouterr().err.startswith(expected)


@pytest.mark.parametrize("value", ["nan", "-0.1", "x"])
def test_fractions_have_bounds(value):
    with pytest.raises(argparse.ArgumentTypeError, match="must be a number of at least 0"):
        cli.at_least(0, float)(value)
    assert cli.at_least(0, float)("0.5") == 0.5


def test_warnings_are_one_line(capsys):
    def run(args):
        warnings.warn("the cache is old", UserWarning, stacklevel=1)

    assert status_of(run) == 0
    assert capsys.readouterr().err == "warning: the cache is old\n"
    assert status_of(run, "--log-level", "error") == 0
    assert capsys.readouterr().err == ""


def test_the_level_reaches_the_logger():
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    before, seen = logger.level, []
    assert status_of(lambda args: seen.append(logger.level), "--log-level", "warning") == 0
    assert seen == [30]
    assert logger.level == before


def test_jobs_show_their_progress_on_the_standard_error(capsys):
    assert status_of(lambda args: jobs.run(str, [1, 2], 1, "squares")) == 0
    out, err = capsys.readouterr()
    assert out == "1\n2\n"
    assert "squares" in err
    assert list(jobs.run(str, [1, 2], 1, "squares")) == ["1", "2"]
    assert capsys.readouterr().err == "", "a library call shows nothing"


def test_printing_into_a_pipe_that_closes_is_no_error():
    code = (
        "import sys; from mmpanoptic import cli; "
        "sys.exit(cli.main(cli.Parser('', ''), lambda args: range(100000), []))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 0


def test_the_module_is_light():
    heavy = {"torch", "mmengine", "mmcv", "mmdet", "cv2", "numpy", "rich"}
    assert not loaded_after("import mmpanoptic.cli") & heavy


def test_a_tool_that_fails_stops_the_caller(tmp_path):
    with pytest.raises(cli.Failure, match=r"dataset_converters/shapes.py failed"):
        cli.call_tool("dataset_converters/shapes.py", "data", "--train", "0", folder=tmp_path)
    arguments = ("data", "--train", 1, "--val", 1, "--size", 32, 48, "--nproc", 1)
    assert cli.call_tool("dataset_converters/shapes.py", *arguments, folder=tmp_path) > 0
    assert (tmp_path / "data" / "val" / "000001.jpg").is_file()


def options_of(*arguments):
    return cli.parse(parser_of("cfg_options"), arguments).cfg_options


def test_pairs_are_collected_over_several_options():
    assert options_of("--cfg-options", "a=1", "b.c=x=y", "--cfg-options", "d=2") == {
        "a": 1,
        "b.c": "x=y",
        "d": 2,
    }
    assert options_of() is None


def test_a_pair_without_sign_is_an_error_of_the_command_line(capsys):
    for wrong in ("a", "=1"):
        with pytest.raises(SystemExit):
            options_of("--cfg-options", wrong)
        assert "takes KEY=VALUE pairs" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["--local_rank", "--local-rank"])
def test_both_launchers_of_torch_may_name_the_rank(name):
    args = cli.parse(parser_of(*cli.RUN_ARGUMENTS), [name, "3"])
    assert args.local_rank == 3
