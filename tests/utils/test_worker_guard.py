import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

WORKER = """
import os, sys, threading, time
from mmpanoptic.utils.worker_guard import guard_worker
reader, writer = os.pipe()
child = os.fork()
if not child:
    guard_worker(os.getppid())
    print(os.getpid(), flush=True)
    os.write(writer, bytes(1 << 20))  # never ends: nobody reads
    os._exit(3)
for line in sys.stdin:  # what this process shall do
    if line == "terminate\\n":
        os.kill(child, 15)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.fixture
def family():
    """A process that takes orders, and its guarded worker, which hangs in a write."""
    parent = subprocess.Popen(
        [sys.executable, "-c", WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    worker = int(parent.stdout.readline())
    yield parent, worker
    parent.kill()
    parent.communicate()
    if is_there(worker):
        os.kill(worker, signal.SIGKILL)


def is_there(pid):
    try:  # where nobody collects orphans, an ended one stays as a zombie
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_end(pid, seconds=60):
    deadline = time.monotonic() + seconds
    while is_there(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_there(pid)


def test_a_worker_ends_with_a_killed_parent_though_it_hangs(family):
    parent, worker = family
    parent.kill()
    parent.wait()
    assert wait_for_end(worker)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_of_others_do_not_end_a_worker(family, number):
    parent, worker = family
    for _ in range(3):
        os.kill(worker, number)
        time.sleep(0.3)
    assert is_there(worker)
    assert parent.poll() is None


def test_the_parent_can_end_it(family):
    parent, worker = family
    parent.stdin.write("terminate\n")
    parent.stdin.flush()
    assert parent.stdout.readline() == "0\n"
    assert not is_there(worker)
