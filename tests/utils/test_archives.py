from __future__ import annotations

import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from mmpanoptic.utils import archives
from mmpanoptic.utils.archives import file_stamp, is_file, is_folder, read_bytes

FILES = {"train/a.txt": b"a" * 1000, "train/sub/b.txt": os.urandom(3000), "train/empty": b""}


@pytest.fixture
def archive(tmp_path):
    return pack(tmp_path / "train.zip", FILES)


def pack(path, files, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_members_are_read_with_and_without_their_common_folder(tmp_path, method):
    archive = pack(tmp_path / "train.zip", {**FILES, "__MACOSX/train/._a.txt": b"?"}, method)
    for name, data in FILES.items():
        assert read_bytes(archive / name) == data
        assert read_bytes(archive / name.removeprefix("train/")) == data
        assert read_bytes(f"{archive}/train/../{name}") == data
        assert is_file(archive / name)


def test_a_folder_beside_others_cannot_be_left_out(tmp_path):
    archive = pack(tmp_path / "both.zip", {"train/a": b"1", "val/a": b"2"})
    assert read_bytes(archive / "val/a") == b"2"
    assert not is_file(archive / "a")
    with pytest.raises(FileNotFoundError):
        read_bytes(archive / "a")


def test_folders(archive, tmp_path):
    assert all(map(is_folder, (archive, archive / "train", archive / "train/sub", tmp_path)))
    assert is_folder(archive / "sub")
    assert not is_folder(archive / "tra")
    assert not is_folder(tmp_path / "no.zip/train")


def test_ordinary_files_and_folders_named_like_archives(tmp_path):
    (tmp_path / "old.zip").mkdir()
    (tmp_path / "old.zip" / "a").write_bytes(b"plain")
    assert read_bytes(tmp_path / "old.zip" / "a") == b"plain"
    assert is_file(tmp_path / "old.zip" / "a")
    assert file_stamp(tmp_path / "old.zip" / "a")[0] == 5


def test_a_missing_member_or_archive_is_named(archive, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train\.zip has no member 'c.txt'.*train/a.txt"):
        read_bytes(archive / "c.txt")
    with pytest.raises(FileNotFoundError, match=r"no archive .*none\.zip"):
        read_bytes(tmp_path / "none.zip" / "a.txt")
    assert not is_file(tmp_path / "none.zip" / "a.txt")


def test_members_outside_the_archive_are_not_reached(archive, tmp_path):
    (tmp_path / "secret").write_bytes(b"s")
    with pytest.raises(FileNotFoundError, match="no member"):
        read_bytes(f"{archive}/../secret")


def test_a_changed_archive_is_read_again(archive):
    assert read_bytes(archive / "a.txt") == FILES["train/a.txt"]
    before = file_stamp(archive / "a.txt")
    pack(archive.with_name("new"), {"train/a.txt": b"new"})
    os.replace(archive.with_name("new"), archive)
    assert read_bytes(archive / "a.txt") == b"new"
    assert file_stamp(archive / "a.txt") != before


def damaged(path):
    data = bytearray(path.read_bytes())
    data[45] ^= 0xFF  # in the compressed data of the first member
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-30])


def forged(path):
    """Claim a smaller size than the data have."""
    data = path.read_bytes()
    path.write_bytes(data.replace((1000).to_bytes(4, "little"), (10).to_bytes(4, "little")))


@pytest.mark.parametrize("spoil", [damaged, cut, forged, lambda path: path.write_bytes(b"")])
def test_damage_is_reported_with_the_name(archive, spoil):
    spoil(archive)
    with pytest.raises(OSError, match=r"train\.zip.*(damaged|empty)"):
        read_bytes(archive / "train/a.txt")


def test_other_methods_are_refused(tmp_path):
    archive = pack(tmp_path / "x.zip", {"a": b"1" * 99}, zipfile.ZIP_BZIP2)
    with pytest.raises(OSError, match="another method than deflate"):
        read_bytes(archive / "a")


def test_encrypted_members_are_refused(archive):
    data = bytearray(archive.read_bytes())
    data[data.rindex(b"PK\x01\x02", 0, data.index(b"PK\x01\x02") + 4) + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(OSError, match="encrypted"):
        read_bytes(archive / "train/a.txt")


def test_threads_read_at_once(archive):
    names = [*FILES] * 50
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda name: read_bytes(archive / name), names)) == [
            FILES[name] for name in names
        ]


def test_forked_processes_share_what_is_open(archive):
    """The open archive has no file position that one process could move for another."""
    assert archives.open_archive_of(archive)
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            good = all(read_bytes(archive / n) == d for _ in range(200) for n, d in FILES.items())
            os._exit(0 if good else 1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4


def central_entry(data, member):
    """Place of a member's entry in the table of contents."""
    return data.index(member.encode(), data.index(b"PK\x01\x02")) - 46


def test_bombs_are_refused_before_they_unpack(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("a.png", "w") as out:
        for _ in range(100):
            out.write(bytes(1 << 20))
    with pytest.raises(OSError, match=r"a\.png.*would unpack .* bytes to 104,857,600"):
        read_bytes(path / "a.png")


@pytest.mark.parametrize("declared", [10, 999, 1001, 60 << 20])
def test_members_that_are_not_as_large_as_declared_are_refused(archive, declared):
    data = bytearray(archive.read_bytes())
    start = central_entry(data, "train/a.txt")
    data[start + 24 : start + 28] = declared.to_bytes(4, "little")
    archive.write_bytes(data)
    with pytest.raises(OSError, match=r"train/a\.txt.*damaged"):
        read_bytes(archive / "train/a.txt")
    assert read_bytes(archive / "train/sub/b.txt") == FILES["train/sub/b.txt"]


@pytest.mark.parametrize("offset", [7, 0xFFFFFFF0])
def test_entries_that_lead_nowhere_are_refused(archive, offset):
    data = bytearray(archive.read_bytes())
    start = central_entry(data, "train/a.txt")
    data[start + 42 : start + 46] = offset.to_bytes(4, "little")
    archive.write_bytes(data)
    with pytest.raises(OSError, match=r"train/a\.txt.*damaged: its entry leads to no file"):
        read_bytes(archive / "train/a.txt")


@pytest.mark.parametrize("place", range(0, 100, 9))
def test_a_broken_table_of_contents_is_an_error_of_the_system(archive, place):
    data = bytearray(archive.read_bytes())
    start = data.index(b"PK\x01\x02") + place
    data[start : start + 8] = b"\xff" * 8
    archive.write_bytes(data)
    with suppress(OSError):  # any other error would escape
        assert read_bytes(archive / "train/a.txt") == FILES["train/a.txt"]


@pytest.mark.parametrize("name", ["a\0b.png", "\ud800.png", "x.zip/\0"])
def test_names_that_no_file_can_have_are_errors_of_the_system(tmp_path, name):
    with pytest.raises(OSError, match=r"no file can have this name|no archive"):
        read_bytes(f"{tmp_path}/{name}")
