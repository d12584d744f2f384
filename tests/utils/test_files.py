import os

import pytest

from mmpanoptic.utils import atomic_write, read_json, write_json


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
