"""Whether a checkpoint is whole, byte by byte, and which archives are refused."""

import os
import random
import resource
import zipfile
from contextlib import contextmanager

import pytest
import torch

from mmpanoptic.checkpoints import (
    CheckpointError,
    DamagedCheckpointError,
    load_checkpoint,
    save_checkpoint,
    verify_checkpoint,
)
from mmpanoptic.utils.files import WriteError

CONTENT = {"state_dict": {"w": torch.arange(5000.0), "v": torch.ones(3)}, "meta": {"iter": 1}}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "iter_1.pth"
    save_checkpoint(CONTENT, path)
    return path


def test_other_programs_read_a_sealed_checkpoint(file):
    for options in ({}, {"mmap": True}):
        content = torch.load(file, weights_only=True, **options)
        assert torch.equal(content["state_dict"]["w"], CONTENT["state_dict"]["w"])
    with zipfile.ZipFile(file) as archive:
        assert archive.comment.startswith(b"mmpanoptic sha256 ")
        assert archive.testzip() is None


def test_every_changed_byte_is_found(file):
    """All bytes of the end, where zip's own checksums see nothing, and some before it."""
    data = file.read_bytes()
    ends = [*range(40), *range(len(data) - 130, len(data))]
    for number, place in enumerate([*ends, *random.Random(0).sample(range(len(data)), 300)]):
        changed = bytearray(data)
        changed[place] ^= 1 << number % 8
        file.write_bytes(changed)
        with pytest.raises(DamagedCheckpointError, match=r"iter_1\.pth is damaged"):
            verify_checkpoint(file)
    file.write_bytes(data)
    verify_checkpoint(file)


def test_every_cut_is_found(file):
    data = file.read_bytes()
    ends = [*range(100), *range(len(data) - 130, len(data))]
    for size in [*ends, *random.Random(1).sample(range(len(data)), 50)]:
        file.write_bytes(data[:size])
        with pytest.raises(DamagedCheckpointError, match=r"iter_1\.pth is damaged"):
            verify_checkpoint(file)
    for more in (b"\0", b"x" * 100, data):
        file.write_bytes(data + more)
        with pytest.raises(DamagedCheckpointError):
            verify_checkpoint(file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (bytes(5000), "zeros"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:a\nsize 1\n", "git-lfs"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"hello\n" * 500, r"begins with b'hello"),
    ],
)
def test_what_is_no_checkpoint_is_damage_and_said(file, content, reason):
    file.write_bytes(content)
    with pytest.raises(DamagedCheckpointError, match=reason):
        verify_checkpoint(file)
    with pytest.raises(DamagedCheckpointError, match="another checkpoint"):
        load_checkpoint(file)


def test_a_first_block_of_zeros_is_damage(file):
    data = file.read_bytes()
    file.write_bytes(bytes(4096) + data[4096:])
    with pytest.raises(DamagedCheckpointError):
        verify_checkpoint(file)


def test_files_of_other_programs_are_read_and_checked_by_record(tmp_path):
    path = tmp_path / "other.pth"
    for new_format in (True, False):
        torch.save(CONTENT, path, _use_new_zipfile_serialization=new_format)
        assert load_checkpoint(path)["meta"] == {"iter": 1}
    torch.save(CONTENT, path)
    data = bytearray(path.read_bytes())
    data[data.index(CONTENT["state_dict"]["w"].numpy().tobytes()) + 77] ^= 8
    path.write_bytes(data)
    with pytest.raises(DamagedCheckpointError, match=r"record .*data/0 is wrong"):
        verify_checkpoint(path)


def test_a_bomb_is_refused_without_unpacking_it(tmp_path):
    path = tmp_path / "bomb.pth"
    torch.save(CONTENT, path)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("archive/data/9", "w", force_zip64=True) as member,
    ):
        for _ in range(300):
            member.write(bytes(1 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=r"data/9 is compressed.*never does"):
        load_checkpoint(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_members_that_claim_more_than_the_file_holds_are_refused(tmp_path):
    path = tmp_path / "overlap.pth"
    torch.save(CONTENT, path)
    data = path.read_bytes()
    start = data.rindex(b"PK\x01\x02", 0, data.rindex(b"data/0"))
    claimed = (1 << 30).to_bytes(4, "little")
    for first, last in ((20, 28), (24, 28)):  # both sizes, and the unpacked one alone
        changed = bytearray(data)
        changed[start + first : start + last] = claimed * ((last - first) // 4)
        path.write_bytes(changed)
        with pytest.raises(CheckpointError):
            load_checkpoint(path)


@contextmanager
def file_size_limit(size):
    """What a full disk does to writes, without one."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


@pytest.mark.parametrize("share", [0, 0.01, 0.2, 0.5, 0.9, 0.98, 0.999])
def test_a_disk_that_fills_up_at_any_point_names_file_and_bytes(file, share):
    size = file.stat().st_size
    before = file.read_bytes()
    text = r"cannot write .*iter_1\.pth: .*about 20,012 bytes are needed.* before is intact"
    with file_size_limit(int(share * size)), pytest.raises(WriteError, match=text):
        save_checkpoint(CONTENT, file)
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]
