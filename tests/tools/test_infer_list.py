"""Very many images, many processes, any of them killed: each image exactly once."""

import json
import os
import tarfile

import pytest

from mmpanoptic.apis.bulk_inference import Worker, segment_shards, start_run, write_index
from mmpanoptic.utils.panoptic_png import decode_panoptic_png
from tests.apis.tiny_model import CONFIG
from tests.tools.load_tool import load_tool

TOOL = "infer.py"
bulk = load_tool("dev/check_bulk_inference.py")


def test_killed_workers_lose_nothing_and_do_nothing_twice(tmp_path):
    count = 2500
    listed = bulk.make_images(tmp_path / "images", count)
    run = start_run(listed, tmp_path / "out", bulk.TABLE, {"head": "x"}, shard_size=90)
    killed, growth = bulk.run_killed(run, kills=5, seed=1)
    assert killed >= 3  # the others came when the process had just ended
    assert growth < 20 * 2**20
    seen = bulk.check_results(run, count)
    assert seen == {"done": count - 4, "damaged": 2, "absent": 2}
    assert write_index(run)["images"] == count - 4
    assert not list((tmp_path / "out").rglob(".*"))  # nothing half written stays


def test_any_number_of_workers_writes_the_same_files(tmp_path):
    listed = bulk.make_images(tmp_path / "images", 50)
    for world in (1, 3):
        run = start_run(listed, tmp_path / f"{world}", bulk.TABLE, {}, shard_size=8, form="png")
        for rank in range(world):
            list(segment_shards(bulk.BrightnessSegmenter(), run, Worker(rank, world)))
            assert (write_index(run) is not None) == (rank == world - 1)
    first, third = (
        {str(p.relative_to(tmp_path / n)): p.read_bytes() for p in (tmp_path / n).rglob("*.*")}
        for n in "13"
    )
    assert first == third
    assert len([name for name in first if name.endswith(".png")]) == 50


@pytest.mark.parametrize(
    ("variables", "rank", "world"),
    [
        ({}, 0, 1),
        ({"RANK": "3", "WORLD_SIZE": "8"}, 3, 8),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "4"}, 1, 4),
        (
            {
                "SLURM_ARRAY_TASK_ID": "14",
                "SLURM_ARRAY_TASK_MIN": "10",
                "SLURM_ARRAY_TASK_STEP": "2",
                "SLURM_ARRAY_TASK_COUNT": "5",
                "SLURM_PROCID": "1",
                "SLURM_NTASKS": "2",
            },
            5,
            10,
        ),
        ({"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "4", "RANK": "0"}, 2, 4),
    ],
)
def test_workers_of_torchrun_and_slurm(variables, rank, world):
    assert Worker.of_environment(variables) == Worker(rank, world)


@pytest.fixture
def listed(run_tool, shapes_root):
    """A list of three images, a damaged and an absent one."""
    images = sorted((shapes_root / "val").glob("*.jpg"))
    (run_tool.folder / "broken.jpg").write_bytes(b"?")
    lines = [*map(str, images[:2]), "broken.jpg", "no where.jpg", str(images[2])]
    (run_tool.folder / "list.txt").write_text("\n".join(lines))
    return lines


def segment(run_tool, checkpoint, *options, status=1):
    arguments = ["--list", "list.txt", CONFIG, checkpoint, "--device", "cpu", "--out-dir", "o"]
    return run_tool(TOOL, *arguments, "--shard-size", 2, *options, status=status)


def test_a_model_segments_a_list(run_tool, shapes_root, checkpoint, listed):
    done = segment(run_tool, checkpoint)
    assert "worker 1 of 1: 5 images in 3 shards, 0 of them done before" in done.stdout
    assert "shard 000001: 0 images, 2 left out" in done.stdout
    assert "3 images done, 2 left out; o/index.json" in done.stdout
    assert "left out: broken.jpg: " in done.stderr
    assert "left out: no where.jpg: there is no file 'no where.jpg'" in done.stderr

    out = run_tool.folder / "o"
    lines = [p.read_text().splitlines() for p in sorted((out / "segments").glob("*.jsonl"))]
    rows = [json.loads(line) for shard in lines for line in shard]
    assert [row["path"] for row in rows] == listed
    run_tool(TOOL, listed[4], CONFIG, checkpoint, "--device", "cpu", "--out-dir", "one")
    alone = json.loads((run_tool.folder / "one" / "panoptic.json").read_text())["annotations"][0]
    assert rows[4]["segments_info"] == alone["segments_info"]
    with tarfile.open(out / "panoptic" / "000002.tar") as archive:
        data = archive.extractfile(rows[4]["file_name"]).read()
    png = run_tool.folder / "one" / "panoptic" / alone["file_name"]
    assert (decode_panoptic_png(data, "a") == decode_panoptic_png(png.read_bytes(), "b")).all()


def test_the_same_command_goes_on_and_another_model_is_refused(run_tool, checkpoint, listed):
    segment(run_tool, checkpoint)
    out = run_tool.folder / "o"
    before = {path: path.stat().st_mtime_ns for path in (out / "panoptic").iterdir()}
    os.remove(out / "done" / "000001.json")
    done = segment(run_tool, checkpoint)
    assert "2 of them done before" in done.stdout
    assert "shard 000001" in done.stdout
    assert "shard 000000" not in done.stdout
    changed = [path.name for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert changed == ["000001.tar"]
    error = segment(run_tool, checkpoint, "--score-thr", 0.9).stderr
    assert "o/run.json is of another run: model differ; give another folder" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--heads"], "with --list FILE name the model alone"),
        (["--webcam"], "with --list FILE name the model alone"),
    ],
)
def test_what_does_not_go_with_a_list(run_tool, checkpoint, listed, options, message):
    assert message in segment(run_tool, checkpoint, *options, status=2).stderr


def test_options_of_a_list_need_one(run_tool, checkpoint):
    done = run_tool(TOOL, "a.jpg", CONFIG, checkpoint, "--format", "png", status=2)
    assert "--shard-size and --format are of --list FILE" in done.stderr


def test_an_empty_list_is_refused(run_tool, checkpoint):
    (run_tool.folder / "list.txt").write_text("")
    assert "list.txt names no image" in segment(run_tool, checkpoint).stderr
