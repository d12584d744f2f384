import hashlib
import json
import os
import shutil
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
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError
from mmpanoptic.utils.jobs import write_file
from mmpanoptic.utils.locks import exclusive_folder

INFO = {"description": "a test"}
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
        self.record = root / "out" / "panoptic.conversion.json"
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
            if path.is_file() and path != self.log and ".conversion." not in path.name
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
    work.sources[4].write_text("yyyyy")
    assert work.convert() == ["1.png", "2.png", "4.png"]
    assert (work.root / "4.png").read_text() == "yyyyy"
    work.sources[4].write_text("xxxxx")
    assert work.convert() == ["4.png"]
    assert work.contents() == before
    assert work.convert() == []


def test_new_times_alone_redo_nothing(work):
    work.convert()
    os.utime(work.sources[4], ns=(time.time_ns(), time.time_ns()))
    assert work.convert() == []


def test_older_sources_of_another_folder_are_converted(work):
    work.convert()
    other = work.root / "other"
    other.mkdir()
    for k, source in enumerate(work.sources):
        moved = other / source.name
        moved.write_text("z" * (k + 1))
        os.utime(moved, (1, 1))
        work.sources[k] = moved
    assert len(work.convert()) == 6
    assert (work.root / "3.png").read_text() == "zzzz"


def test_a_copy_of_everything_is_done_already(work, tmp_path):
    work.convert()
    shutil.copytree(work.root, tmp_path / "copy", ignore=shutil.ignore_patterns("copy"))
    assert Work(tmp_path / "copy").convert() == []


def test_the_record_tells_sources_and_options(work):
    work.convert()
    record = json.loads((work.root / "out" / "panoptic.conversion.json").read_text())
    assert record["options"] == {"description": "a test"}
    stamps = record["sources"]
    assert set(stamps) == {f"../{k}.src" for k in range(6)}
    size, mtime, digest = stamps["../2.src"]
    assert (size, mtime) == (3, os.stat(work.sources[2]).st_mtime_ns)
    assert digest == hashlib.blake2b(b"xxx", digest_size=16).hexdigest()
    assert record["images"]["2.png"]["sources"] == ["../2.src"]


def test_a_file_of_somebody_else_is_not_replaced(work):
    work.json.parent.mkdir()
    work.json.write_text("{}")
    with pytest.raises(ValueError, match="no record says"):
        work.convert()
    assert work.json.read_text() == "{}"


def test_inputs_are_never_overwritten(work):
    work.json = work.sources[3]
    with pytest.raises(ValueError, match=r"3\.src is an input and would be overwritten"):
        work.convert()
    assert work.sources[3].read_text() == "xxxx"


def refuse_odd(log, job):
    if int(job.key[0]) % 2:
        raise PanopticFormatError([FormatProblem("bad_field", f"odd {job.key}", "file")])
    return describe(log, job)


@pytest.mark.parametrize("nproc", [1, 2])
def test_the_problems_of_all_images_are_told_together(work, nproc):
    function, form = partial(refuse_odd, str(work.log)), PanopticFormat(CATEGORIES)
    with pytest.raises(PanopticFormatError) as caught:
        convert_to_json(function, work.jobs(), work.json, form, INFO, nproc)
    assert [p.detail for p in caught.value.problems] == ["odd 1.png", "odd 3.png", "odd 5.png"]
    assert not work.json.exists()
    assert work.convert() == ["1.png", "3.png", "5.png"]  # what was finished stays finished


SECOND = """
import sys
from pathlib import Path
from tests.datasets.converters.test_incremental import Work
Work(Path(sys.argv[1])).convert()
"""


def test_a_second_run_in_one_folder_is_refused(work):
    repo = Path(__file__).parents[3]
    command = [sys.executable, "-c", SECOND, str(work.root)]
    with exclusive_folder(work.json.parent, ".conversion.lock"):
        done = subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=120)
    assert f"is in use by process {os.getpid()}" in done.stderr
    assert not work.json.exists()
    assert len(work.convert()) == 6


def test_a_lost_json_is_made_again(work):
    work.convert()
    before = work.contents()
    work.json.unlink()
    assert len(work.convert()) == 6
    assert work.contents() == before


def test_other_settings_redo_everything(work):
    work.convert()
    assert len(work.convert(info={**INFO, "rule": 2})) == 6
    assert json.loads(work.json.read_text())["info"]["rule"] == 2


def test_a_set_can_shrink_and_grow(work):
    work.convert()
    before, source = work.contents(), work.sources.pop(2)
    assert work.convert() == []
    assert len(json.loads(work.json.read_text())["images"]) == 5
    assert "2.png" not in json.loads(work.record.read_text())["images"]
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
