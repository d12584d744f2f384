"""Who is lost, as the others see it. Whole runs with a killed rank are in tests/faults."""

import json
import os
import subprocess
import time
from types import SimpleNamespace

import pytest
import torch.distributed as dist

from mmpanoptic.engine import rank_watch
from mmpanoptic.engine.rank_watch import LostRankError, RankWatch, RankWatchHook

LOADING, STARTED, LOSS_KNOWN = range(3)


@pytest.fixture
def watches(monkeypatch):
    """Make the watches of three processes that share a store; all run in this one."""
    store = dist.HashStore()
    monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", lambda: store)
    monkeypatch.setattr(rank_watch, "_BEAT_SECONDS", 0.02)
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    made = []

    def make(timeout=1e9):
        for rank in range(3):
            monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
            ends = []
            watch = RankWatch(timeout, ends.append)
            watch.ends = ends
            made.append(watch)
        return made

    yield make
    for watch in made:
        watch.stop()


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def all_heard(watches):
    return all(len(watch._ranks) == 3 for watch in watches)


def broken(watch):
    with pytest.raises((LostRankError, SystemExit)) as caught, watch.watch():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer")
    return str(caught.value)


def test_a_process_that_has_ended_is_named_by_one_of_the_others(watches, monkeypatch):
    first, second, third = watches()
    wait_for(lambda: all_heard([first, second, third]))
    gone = subprocess.Popen(["true"])
    gone.wait()
    second.move(11, STARTED)
    second._words["pid"] = gone.pid
    wait_for(lambda: first._ranks[1].has_ended() and third._ranks[1].has_ended())
    second.stop()
    text = broken(first)
    assert text.startswith(f"rank 1 has ended (process {gone.pid} on ")
    assert "in the forward pass of iteration 12" in text
    assert broken(third) == "1"  # rank 0 has said it


def test_a_silent_process_is_named(watches):
    first, second, third = watches()
    wait_for(lambda: all_heard([first, second, third]))
    third.stop()
    assert broken(first).startswith("rank 2 gives no sign of life")


def test_the_error_of_another_process_is_passed_on(watches):
    first, second, third = watches()
    wait_for(lambda: all_heard([first, second, third]))
    with pytest.raises(ValueError, match="broken image"), second.watch():
        raise ValueError("broken image a.png\nand more")
    assert "rank 1 stopped (" in broken(first)
    assert broken(third) == "1"
    assert "ValueError: broken image a.png" in first._ranks[1].words["error"]


def test_errors_that_are_no_broken_connection_pass(watches):
    first, *_ = watches()
    with pytest.raises(RuntimeError, match="shape mismatch"), first.watch():
        raise RuntimeError("shape mismatch")


def test_the_process_that_the_others_wait_for_is_named_and_they_end(watches):
    first, second, third = watches(timeout=1.5)
    for watch in (first, second, third):
        watch.active = True
        watch.move(4, LOADING)
    first.move(4, LOSS_KNOWN)
    third.move(4, LOSS_KNOWN)
    wait_for(lambda: first.ends and third.ends)
    assert "rank 1 has not moved for 1.5 s" in first.ends[0]
    assert "waiting for the data of iteration 5" in first.ends[0]
    assert third.ends[0] == ""  # one line is enough
    assert second.ends == []


def test_nobody_is_blamed_while_all_move_or_all_wait(watches):
    first, second, third = watches(timeout=0.5)
    for watch in (first, second, third):
        watch.active = True
        watch.move(4, STARTED)
    for step in range(40):
        time.sleep(0.04)
        for watch in (first, second):
            watch.move(4, LOSS_KNOWN)
        third.move(4, STARTED if step % 2 else LOADING)  # slow, but it moves
    assert not first.ends + second.ends + third.ends


def test_hook_tells_how_far_a_process_has_come():
    places = []
    watch = SimpleNamespace(move=lambda iteration, part: places.append((iteration, part)))
    hook = RankWatchHook(watch)
    runner = SimpleNamespace(iter=7)
    hook.before_train_iter(runner, 0)
    hook._note_loss(SimpleNamespace(training=True))
    hook._note_loss(SimpleNamespace(training=False))
    hook.after_train_iter(runner, 0)
    hook.before_val_epoch(SimpleNamespace(iter=8))
    assert places == [(7, 1), (7, 2), (8, 0), (8, 3)]


def test_words_are_plain_json(watches):
    first, *_ = watches()
    wait_for(lambda: 0 in first._ranks)
    assert json.loads(json.dumps(first._ranks[0].words))["pid"] == os.getpid()
