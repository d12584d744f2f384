import pytest

from mmpanoptic.apis import find_config, get_config, list_configs
from mmpanoptic.registry import ConfigError

NAME = "panoptic-deeplab_r18-tiny_1xb8-500_shapes"


def test_shipped_configs_are_found_by_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = find_config(NAME)
    assert path.is_file()
    assert find_config(f"{NAME}.py") == find_config(f"panoptic_deeplab/{NAME}") == path
    assert get_config(NAME).model.type == "PanopticSegmentor"


def test_a_file_wins_over_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{NAME}.py").write_text("work_dir = 'own'\n")
    assert get_config(f"{NAME}.py").work_dir == "own"


@pytest.mark.parametrize(
    "base",
    [
        f"mmpanoptic::panoptic_deeplab/{NAME}.py",
        f"mmpanoptic::{NAME}",
        ["mmpanoptic::_base_/default_runtime.py"],
    ],
)
def test_a_config_anywhere_inherits_a_shipped_one(tmp_path, base):
    path = tmp_path / "own.py"
    path.write_text(f"_base_ = {base!r}\nlog_level = 'ERROR'\n")
    cfg = get_config(path)
    assert (cfg.log_level, cfg.runner_type) == ("ERROR", "PanopticRunner")
    assert "_scope_" not in str(cfg.to_dict())


def test_a_wrong_base_says_how_to_inherit(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(f"_base_ = '{NAME}.py'\n")
    with pytest.raises(ConfigError, match=f'_base_ = "mmpanoptic::panoptic_deeplab/{NAME}.py"'):
        get_config(path)
    path.write_text("_base_ = 'mmpanoptic::panoptic_deeplab/no_such.py'\n")
    with pytest.raises(FileNotFoundError, match="no_such"):
        get_config(path)
    path.write_text("_base_ = 'nobodys_package::a.py'\n")
    with pytest.raises(FileNotFoundError, match="there is no package nobodys_package"):
        get_config(path)


def test_configs_of_openmmlab_are_found_without_pkg_resources(tmp_path):
    path = tmp_path / "own.py"
    path.write_text("_base_ = 'mmdet::_base_/default_runtime.py'\n")
    assert get_config(path).default_scope == "mmdet"


def test_overrides_are_applied_and_checked():
    assert get_config(NAME, {"max_iters": 7}).max_iters == 7
    with pytest.raises(ConfigError, match="did you mean max_iters"):
        get_config(NAME, {"max_iter": 7})


def test_base_parts_are_not_listed():
    assert NAME in list_configs()
    assert "default_runtime" not in list_configs()


def test_a_wrong_name_suggests_the_right_one():
    with pytest.raises(FileNotFoundError, match=NAME):
        find_config(NAME.replace("tiny", "tinny"))
