"""Records come back as they were, and hold no memory of the system's allocator."""

import copy
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

from mmpanoptic.evaluation.record_store import RecordStore
from mmpanoptic.utils.format_errors import FormatProblem


@dataclass(frozen=True, eq=False)
class Frozen:
    one: np.ndarray
    other: Any


class Pair(NamedTuple):
    first: Any
    second: Any


VALUES = [
    np.arange(3, dtype=np.int32),
    np.zeros((0, 4)),
    np.random.default_rng(0).random((700, 301)),  # more than a chunk
    np.float64(0.1),
    np.array([1.5, None], object),
    np.arange(24, dtype=">i2").reshape(2, 3, 4).transpose(2, 0, 1),
    np.array(True),
    "short",
    "ä" * 5000,
    "\ud800" * 500,
    b"\0\xff" * 700,
    list(range(1000)),
    [[k / 3] * 4 for k in range(100)],
    [],
    {"size": [3, 4], "counts": "x" * 2000},
    (1, None, "a"),
    Pair(np.ones(2), ["y" * 900]),
    Frozen(np.arange(9.0), [FormatProblem("bad_field", "z" * 600)]),
    None,
]


def assert_equal(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, Frozen):
        assert_equal(found.one, expected.one)
        assert_equal(found.other, expected.other)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other)
    else:
        assert found == expected


def test_what_goes_in_comes_out():
    store = RecordStore()
    shells = [store.pack(value) for value in VALUES * 3]
    twin = copy.deepcopy(store)
    found = [store.unpack(shell) for shell in shells]
    store.clear()
    for one, again, expected in zip(found, map(twin.unpack, shells), VALUES * 3, strict=True):
        assert_equal(one, expected)
        assert_equal(again, expected)


def test_the_record_itself_stays_as_it_was():
    record = Frozen(np.arange(3), ["a" * 600])
    RecordStore().pack(record)
    assert_equal(record, Frozen(np.arange(3), ["a" * 600]))


def test_an_emptied_store_serves_again():
    store = RecordStore()
    first = store.unpack(store.pack(np.arange(5)))
    store.clear()
    assert store.unpack(store.pack(np.ones(3))).tolist() == [1, 1, 1]
    assert first.tolist() == [0, 1, 2, 3, 4]


GROWTH = """
import sys
import numpy as np
from mmpanoptic.evaluation.record_store import RecordStore

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4  # KB

def image(number):
    big = [np.full(150_000 + 997 * (number * k % 13), k) for k in range(1, 4)]
    return [np.arange(90.0) + part[0] for part in big], "x" * 900, list(range(80))

store, kept = RecordStore(), []
for number in range(1200):
    record = image(number)
    kept.append(store.pack(record) if sys.argv[1] == "packed" else record)
    if number == 199:
        before = resident()
print((resident() - before) / 1000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_process_grows_by_the_records_alone():
    def growth(how):
        command = [sys.executable, "-c", GROWTH, how]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(done.stdout)

    assert growth("packed") < 10  # KB an image; a record has 4
