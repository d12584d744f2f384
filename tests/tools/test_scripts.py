import os
import subprocess
import sys

import pytest

from tests.apis.tiny_model import CONFIG

from .load_tool import TOOLS

SCRIPTS = [
    "infer.py",
    "dataset_converters/shapes.py",
    "analysis_tools/benchmark.py",
    "analysis_tools/browse_dataset.py",
    "analysis_tools/get_flops.py",
    "analysis_tools/print_config.py",
]


@pytest.mark.parametrize("tool", SCRIPTS)
def test_help_shows_examples(run_tool, tool):
    assert "examples:\n" in run_tool(tool, "--help").stdout


def test_the_scripts_work_from_any_folder(run_script, shapes_root, checkpoint):
    options = ["--device", "cpu", "--out-dir", "my out"]
    done = run_script("infer.py", shapes_root / "val", CONFIG, checkpoint, *options)
    assert "3 images done" in done.stdout
    assert (run_script.folder / "my out" / "panoptic.json").exists()


def test_errors_end_without_a_traceback(run_script):
    done = run_script("infer.py", "nothing.jpg", CONFIG, "none.pth", status=1)
    assert done.stderr.startswith("error: there is no checkpoint none.pth")
    assert "Traceback" not in done.stderr


def test_printing_into_a_pipe_that_closes_is_no_error():
    script = TOOLS / "analysis_tools" / "print_config.py"
    with subprocess.Popen(
        [sys.executable, str(script), CONFIG],
        env={**os.environ, "PYTHONPATH": str(TOOLS.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
