"""A run on two machines, of which one after the other is lost and comes back."""

import random

import pytest

from mmpanoptic.checkpoints.loading import load_checkpoint

from .machines import SECONDS, Machines
from .runs import ROOT, STEPS, Run, assert_equal_ends, newest_time, write_config


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """Config of a run, and what an undisturbed run of two processes ends with."""
    folder = tmp_path_factory.mktemp("machines")
    config = write_config(folder, workers=1, delay=0.1)
    command = [ROOT / "tools" / "dist_train.sh", config, "2", "--work-dir", folder / "whole"]
    with Run(command) as run:
        status, output = run.end(SECONDS)
    assert status == 0, output
    return config, load_checkpoint(folder / "whole" / f"iter_{STEPS}.pth")


@pytest.mark.faults
@pytest.mark.parametrize("whole", [True, False], ids=["machine", "launcher"])
@pytest.mark.parametrize("first", [0, 1])
def test_three_losses_leave_the_bits_as_they_are(two_ranks, tmp_path, whole, first):
    """The machine at whose address all meet is lost once or twice, the other one likewise."""
    config, expected = two_ranks
    work_dir = tmp_path / "run"
    draw = random.Random(f"{whole}{first}")
    with Machines(config, work_dir, "--max-restarts", "9") as machines:
        for number in (first, 1 - first, first):
            before = newest_time(work_dir)
            wanted = draw.randint(1, 3)
            seen = set()

            def far_enough(before=before, wanted=wanted, seen=seen):
                seen.add(newest_time(work_dir))
                return len(seen - {before, 0}) >= wanted

            assert machines.runs[number].wait_for(far_enough, SECONDS)
            machines.lose(number, whole)
        machines.end()
    assert_equal_ends(work_dir, expected)
