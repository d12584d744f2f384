import json
import os
import subprocess
import sys
import threading
import time

import pytest
import torch

from mmpanoptic.nas.store import SearchStore, digest_of, digest_of_file, digest_of_weights

ARCH = (0, 1, 2)


def record(value=1.0, finished=0.0):
    return {"status": "done", "metrics": {"PQ": value}, "finished": finished}


def test_records_come_back_unrounded(tmp_path):
    store = SearchStore(tmp_path, {"weights": "a"})
    store.append(ARCH, record(0.1 + 0.2))
    found = SearchStore(tmp_path, {"weights": "a"}).records()[store.key(ARCH)]
    assert found["metrics"]["PQ"] == 0.1 + 0.2
    assert found["arch"] == [0, 1, 2]


@pytest.mark.parametrize("other", [{"weights": "b"}, {"weights": "a", "seed": 1}])
def test_records_of_another_context_are_not_used(tmp_path, other):
    SearchStore(tmp_path, {"weights": "a"}).append(ARCH, record())
    assert SearchStore(tmp_path, other).records() == {}


def test_a_line_that_was_cut_off_is_passed_over(tmp_path):
    store = SearchStore(tmp_path, {})
    store.append(ARCH, record())
    store.append((1, 1, 1), record())
    file = next((tmp_path / "records").glob("*.jsonl"))
    file.write_text(file.read_text()[:-30])
    assert list(SearchStore(tmp_path, {}).records()) == [store.key(ARCH)]


def test_of_two_records_the_first_counts(tmp_path):
    one, two = SearchStore(tmp_path, {}), SearchStore(tmp_path, {})
    one.append(ARCH, record(1.0, finished=20.0))
    two.append(ARCH, record(2.0, finished=10.0))
    assert one.records()[one.key(ARCH)]["metrics"]["PQ"] == 2.0


def test_a_claim_excludes_others_until_it_expires(tmp_path):
    one, two = (SearchStore(tmp_path, {}, lease_seconds=0.4) for _ in range(2))
    with one.claim(ARCH) as mine:
        assert mine
        time.sleep(0.8)  # kept alive all the time
        with two.claim(ARCH) as theirs:
            assert not theirs
    os.utime(next((tmp_path / "claims").glob(f"{one.key(ARCH)}.0")), (0, 0))
    with two.claim(ARCH) as theirs:
        assert theirs


def test_an_interrupted_claim_is_free_at_once(tmp_path):
    one, two = (SearchStore(tmp_path, {}) for _ in range(2))
    with pytest.raises(KeyboardInterrupt), one.claim(ARCH):
        raise KeyboardInterrupt
    with two.claim(ARCH) as theirs:
        assert theirs


def test_a_claim_of_a_process_that_ended_here_is_free_and_others_have_to_run_out(tmp_path):
    store = SearchStore(tmp_path, {})
    path = store._take(store.key(ARCH))
    claim = json.loads(path.read_text())
    assert store._take(store.key(ARCH)) is None  # ours, alive
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path.write_text(json.dumps({**claim, "process": ended.pid, "place": ["elsewhere"]}))
    assert store._take(store.key(ARCH)) is None
    path.write_text(json.dumps({**claim, "process": ended.pid}))
    assert store._take(store.key(ARCH)).suffix == ".1"


def test_of_many_racing_workers_one_gets_the_claim(tmp_path):
    barrier, won = threading.Barrier(16), []

    def race():
        store = SearchStore(tmp_path, {})
        barrier.wait()
        path = store._take(store.key(ARCH))
        if path is not None:
            won.append(path)

    threads = [threading.Thread(target=race) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    os.utime(won[0], (0, 0))
    threads = [threading.Thread(target=race) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 2
    assert won[1].suffix == ".1"


def test_digests_follow_the_content(tmp_path):
    state = {"a": torch.arange(4.0), "b": torch.zeros(2, dtype=torch.int64)}
    same = {"b": state["b"].clone(), "a": state["a"].clone()}
    assert digest_of_weights(state) == digest_of_weights(same)
    same["a"][0] = 5
    assert digest_of_weights(state) != digest_of_weights(same)
    assert digest_of({"x": 1, "y": 2}) == digest_of({"y": 2, "x": 1})
    (tmp_path / "one").write_text("1")
    (tmp_path / "two").write_text("2")
    assert digest_of_file(tmp_path / "one") != digest_of_file(tmp_path / "two")


def test_a_lease_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="lease_seconds"):
        SearchStore(tmp_path, {}, lease_seconds=0)
