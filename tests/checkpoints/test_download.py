"""Downloads from a server on this machine that cuts, lies, sends pages, is slow and redirects."""

import hashlib
import io
import json
import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from mmpanoptic.checkpoints import CheckpointError, DamagedCheckpointError, download
from mmpanoptic.checkpoints.download import RemoteFile, cache_folder, check_cached, fetch
from mmpanoptic.utils import jobs

from .file_server import FileServer

SIZE = 300_000


def torch_file(legacy=False):
    torch.manual_seed(0)
    buffer = io.BytesIO()
    torch.save({"w": torch.rand(SIZE // 4)}, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


DATA = torch_file()
SHA256 = hashlib.sha256(DATA).hexdigest()
MD5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()


@pytest.fixture
def server():
    server = FileServer()
    server.files["/a.pth"] = DATA
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(download, "TIMEOUT", 5.0)
    monkeypatch.setattr(download, "CHUNK", 1 << 12)
    monkeypatch.setenv("MMPANOPTIC_HOME", str(tmp_path / "home with space"))
    monkeypatch.delenv("MMPANOPTIC_OFFLINE", raising=False)


@pytest.fixture
def remote(server):
    def make(path="/a.pth", **known):
        target = cache_folder() / "id" / path.rsplit("/", 1)[1]
        return RemoteFile("mmpanoptic://id", (server.url(path),), target, **known)

    return make


def leftovers(path):
    return sorted(p.name for p in path.parent.iterdir() if p.suffix != ".lock")


def test_a_file_comes_once_and_is_recorded(server, remote):
    wanted = remote(size=len(DATA), sha256=SHA256[:8], md5=MD5)
    for _ in range(2):
        assert fetch(wanted).read_bytes() == DATA
    assert len(server.requests) == 1
    record = json.loads((wanted.path.parent / "a.pth.json").read_text())
    assert (record["size"], record["sha256"], record["url"]) == (len(DATA), SHA256, wanted.urls[0])
    assert leftovers(wanted.path) == ["a.pth", "a.pth.json"]
    fetch(wanted, again=True)
    assert len(server.requests) == 2


@pytest.mark.parametrize("etag", ['"1"', None])
def test_a_cut_transfer_goes_on_where_it_was(server, remote, etag):
    server.cut, server.etag = 100_000, etag
    assert fetch(remote(sha256=SHA256)).read_bytes() == DATA
    starts = [headers.get("Range") for _, headers in server.requests]
    assert starts == [None, "bytes=100000-", "bytes=200000-", "bytes=300000-"]


def test_a_killed_process_leaves_what_the_next_one_goes_on_with(server, remote, monkeypatch):
    wanted = remote()
    server.cut = 100_000
    monkeypatch.setattr(download, "ATTEMPTS", 0)
    with pytest.raises(CheckpointError, match="100000 bytes are kept, the next try goes on"):
        fetch(wanted)
    assert not wanted.path.exists()
    server.cut = None
    assert fetch(wanted).read_bytes() == DATA
    assert server.requests[1][1]["Range"] == "bytes=100000-"


def test_a_file_that_was_exchanged_in_between_is_not_stitched_together(server, remote, monkeypatch):
    wanted = remote()
    server.cut, server.etag = 100_000, '"old"'
    monkeypatch.setattr(download, "ATTEMPTS", 0)
    with pytest.raises(CheckpointError):
        fetch(wanted)
    server.cut, server.etag = None, '"new"'
    server.files["/a.pth"] = torch_file(legacy=True)
    assert fetch(wanted).read_bytes() == server.files["/a.pth"]


def test_a_stitched_file_with_the_wrong_hash_is_fetched_anew(server, remote):
    wanted = remote(sha256=SHA256)
    server.etag = None
    wanted.path.parent.mkdir(parents=True)
    (wanted.path.parent / "a.pth.part").write_bytes(b"x" * 1000)
    assert fetch(wanted).read_bytes() == DATA
    assert len(server.requests) == 2


def test_a_server_that_cannot_go_on_is_given_up(server, remote):
    server.cut, server.ranges = 100_000, False
    with pytest.raises(CheckpointError, match=f"ended after 100000 of {len(DATA)} bytes"):
        fetch(remote())
    assert len(server.requests) == download.ATTEMPTS + 1


@pytest.mark.parametrize("known", [{"size": SIZE * 2}, {"sha256": "0" * 8}, {"md5": "0" * 6}])
def test_another_file_is_refused_and_not_kept(remote, known):
    wanted = remote(**known)
    with pytest.raises(CheckpointError, match="another file"):
        fetch(wanted)
    assert leftovers(wanted.path) == []


@pytest.mark.parametrize("length", [SIZE * 2, SIZE // 2])
def test_a_wrong_length_is_found(server, remote, length):
    server.length = length
    wanted = remote(sha256=SHA256)
    if length > SIZE:  # the whole file came, and the server admits it when asked for more
        assert fetch(wanted).read_bytes() == DATA
    else:
        with pytest.raises(CheckpointError, match="sha256"):
            fetch(wanted)


def test_half_files_of_unknown_hash_are_found(server, remote):
    server.length = SIZE // 2
    for data in (DATA, pickle.dumps({"w": np.zeros(SIZE)}, 4), safetensors_file()):
        server.files["/a.pth"] = data
        with pytest.raises(CheckpointError, match="it is cut off; it was not kept"):
            fetch(remote())


def safetensors_file():
    from safetensors.torch import save

    return save({"w": torch.rand(SIZE // 4)})


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><title>Quota\nexceeded</title>", b" \n<HTML>"])
def test_web_pages_are_refused_in_words(server, remote, page):
    server.pages["/a.pth"] = page
    with pytest.raises(CheckpointError, match=r"is a web page.*instead of a file") as caught:
        fetch(remote())
    assert ("Quota" in str(caught.value)) == (b"title" in page)
    assert "put it at" in str(caught.value)
    assert leftovers(remote().path) == []


def test_text_is_refused(server, remote):
    server.files["/a.pth"] = b"version https://git-lfs.github.com/spec/v1\n"
    with pytest.raises(CheckpointError, match="begins with b'version http', as no file of weights"):
        fetch(remote())


def test_a_connection_without_a_byte_counts_as_lost(server, remote, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    server.stall = 3.0
    assert fetch(remote()).read_bytes() == DATA
    assert len(server.requests) == 2


def test_a_slow_server_is_waited_for(server, remote, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.5)
    server.slow = 0.1
    assert fetch(remote()).read_bytes() == DATA
    assert len(server.requests) == 1


def test_states_that_pass_are_tried_again_and_others_not(server, remote):
    server.states["/a.pth"] = [503, 429]
    assert fetch(remote()).read_bytes() == DATA
    with pytest.raises(CheckpointError, match="404 Not Found"):
        fetch(remote("/none.pth"))
    assert server.count() == {"/a.pth": 3, "/none.pth": 1}


def test_mirrors_are_tried_in_turn(server, remote):
    wanted = remote()
    urls = (server.url("/none.pth"), *wanted.urls)
    assert fetch(RemoteFile("x", urls, wanted.path)).read_bytes() == DATA


def test_redirects_are_followed_to_safe_places_only(server, remote):
    server.redirects["/b.pth"] = (server.url("/a.pth"), {})
    assert fetch(remote("/b.pth")).read_bytes() == DATA
    server.redirects["/c.pth"] = ("http://example.org/a.pth", {})
    with pytest.raises(CheckpointError, match="only https:// addresses are"):
        fetch(remote("/c.pth"))
    server.redirects["/d.pth"] = (server.url("/d.pth"), {})
    with pytest.raises(CheckpointError, match="infinite loop"):
        fetch(remote("/d.pth"))


def test_hugging_face_tells_size_and_hash_on_the_way(server, remote):
    linked = {"X-Linked-Size": str(len(DATA)), "X-Linked-Etag": f'"{"0" * 64}"'}
    server.redirects["/b.pth"] = (server.url("/a.pth"), linked)
    with pytest.raises(CheckpointError, match=rf"sha256 is {SHA256} instead of {'0' * 64}"):
        fetch(remote("/b.pth"))
    linked["X-Linked-Etag"] = f'"{SHA256}"'
    assert fetch(remote("/b.pth")).read_bytes() == DATA


def test_addresses_that_anybody_could_change_are_refused():
    wanted = RemoteFile("x", ("http://example.org/a.pth",), cache_folder() / "a.pth")
    with pytest.raises(CheckpointError, match="only https:// addresses are"):
        fetch(wanted)


def test_a_proxy_is_asked(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url("/").rstrip("/"))
    monkeypatch.setenv("no_proxy", "")
    wanted = RemoteFile("x", ("http://localhost:9/a.pth",), cache_folder() / "a.pth")
    assert fetch(wanted).read_bytes() == DATA
    assert server.requests[0][0] == "http://localhost:9/a.pth"


def test_without_a_network_the_message_says_what_to_put_where(server, remote, monkeypatch):
    monkeypatch.setenv("MMPANOPTIC_OFFLINE", "1")
    wanted = remote(size=len(DATA), sha256=SHA256)
    with pytest.raises(CheckpointError) as caught:
        fetch(wanted)
    message = str(caught.value)
    assert "MMPANOPTIC_OFFLINE is set" in message
    assert f"from {wanted.urls[0]} and put it at {wanted.path}" in message
    assert f"sha256 {SHA256}" in message
    wanted.path.parent.mkdir(parents=True)
    wanted.path.write_bytes(DATA)
    assert fetch(wanted) == wanted.path
    assert not server.requests


def test_files_that_come_by_hand_are_checked_as_well(remote):
    by_hand = RemoteFile(
        "mmpanoptic://x", (), cache_folder() / "x.pth", sha256=SHA256, by_hand="from PAGE"
    )
    with pytest.raises(CheckpointError, match=r"no server gives it to programs.*from PAGE"):
        fetch(by_hand)
    by_hand.path.parent.mkdir(parents=True)
    by_hand.path.write_bytes(DATA[:-1])
    with pytest.raises(DamagedCheckpointError, match=r"x\.pth is not mmpanoptic://x: its sha256"):
        fetch(by_hand)
    by_hand.path.write_bytes(DATA)
    assert fetch(by_hand) == by_hand.path
    page = RemoteFile("y", (), cache_folder() / "y.pth", by_hand="from PAGE")
    page.path.write_bytes(b"<html>sign in</html>")
    with pytest.raises(DamagedCheckpointError, match="it is a web page"):
        fetch(page)


def test_a_file_that_changed_in_the_cache_is_found_cheaply(remote):
    wanted = remote()
    path = fetch(wanted)
    stamp = path.stat().st_mtime_ns
    changed = bytearray(DATA)
    changed[1000] ^= 1
    path.write_bytes(changed)
    with pytest.raises(DamagedCheckpointError, match=r"its sha256 was .*//id --again"):
        fetch(wanted)
    os.utime(path, ns=(stamp, stamp))  # nothing shows at a glance
    fetch(wanted)
    with pytest.raises(DamagedCheckpointError, match="its sha256 was"):
        check_cached(wanted, completely=True)
    path.write_bytes(DATA)
    assert check_cached(wanted)["sha256"] == SHA256


def test_a_cache_that_cannot_be_written_is_named(server, remote, tmp_path, monkeypatch):
    blocked = tmp_path / "a file"
    blocked.write_text("")
    monkeypatch.setenv("MMPANOPTIC_HOME", str(blocked))
    with pytest.raises(CheckpointError, match=r"cannot write to .*MMPANOPTIC_HOME"):
        fetch(remote())


def test_a_full_disk_is_named_before_the_transfer(server, remote, monkeypatch):
    from types import SimpleNamespace

    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(CheckpointError, match=r"needs 0 MB and .* has 0 MB left"):
        fetch(remote())


def test_threads_download_a_file_once(server, remote):
    server.slow = 0.02
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(fetch, [remote()] * 4))
    assert {path.read_bytes() for path in paths} == {DATA}
    assert len(server.requests) == 1


def fetch_in_a_process(remote):
    return fetch(remote).read_bytes() == DATA


def test_processes_download_a_file_once(server, remote):
    server.slow = 0.02
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert all(pool.map(fetch_in_a_process, [remote()] * 3))
    assert len(server.requests) == 1


def test_progress_is_shown_in_megabytes(remote, monkeypatch):
    monkeypatch.setattr(download, "CHUNK", 100_000)
    shown = []

    def tracker(items, label, total):
        shown.append((label, total))
        return items

    with jobs.shown_by(tracker):
        fetch(remote())
    assert shown == [("a.pth", 4)]


def test_the_cache_has_a_place_on_every_platform(monkeypatch):
    monkeypatch.delenv("MMPANOPTIC_HOME")
    assert cache_folder().parts[-2:] == ("mmpanoptic", "weights")
