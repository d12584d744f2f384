import errno
import os

import pytest

from mmpanoptic.utils import atomic_write, read_json, write_json
from mmpanoptic.utils.files import WriteError
from mmpanoptic.utils.jobs import write_file


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), atomic_write(path) as temporary:
        temporary.write_text("new \u00e9", encoding="ascii")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_write_keeps_the_suffix_and_makes_folders(tmp_path):
    path = tmp_path / "new" / "b.png"
    with atomic_write(path) as temporary:
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"x")
    assert path.read_bytes() == b"x"
    assert os.listdir(path.parent) == ["b.png"]


def test_new_files_get_the_usual_permissions(tmp_path):
    write_json(tmp_path / "a.json", {})
    (tmp_path / "b.json").write_text("{}")
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "b.json").stat().st_mode


def test_json_round_trip_and_a_broken_file_is_named(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, 2.5, None]})
    assert read_json(path) == {"a": [1, 2.5, None]}
    path.write_text('{"a": [1,')
    with pytest.raises(ValueError, match=r"a\.json is not a valid JSON file.*line 1"):
        read_json(path)


def write_big(path):
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    try:
        with atomic_write(path, 5000) as temporary:
            temporary.write_bytes(bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


def test_a_file_that_does_not_fit_is_named_with_its_bytes(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(
        WriteError, match=r"cannot write .*a\.bin: .*5,000 bytes are needed, .* intact"
    ):
        write_big(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize(
    ("code", "text"), [(errno.EIO, "Input/output"), (errno.ENOSPC, "No space left.*bytes are free")]
)
def test_a_disk_that_loses_what_it_took_is_an_error(tmp_path, monkeypatch, code, text):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fsync(handle):
        raise OSError(code, "x")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(WriteError, match=text):
        write_json(path, {})
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]
    code = errno.EINVAL  # from a file system that cannot flush
    write_json(path, {})
    assert path.read_text() == "{}\n"


def test_a_read_only_place_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(WriteError, match=r"cannot write .*b\.json: .*file is no folder"):
        write_json(tmp_path / "file" / "b.json", {})

    def mkstemp(**options):
        raise OSError(errno.EROFS, "x", f"{options['dir']}/.b.123.json")

    monkeypatch.setattr("tempfile.mkstemp", mkstemp)
    with pytest.raises(WriteError, match=r"b\.json: Read-only file system"):
        write_json(tmp_path / "b.json", {})


def test_errors_of_other_files_pass_unchanged(tmp_path):
    def read():
        raise PermissionError(errno.EACCES, "no", str(tmp_path / "source.png"))

    with pytest.raises(PermissionError, match=r"source\.png"), atomic_write(tmp_path / "a.png"):
        read()
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a.png"):
        (tmp_path / "none").read_bytes()


def test_files_of_jobs_are_named_too(tmp_path, monkeypatch):
    import pickle

    def replace(source, target):
        raise OSError(errno.ENOSPC, "x", source, None, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(WriteError, match=r"cannot write .*a\.png: .*3 bytes are needed") as caught:
        write_file(tmp_path / "a.png", b"abc")
    assert os.listdir(tmp_path) == []
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - from a worker process
    assert str(copy) == str(caught.value)
