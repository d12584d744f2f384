import pytest

from mmpanoptic.apis import find_config, get_config, list_configs

NAME = "panoptic-deeplab_r18-tiny_1xb8-500_shapes"


def test_shipped_configs_are_found_by_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = find_config(NAME)
    assert path.is_file()
    assert find_config(f"{NAME}.py") == find_config(f"panoptic_deeplab/{NAME}") == path
    assert get_config(NAME).model.type == "PanopticSegmentor"


def test_a_file_wins_over_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{NAME}.py").write_text("a = 1\n")
    assert get_config(f"{NAME}.py").a == 1


def test_base_parts_are_not_listed():
    assert NAME in list_configs()
    assert "default_runtime" not in list_configs()


def test_a_wrong_name_suggests_the_right_one():
    with pytest.raises(FileNotFoundError, match=NAME):
        find_config(NAME.replace("tiny", "tinny"))
