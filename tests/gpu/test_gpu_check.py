"""The schedule of `make test-gpu`, with parts that pass, fail, hang and crash."""

import functools
import json
import sys
import time
import types
from contextlib import nullcontext

import pytest
import torch

from tests.gpu import parts, real_configs
from tests.gpu.operator_calls import operator_calls
from tests.tools.load_tool import load_tool

check = load_tool("dev/gpu_check.py")
BEHAVIOUR = """
import json, os, signal, subprocess, sys, time
part, folder = sys.argv[1:]
if part != "silent":
    with open(f"{folder}/{part}.json", "w") as file:
        json.dump([{"ratio": 0.123456, "what": part}], file)
if part == "fails":
    raise SystemExit("numbers differ")
if part == "crashes":
    os.kill(os.getpid(), signal.SIGSEGV)
if part == "hangs":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    open(f"{folder}/child", "w").write(str(child.pid))
    time.sleep(600)
"""


def fake(part, folder):
    return [sys.executable, "-c", BEHAVIOUR, part, str(folder)]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    limits = {"passes": 30, "fails": 30, "hangs": 2, "crashes": 30, "silent": 30}
    return folder, list(check.run_parts(limits, folder, command=fake))


def test_each_part_is_told_and_the_next_one_follows(outcomes):
    assert [(one.part, one.status) for one in outcomes[1]] == [
        ("passes", "passed"),
        ("fails", "failed"),
        ("hangs", "timeout"),
        ("crashes", "crashed"),
        ("silent", "passed"),
    ]
    words = {one.part: one.words for one in outcomes[1]}
    assert words["passes"] == ""
    assert "numbers differ" in words["fails"]


def test_what_was_measured_before_a_limit_stays(outcomes):
    figures = {one.part: one.figures for one in outcomes[1]}
    assert figures["hangs"] == [{"ratio": 0.123456, "what": "hangs"}]
    assert figures["silent"] == []


def test_a_part_that_hangs_leaves_no_process_behind(outcomes):
    pid = int((outcomes[0] / "child").read_text())
    deadline = time.monotonic() + 10
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_parts_share_the_time_of_the_whole(tmp_path):
    found = list(check.run_parts({"hangs": 60, "passes": 60}, tmp_path, 1.5, fake))
    assert [one.status for one in found] == ["timeout", "skipped"]
    assert found[0].seconds < 10


def test_the_report_is_a_table_of_each_part(outcomes):
    text = check.to_markdown("a GPU", outcomes[1])
    assert "| hangs | timeout | 2 |" in text
    assert "| ratio | what |\n| --- | --- |\n| 0.1235 | fails |\n" in text


def test_the_limits_fit_in_twelve_minutes_and_each_part_has_one():
    assert list(check.LIMITS) == [part.__name__ for part in parts.PARTS]
    assert sum(check.LIMITS.values()) <= check.TOTAL == 12 * 60


def run_main(monkeypatch, tmp_path, devices):
    monkeypatch.setattr(check, "find_gpus", lambda: devices)
    monkeypatch.setattr(check, "LIMITS", {"passes": 30, "fails": 30})
    monkeypatch.setattr(check, "run_parts", lambda *a: _run_parts(*a, command=fake))
    return check.main(["--work-dir", str(tmp_path)])


_run_parts = check.run_parts


def test_without_a_gpu_it_says_so_and_exits_with_0(monkeypatch, tmp_path, capsys):
    assert run_main(monkeypatch, tmp_path, []) == 0
    assert "skipped: there is no CUDA device" in capsys.readouterr().out
    assert json.loads((tmp_path / "results.json").read_text())["status"] == "skipped"


def test_with_a_gpu_it_writes_both_files_and_fails_with_a_part(monkeypatch, tmp_path, capsys):
    assert run_main(monkeypatch, tmp_path, ["pretended"]) == 1
    assert "did not pass: fails" in capsys.readouterr().err
    content = json.loads((tmp_path / "results.json").read_text())
    assert [part["status"] for part in content["parts"]] == ["passed", "failed"]
    assert (tmp_path / "results.md").read_text().startswith("# GPU check: pretended\n")


def test_a_part_writes_each_figure_at_once(monkeypatch, tmp_path):
    def stops(note, folder):
        note(what="first", value=1)
        assert json.loads((tmp_path / "stops.json").read_text()) == [{"what": "first", "value": 1}]
        raise AssertionError("wrong")

    monkeypatch.setattr(parts, "PARTS", (stops,))
    monkeypatch.setattr(sys, "argv", ["parts", "stops", str(tmp_path)])
    with pytest.raises(AssertionError, match="wrong"):
        parts.main()


def test_operators_are_called_as_a_model_calls_them():
    names = [name for name, call in operator_calls("cpu", 30, 16) if call() is not None]
    assert names == [
        "nms",
        "roi_align_forward",
        "deform_conv_forward",
        "modulated_deform_conv_forward",
    ]


def test_every_real_config_has_a_size():
    sizes = {name: real_configs.size_of(name) for name in real_configs.real_configs()}
    assert len(sizes) > 40
    assert sizes["cops_r52_pretrain_4xb12-50k_coco-640x640"] == (640, 640)
    assert sizes["panoptic-fpn_r50_8xb2-150k_coco"] == (800, 1344)


def test_measured_memory_is_held_against_what_the_page_states():
    stated = {
        kind: parts.stated_memory("panoptic-deeplab_r52_8xb4-90k_cityscapes-512x1024", kind)
        for kind in ("fp32", "bf16")
    }
    assert 6 << 30 < stated["fp32"] < 12 << 30
    assert stated["bf16"] < stated["fp32"]
    sgd = "panoptic-fpn_r50_8xb2-150k_coco"
    tool = load_tool("dev/training_memory.py")
    figures = json.loads(tool.FIGURES.read_text(encoding="utf-8"))[sgd]
    assert figures["moments"] == 1
    assert parts.stated_memory(sgd, "fp32") > tool.bytes_of(figures, "fp32", figures["batch"])


@pytest.mark.parametrize(
    ("result", "ratio", "fault"),
    [
        ("fits", 1.0, ""),
        ("fits", 1.31, "peak is 1.31 of what is stated, allowed are 0.5 to 1.3"),
        ("fits", 0.4, "peak is 0.40 of what is stated, allowed are 0.5 to 1.3"),
        ("does not fit", 0.7, "should fit"),
        ("not measured: no panoptic maps", 0.0, ""),
    ],
)
def test_the_memory_part_fails_beyond_what_the_page_states(
    monkeypatch, tmp_path, result, ratio, fault
):
    name = "panoptic-deeplab_r52_8xb4-90k_cityscapes-512x1024"
    stated = parts.stated_memory(name, "fp32")
    monkeypatch.setattr(parts, "stated_memory", lambda *_: stated)
    monkeypatch.setattr(real_configs, "real_configs", lambda: [name])
    monkeypatch.setattr("mmpanoptic.apis.speed.StepTimer", functools.partial(Timer, result))
    for function in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, function, lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: int(stated * ratio))
    properties = types.SimpleNamespace(total_memory=80 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    rows = []
    stops = pytest.raises(AssertionError, match="fp32: ") if fault else nullcontext()
    with stops:
        parts.memory(lambda **row: rows.append(row), tmp_path)
    assert [row["precision"] for row in rows] == ["fp32", "bf16"]  # it went on
    assert {row["fault"] for row in rows} == {fault}
    assert {row["result"] for row in rows} == {result}


class Timer:
    """A training step that ends as told."""

    def __init__(self, result, *_):
        if result.startswith("not measured: "):
            raise ValueError(result.removeprefix("not measured: "))
        self.result = result

    def measure(self, amp):
        if self.result != "fits":
            raise torch.cuda.OutOfMemoryError


def test_what_the_page_states_not_to_fit_may_not_fit():
    assert parts.memory_fault("does not fit", 0, 100, usable=99.0) == ""
    assert parts.memory_fault("fits", 100, 0, usable=99.0) == ""


def test_the_quality_is_that_of_the_last_validation(tmp_path):
    folder = tmp_path / "20260101_000000" / "vis_data"
    folder.mkdir(parents=True)
    lines = [{"loss": 1}, {"coco_panoptic/PQ": 20.0}, {"coco_panoptic/PQ": 30.0}]
    (folder / "scalars.json").write_text("\n".join(map(json.dumps, lines)))
    assert parts.last_quality(tmp_path) == 30.0
