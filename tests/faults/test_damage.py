"""Each region of the newest checkpoint, damaged in each way: named, and the one before is used."""

import os
import random
import shutil
import zipfile

import pytest
import torch

from mmpanoptic.checkpoints.integrity import DamagedCheckpointError, verify_checkpoint
from tests.engine.toy import assert_same, final_state, toy_config, train

REGIONS = ("header", "pickle", "tensor data", "central directory", "end record", "seal")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder of a run with checkpoints of iterations 5 and 10, and its end state."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("damage") / "run"
    return folder, final_state(train(toy_config(folder)))


def regions(path):
    """Start and end of each region of a checkpoint."""
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entries, directory = archive.infolist(), archive.start_dir
    largest = max(entries, key=lambda entry: entry.file_size)
    (pickled,) = (entry for entry in entries if entry.filename.endswith("data.pkl"))
    end = data.rindex(b"PK\x05\x06")

    def content(entry):
        name, extra = (
            int.from_bytes(data[entry.header_offset + at : entry.header_offset + at + 2], "little")
            for at in (26, 28)
        )
        start = entry.header_offset + 30 + name + extra
        return start, start + entry.file_size

    return {
        "header": (0, content(entries[0])[0]),
        "pickle": content(pickled),
        "tensor data": content(largest),
        "central directory": (directory, end),
        "end record": (end, end + 22),
        "seal": (end + 22, len(data)),
    }


def flip(data, start, end, draw):
    place = draw.randrange(start, end)
    return data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]


def zero(data, start, end, draw):
    return data[:start] + bytes(end - start) + data[end:]


def scramble(data, start, end, draw):
    return data[:start] + draw.randbytes(end - start) + data[end:]


def cut(data, start, end, draw):
    return data[: draw.randrange(start, end)]


def drop(data, start, end, draw):
    place = draw.randrange(start, end)
    return data[:place] + data[place + 1 :]


def insert(data, start, end, draw):
    place = draw.randrange(start, end)
    return data[:place] + draw.randbytes(7) + data[place:]


DAMAGES = (flip, zero, scramble, cut, drop, insert)
each_damage = pytest.mark.parametrize("damage", DAMAGES, ids=lambda function: function.__name__)
each_region = pytest.mark.parametrize("region", REGIONS)


def spoil(path, region, damage, seed=0):
    before = path.read_bytes()
    after = damage(before, *regions(path)[region], random.Random(seed))
    assert after != before
    path.write_bytes(after)


@each_damage
@each_region
def test_damage_is_found(finished, tmp_path, region, damage):
    for seed in range(20):
        path = shutil.copy(finished[0] / "iter_10.pth", tmp_path)
        path = tmp_path / "iter_10.pth"
        spoil(path, region, damage, seed)
        with pytest.raises(DamagedCheckpointError, match=r"iter_10\.pth is damaged"):
            verify_checkpoint(path)


def resume(finished, folder, spoil_newest):
    """Resume a copy of the run with a spoilt newest checkpoint, exactly; return the log."""
    torch.set_num_threads(1)
    shutil.copytree(finished[0], folder)
    (folder / "last_checkpoint").write_text(str(folder / "iter_10.pth"))
    spoil_newest(folder / "iter_10.pth")
    cfg = toy_config(folder)
    cfg.resume = True
    runner = train(cfg)
    assert len(runner.train_dataloader.dataset.drawn) == 5 * 2  # from iteration 5, not from 0
    assert_same(final_state(runner), finished[1])
    return "".join(path.read_text() for path in sorted(folder.rglob("*.log"))[1:])


SHORT = [("header", zero), ("tensor data", flip), ("seal", cut)]


@pytest.mark.parametrize(
    ("region", "damage"),
    [
        pytest.param(
            region,
            damage,
            marks=() if (region, damage) in SHORT else pytest.mark.faults,
            id=f"{region}-{damage.__name__}",
        )
        for region in REGIONS
        for damage in DAMAGES
    ],
)
def test_a_run_with_a_damaged_newest_checkpoint_goes_on_from_the_one_before(
    finished, tmp_path, region, damage
):
    log = resume(finished, tmp_path / "run", lambda path: spoil(path, region, damage))
    assert "iter_10.pth is damaged" in log


def replace_by_dangling_link(path):
    path.unlink()
    path.symlink_to(path.with_name("nowhere.pth"))


def replace_by_pipe(path):
    path.unlink()
    os.mkfifo(path)


def replace_by_archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "b")


WHOLE_FILES = {
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "text": lambda path: path.write_text("hello\n" * 500),
    "a web page": lambda path: path.write_text("<!DOCTYPE html><html>"),
    "a pointer of git-lfs": lambda path: path.write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:a\nsize 1\n"
    ),
    "deleted": lambda path: path.unlink(),
    "a dangling link": replace_by_dangling_link,
    "a pipe": replace_by_pipe,
    "another archive": replace_by_archive,
}


@pytest.mark.faults
@pytest.mark.parametrize("kind", WHOLE_FILES)
def test_a_run_whose_newest_checkpoint_is_none_goes_on_from_the_one_before(
    finished, tmp_path, kind
):
    log = resume(finished, tmp_path / "run", WHOLE_FILES[kind])
    assert "iter_10.pth" in log


@pytest.mark.faults
@pytest.mark.parametrize("pointer", ["", "nowhere.pth", "\0", "../../iter_5.pth", "x" * 5000])
def test_a_broken_pointer_does_no_harm(finished, tmp_path, pointer):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    (folder / "last_checkpoint").write_text(pointer)
    cfg = toy_config(folder)
    cfg.resume = True
    assert_same(final_state(train(cfg)), finished[1])
