from __future__ import annotations

import os
import zipfile
from concurrent.futures import ThreadPoolExecutor

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
