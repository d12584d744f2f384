"""The matrix of versions: what it tries, what stays of a run that was stopped, its table."""

import json
import subprocess
import sys
import zipfile

import pytest

from mmpanoptic.utils.limited import run_part

from .load_tool import ROOT, load_tool

matrix = load_tool("dev/test_matrix.py")
PASSES = [sys.executable, "-c", "print('3 passed in 1s')"]
FAILS = [sys.executable, "-c", "raise SystemExit('1 failed, 2 passed in 1s')"]
HANGS = [sys.executable, "-c", "import time; time.sleep(600)"]
LIMITS = {"install": 60, "import": 60, "smoke": 60, "parity": 60}


def outcomes(steps, folder, known=(), **limits):
    return list(matrix.run_set(steps, folder, dict(known), {**LIMITS, **limits}))


def test_a_test_that_fails_or_hangs_is_told_and_the_next_one_runs(tmp_path):
    steps = [("import", PASSES), ("smoke", HANGS), ("parity", FAILS)]
    found = outcomes(steps, tmp_path, smoke=1)
    assert [(one.part, one.status) for one in found] == [
        ("import", "passed"),
        ("smoke", "timeout"),
        ("parity", "failed"),
    ]
    assert "1 failed" in found[-1].words


def test_nothing_is_tried_after_an_installation_that_failed(tmp_path):
    steps = [("install-1", PASSES), ("install-2", FAILS), ("import", PASSES), ("smoke", PASSES)]
    statuses = [one.status for one in outcomes(steps, tmp_path)]
    assert statuses == ["passed", "failed", "skipped", "skipped"]


def test_what_has_an_outcome_stays_and_an_environment_is_made_again(tmp_path):
    steps = [("install-1", PASSES), ("import", PASSES), ("smoke", PASSES), ("parity", PASSES)]
    first = outcomes(steps[:3], tmp_path)
    known = {one.part: one._asdict() for one in first}
    assert [one.part for one in outcomes(steps, tmp_path, known)] == ["install-1", "parity"]
    known["parity"] = known["smoke"]
    assert outcomes(steps, tmp_path, known) == []


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Call the command with two sets, whose steps are noted in a file."""
    note = tmp_path / "note"
    script = "import sys; open({!r}, 'a').write(sys.argv[1] + '\\n'); print('5 passed in 1s')"
    steps = {"smoke": [sys.executable, "-c", script.format(str(note)), "good"], "parity": FAILS}

    def steps_of(one, folder):
        yield "import", PASSES
        yield "smoke", steps["smoke"]
        yield "parity", PASSES if one.name == "good" else steps["parity"]

    sets = (matrix.Set("good", "nothing"), matrix.Set("bad", "all"), matrix.Set("b", "c", big=True))
    monkeypatch.setattr(matrix, "SETS", sets)
    monkeypatch.setattr(matrix, "steps_of", steps_of)

    def call(*words):
        status = matrix.main([*words, "--work-dir", str(tmp_path / "results")])
        captured = capsys.readouterr()
        noted = note.read_text().splitlines() if note.exists() else []
        return status, captured.out, captured.err, len(noted)

    call.table = tmp_path / "results" / "table.md"
    call.results = tmp_path / "results" / "results.json"
    return call


def test_a_second_run_tries_nothing_again_unless_told(command):
    status, _, err, runs = command()
    assert status == 1
    assert runs == 2, "the big set is left out"
    assert "did not pass: bad" in err
    rows = {line.split("`")[1]: line for line in command.table.read_text().splitlines()[2:]}
    assert "| 5 passed | 3 passed |" in rows["good"]
    assert "**failed** (1 failed, 2 passed)" in rows["bad"]
    assert command()[3] == runs
    assert command("good", "--again")[3] == runs + 1


def test_a_run_that_was_cut_goes_on_at_its_step(command):
    runs = command("good")[3]
    found = json.loads(command.results.read_text())
    del found["good"]["steps"]["parity"]
    command.results.write_text(json.dumps(found))
    status, out, _, again = command("good")
    assert (status, again) == (0, runs)
    assert "parity" in out
    assert "smoke" not in out


def test_an_unknown_set_is_refused(command):
    status, _, err, _ = command("worse")
    assert status == 2
    assert "there is no set worse; there are b, bad, good" in err


def test_a_set_that_is_too_much_to_fetch_is_left_out_in_words(command, monkeypatch):
    monkeypatch.setattr(matrix, "megabytes_to_fetch", lambda one: 3050.0)
    status, out, _, runs = command("good")
    assert (status, runs) == (0, 0)
    assert "3050 MB to fetch, more than --max-download 500" in out
    assert "3050 MB to fetch" in command.table.read_text()
    assert command("good", "--max-download", "4000")[3] == 1, "asked again with a higher limit"


def test_an_absent_python_is_told():
    said = matrix.why_left_out(matrix.Set("old", "an old one", python="3.1"), 0)
    assert said == "this machine has no Python 3.1"


@pytest.mark.parametrize("name", ["forks", "mmcv-full", "torch-newest"])
def test_what_is_built_apart_is_installed_before_the_layer(name, tmp_path):
    one = next(one for one in matrix.SETS if one.name == name)
    commands = [" ".join(words) for words in matrix.install_commands(one, tmp_path)]
    layer = next(number for number, words in enumerate(commands) if "addsitedir" in words)
    for words in one.front:
        assert any(words in text for text in commands[:layer])
    for words in (*one.compiled, *one.more):
        assert any(words in text for text in commands[layer + 1 :])


def test_a_package_in_front_hides_the_one_below_which_stays(tmp_path):
    wheel = tmp_path / "terminaltables-99.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("terminaltables/__init__.py", "__version__ = '99.0'\n")
        info = "terminaltables-99.0.dist-info/"
        archive.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: terminaltables\n"
                         "Version: 99.0\n")  # fmt: skip
        archive.writestr(info + "WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(info + "RECORD", "")
    one = matrix.Set("front", "a newer package", (str(wheel),))
    env = tmp_path / "env"
    for number, words in enumerate(matrix.install_commands(one, env)):
        done = run_part(f"install-{number}", words, tmp_path, 300, ROOT)
        assert done.status == "passed", done.words
    script = "import terminaltables, numpy; print(terminaltables.__version__)"
    ask = [str(env / "bin" / "python"), "-c", script]
    assert subprocess.check_output(ask, text=True).strip() == "99.0"
    below = subprocess.check_output([sys.executable, *ask[1:]], text=True).strip()
    assert below != "99.0"
