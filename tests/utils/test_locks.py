import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mmpanoptic.utils.locks import FolderInUseError, exclusive_folder

HOLD = """
import sys, time
from mmpanoptic.utils.locks import exclusive_folder
with exclusive_folder(sys.argv[1]):
    print("in", flush=True)
    if len(sys.argv) > 2:
        import os
        if not os.fork():
            os.setpgid(0, 0)
    time.sleep(60)
"""


def holder(folder, *more):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), *more], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "in\n"
    return process


def test_a_second_process_is_refused_and_told_who_is_there(tmp_path):
    folder = tmp_path / "new" / "run"
    process = holder(folder)
    try:
        told = f"run is in use by process {process.pid} on"
        with pytest.raises(FolderInUseError, match=told), exclusive_folder(folder):
            pass
        with exclusive_folder(folder, ".other"):
            pass
    finally:
        process.kill()
        process.wait()
    with exclusive_folder(folder):
        pass


def test_a_killed_process_frees_the_folder_though_its_children_live(tmp_path):
    process = holder(tmp_path, "with a child")
    time.sleep(0.2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    child = int(children.read_text()) if children.exists() else None
    process.kill()
    process.wait()
    try:
        with exclusive_folder(tmp_path):
            pass
    finally:
        if child is not None:
            os.kill(child, 9)


def test_one_process_may_enter_twice_and_keeps_the_lock(tmp_path):
    with exclusive_folder(tmp_path):
        with exclusive_folder(tmp_path / "."):
            pass
        done = subprocess.run(
            [sys.executable, "-c", HOLD, str(tmp_path)], capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 1
        assert f"in use by process {os.getpid()} on" in done.stderr


def test_who_waits_says_for_whom_and_goes_on_afterwards(tmp_path):
    process = holder(tmp_path)
    threading.Timer(1, process.kill).start()
    told = f"in use by process {process.pid} on .*; waiting until it has ended"
    with pytest.warns(UserWarning, match=told), exclusive_folder(tmp_path, wait=True):
        assert process.wait() == -9
