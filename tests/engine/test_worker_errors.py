"""Errors of worker processes are one clear line."""

import os
import signal

import pytest
from torch.utils.data import DataLoader, Dataset

from mmpanoptic.engine.workers import WorkerError, clear_worker_errors
from mmpanoptic.registry import ConfigError
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError, format_error


class Failing(Dataset):
    def __init__(self, fail):
        self.fail = fail

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.fail()


def run(fail):
    with clear_worker_errors():
        for _ in DataLoader(Failing(fail), num_workers=1):
            pass


def damaged():
    try:
        raise OSError("cut off")
    except OSError as error:
        raise format_error("corrupt_image", "cannot decode: cut off", "a/3.jpg", 3) from error


def test_a_format_error_arrives_as_it_was_raised():
    with pytest.raises(PanopticFormatError) as caught:
        run(damaged)
    with pytest.raises(PanopticFormatError) as original:
        damaged()
    assert str(caught.value) == str(original.value)
    assert caught.value.kinds == ["corrupt_image"]


def test_several_problems_are_read_from_the_text():
    problems = [FormatProblem("zero_id", "a"), FormatProblem("bad_id", "b: [c]", "f", "x")]
    error = PanopticFormatError(problems)
    again = PanopticFormatError(f"Caught it\n  File x\nmodule.PanopticFormatError: {error}")
    assert str(again) == str(error)
    with pytest.raises(TypeError):
        PanopticFormatError("no such text")


def ours():
    from mmpanoptic.structures import LabelTable

    LabelTable.from_metainfo({})


def test_a_message_of_our_code_stays_alone():
    with pytest.raises(ValueError, match=r"\Ametainfo lacks classes") as caught:
        run(ours)
    assert "Traceback" not in str(caught.value)


def packing():
    import numpy as np

    from mmpanoptic.datasets.transforms import PackPanopticInputs

    img, index_map = np.zeros((4, 5, 3), np.uint8), np.zeros((3, 5), np.uint8)
    PackPanopticInputs()({"img": img, "gt_seg_map": index_map, "segments_info": []})


def test_errors_of_a_config_stay_such_errors():
    with pytest.raises(ConfigError, match=r"\Aa transform of the pipeline") as caught:
        run(packing)
    assert "Traceback" not in str(caught.value)


def fault():
    return {}["key"]


def test_a_fault_keeps_its_traceback_behind_a_clear_line():
    with pytest.raises(KeyError) as caught:
        run(fault)
    lines = str(caught.value.args[0]).splitlines()
    assert lines[0] == "KeyError: 'key' (in worker process 0 of a data loader)"
    assert any("Traceback" in line for line in lines)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_named():
    with pytest.raises(WorkerError, match=r"worker process \d+ has died .*memory"):
        run(killed)


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), clear_worker_errors():
        1 / 0  # noqa: B018
