from __future__ import annotations

import io
import tarfile

import pytest

from mmpanoptic.utils.archives import _open_version, is_file, is_folder, read_bytes

FILES = {"a.txt": b"first", "deep/b.txt": b"", "c.bin": bytes(range(256)) * 9}


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "set.tar"
    write(path, FILES)
    return path


def write(path, files, mode="w"):
    with tarfile.open(path, mode) as file:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))


def test_members_are_read(archive):
    assert {name: read_bytes(archive / name) for name in FILES} == FILES
    assert is_file(archive / "c.bin")
    assert not is_file(archive / "d.bin")
    assert is_folder(archive)
    assert is_folder(archive / "deep")
    assert not is_folder(archive / "c.bin")


def test_a_folder_named_like_an_archive_is_a_folder(tmp_path):
    (tmp_path / "x.tar").mkdir()
    (tmp_path / "x.tar" / "a.txt").write_bytes(b"plain")
    assert read_bytes(tmp_path / "x.tar" / "a.txt") == b"plain"


def test_a_missing_member_is_named(archive):
    with pytest.raises(FileNotFoundError, match=r"has no member 'd.bin'; its names are like"):
        read_bytes(archive / "d.bin")
    with pytest.raises(FileNotFoundError, match="no archive"):
        read_bytes(archive.with_name("none.tar") / "a.txt")


def test_members_outside_of_the_archive_are_not_reached(archive):
    archive.with_name("secret.txt").write_bytes(b"secret")
    with tarfile.open(archive, "a") as file:
        link = tarfile.TarInfo("link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "../secret.txt"
        file.addfile(link)
    for name in ("link.txt", "deep/../../secret.txt"):
        with pytest.raises(FileNotFoundError):
            read_bytes(f"{archive}/{name}")


@pytest.mark.parametrize("left", [5, 700, 1100])
def test_an_archive_that_ends_too_early_is_refused(archive, left):
    archive.write_bytes(archive.read_bytes()[:left])
    with pytest.raises(OSError, match=r"(damaged|ends inside|cut off).*fetch it again"):
        read_bytes(archive / "c.bin")


def test_an_archive_that_is_cut_while_it_is_read_is_an_error(archive):
    read_bytes(archive / "a.txt")
    state = archive.stat()
    opened = _open_version(str(archive), state.st_size, state.st_mtime_ns)
    archive.write_bytes(archive.read_bytes()[:600])
    with pytest.raises(OSError, match=r"ends inside 'c\.bin'"):
        opened.read("c.bin")


def test_a_compressed_archive_is_refused(tmp_path):
    path = tmp_path / "set.tar"
    write(path, FILES, "w:gz")
    with pytest.raises(OSError, match="no uncompressed tar"):
        read_bytes(path / "a.txt")


def test_a_changed_archive_is_read_again(archive):
    assert read_bytes(archive / "a.txt") == b"first"
    write(archive, {"a.txt": b"second, which is longer than all of it" * 200})
    assert read_bytes(archive / "a.txt").startswith(b"second")
