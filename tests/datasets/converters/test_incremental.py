import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from mmpanoptic.datasets.converters.incremental import (
    InstanceFormat,
    Job,
    PanopticFormat,
    convert_files,
    convert_to_json,
)
from mmpanoptic.utils.jobs import write_file

INFO = {"description": "a test", "version": 1}
CATEGORIES = [{"id": 1, "name": "a", "isthing": 1}]


def describe(log, job):
    """Copy the source and describe it; ``log`` counts the calls."""
    with Path(log).open("a") as file:
        file.write(f"{job.key}\n")
    size = len(job.sources[0].read_bytes())
    for output in job.outputs:
        write_file(output, job.sources[0].read_bytes())
    image = {"id": job.key, "file_name": job.key}
    annotation = {"image_id": job.key, "file_name": job.key, "segments_info": [{"area": size}]}
    return {"image": image, "annotation": annotation}


class Work:
    def __init__(self, root):
        self.root = root
        self.json = root / "out" / "panoptic.json"
        self.log = root / "log"
        self.sources = [root / f"{k}.src" for k in range(6)]
        for k, source in enumerate(self.sources):
            if not source.exists():
                source.write_text("x" * (k + 1))

    def jobs(self):
        return [Job(f"{s.stem}.png", (s,), (self.root / f"{s.stem}.png",)) for s in self.sources]

    def convert(self, nproc=1, info=INFO):
        self.log.write_text("")
        form = PanopticFormat(CATEGORIES)
        function = partial(describe, str(self.log))
        summary = convert_to_json(function, self.jobs(), self.json, form, info, nproc)
        called = sorted(self.log.read_text().split())
        assert len(called) == summary.done
        return called

    def contents(self):
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and path != self.log
        }


@pytest.fixture
def work(tmp_path):
    return Work(tmp_path)


def test_a_second_run_does_nothing(work):
    assert len(work.convert()) == 6
    before, changed = work.contents(), os.stat(work.json).st_mtime_ns
    assert work.convert() == []
    assert work.contents() == before
    assert os.stat(work.json).st_mtime_ns == changed


def test_missing_empty_and_outdated_outputs_are_redone(work):
    work.convert()
    before = work.contents()
    (work.root / "1.png").unlink()
    (work.root / "2.png").write_bytes(b"")
    os.utime(work.sources[4], ns=(time.time_ns(), time.time_ns()))
    assert work.convert() == ["1.png", "2.png", "4.png"]
    assert work.contents() == before
    assert work.convert() == []


def test_a_lost_json_is_made_again(work):
    work.convert()
    before = work.contents()
    work.json.unlink()
    assert len(work.convert()) == 6
    assert work.contents() == before


def test_other_settings_redo_everything(work):
    work.convert()
    assert len(work.convert(info={**INFO, "version": 2})) == 6
    assert json.loads(work.json.read_text())["info"]["version"] == 2


def test_a_set_can_shrink_and_grow(work):
    work.convert()
    before, source = work.contents(), work.sources.pop(2)
    assert work.convert() == []
    assert len(json.loads(work.json.read_text())["images"]) == 5
    work.sources.insert(2, source)
    assert work.convert() == ["2.png"]
    assert work.contents() == before


def test_the_number_of_processes_changes_nothing(work, tmp_path):
    work.convert(nproc=1)
    (tmp_path / "two").mkdir()
    other = Work(tmp_path / "two")
    other.convert(nproc=2)
    mine = {k: v for k, v in work.contents().items() if not k.startswith("two")}
    assert other.contents() == mine


def test_a_stopped_run_goes_on(work, monkeypatch):
    from mmpanoptic.datasets.converters import incremental

    def stopping(function, items, nproc, label):
        for count, item in enumerate(items):
            if count == 4:
                raise KeyboardInterrupt
            yield function(item)

    monkeypatch.setattr(incremental, "run", stopping)
    with pytest.raises(KeyboardInterrupt):
        work.convert()
    monkeypatch.undo()
    assert not work.json.exists()
    journal = work.json.with_name(".panoptic.json.journal")
    text = journal.read_text()
    journal.write_text(text + '["5.png", [[')  # the line that a power cut left
    assert work.convert() == ["4.png", "5.png"]
    assert not journal.exists()
    assert len(json.loads(work.json.read_text())["annotations"]) == 6


SCRIPT = """
import sys, time
from functools import partial
from pathlib import Path
from tests.datasets.converters.test_incremental import Work, describe, INFO, CATEGORIES
from mmpanoptic.datasets.converters.incremental import PanopticFormat, convert_to_json
def slow(log, job):
    time.sleep(0.3)
    return describe(log, job)
work, form = Work(Path(sys.argv[1])), PanopticFormat(CATEGORIES)
convert_to_json(partial(slow, str(work.log)), work.jobs(), work.json, form, INFO, 2)
"""


def test_a_killed_run_goes_on_and_gives_the_same_files(work, tmp_path):
    repo = Path(__file__).parents[3]
    child = subprocess.Popen([sys.executable, "-c", SCRIPT, str(work.root)], cwd=repo)
    journal = work.json.with_name(".panoptic.json.journal")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if journal.exists() and journal.read_text().count("\n") >= 3:
            break
        time.sleep(0.02)
    else:
        child.kill()
        pytest.fail("the run made no records in time; nothing was tested")
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not work.json.exists()
    time.sleep(1.5)  # the workers finish what they hold and end
    assert 0 < len(work.convert()) <= 4
    (tmp_path / "other").mkdir()
    other = Work(tmp_path / "other")
    other.convert()
    mine = {k: v for k, v in work.contents().items() if not k.startswith("other")}
    assert mine == other.contents()


def test_files_are_converted_only_where_needed(work):
    jobs = work.jobs()
    function = partial(describe, str(work.log))
    assert convert_files(function, jobs, "copy", work.root, 1).done == 6
    assert convert_files(function, jobs, "copy", work.root, 2).done == 0
    (work.root / "3.png").unlink()
    assert convert_files(function, jobs, "copy", work.root, 1).done == 1


def test_two_images_of_one_name_are_refused(work):
    jobs = [*work.jobs(), work.jobs()[0]]
    with pytest.raises(ValueError, match=r"the name 0\.png"):
        convert_to_json(describe, jobs, work.json, PanopticFormat([]), INFO)


@pytest.mark.parametrize("first_image", [None, 0, 1])
def test_instance_records_survive_the_json(first_image):
    form = InstanceFormat(CATEGORIES, first_image)
    records = [
        {"image": {"id": 7, "file_name": "b.png"}, "annotations": [{"area": 1}, {"area": 2}]},
        {"image": {"id": 3, "file_name": "a.png"}, "annotations": []},
    ]
    content = form.join(records)
    assert [a["id"] for a in content["annotations"]] == [1, 2]
    again = form.join(list(form.split(content).values()))
    assert again == content
