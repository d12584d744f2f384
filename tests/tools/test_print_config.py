import pytest

from tests.apis.tiny_model import CONFIG

TOOL = "analysis_tools/print_config.py"


@pytest.fixture
def configs(run_tool):
    folder = run_tool.folder / "my configs"
    folder.mkdir()
    (folder / "base.py").write_text(
        "a = 1\nmodel = dict(c=2, d=dict(e='x'))\nsame = 5\nl = [1, 2]\n"
    )
    (folder / "middle.py").write_text("_base_ = './base.py'\nmodel = dict(c=3)\nsame = 5\n")
    (folder / "leaf.py").write_text(
        "_base_ = './middle.py'\nmodel = dict(d=dict(e='$a'))\nnew = 7\n"
    )
    return folder


def lines(done):
    return dict(line.split(" = ", 1) for line in done.stdout.splitlines())


def test_each_value_names_its_file(run_tool, configs):
    shown = lines(run_tool(TOOL, configs / "leaf.py"))
    assert shown == {
        "a": "1  # my configs/base.py",
        "model.c": "3  # my configs/middle.py",
        "model.d.e": "1  # my configs/leaf.py: $a",
        "same": "5  # my configs/base.py",
        "l": "[1, 2]  # my configs/base.py",
        "new": "7  # my configs/leaf.py",
    }


def test_options_are_named_as_origin(run_tool, configs):
    shown = lines(run_tool(TOOL, configs / "leaf.py", "--cfg-options", "a=9", "model.c=4"))
    assert shown["a"] == "9  # --cfg-options"
    assert shown["model.c"] == "4  # --cfg-options"
    assert shown["model.d.e"] == "9  # my configs/leaf.py: $a"


def test_differences_of_two_configs(run_tool, configs):
    done = run_tool(TOOL, configs / "leaf.py", "--diff", configs / "middle.py")
    assert done.stdout.splitlines() == [
        "- model.d.e = 1  # my configs/leaf.py: $a",
        "+ model.d.e = 'x'  # my configs/base.py",
        "- new = 7  # my configs/leaf.py",
    ]


def test_shipped_configs_resolve_class_counts_and_count_parameters(run_tool):
    done = run_tool(TOOL, CONFIG, "--only", "model.semantic_head", "--parameters")
    assert "model.semantic_head.num_classes = 11  # " in done.stdout
    assert "$num_classes" in done.stdout
    assert "backbone: " in done.stdout
    assert all(
        line.startswith("model.semantic_head.") or line.endswith("parameters")
        for line in done.stdout.splitlines()
    )


def test_a_dataset_that_is_not_there_leaves_the_placeholder(run_tool):
    done = run_tool(TOOL, CONFIG.replace("1xb8-500_shapes", "1xb4-5k_own"))
    assert "model.semantic_head.num_classes = '$num_classes'" in done.stdout
    assert "warning: class counts are not resolved" in done.stderr


def test_wrong_names_are_errors(run_tool, configs):
    done = run_tool(TOOL, configs / "leaf.py", "--only", "nothing", status=2)
    assert "has nothing under 'nothing'" in done.stderr
    assert "error: there is no config" in run_tool(TOOL, "none.py", status=1).stderr


def test_a_search_shows_values_comments_and_options_left_out(run_tool, configs):
    (configs / "more.py").write_text(
        "crop = (3, 4)  # height, width\n"
        "train_pipeline = [dict(type='RandomCrop', crop_size='$crop')]\n"
        "model = dict(backbone=dict(type='DeepLabResNet', depth=18))\n"
    )
    shown = run_tool(TOOL, configs / "more.py", "--search", "crop").stdout.splitlines()
    assert "crop = (3, 4)  # my configs/more.py; height, width" in shown
    (size,) = [line for line in shown if line.startswith("train_pipeline.0.crop_size")]
    assert size.startswith("train_pipeline.0.crop_size = (3, 4)  # my configs/more.py: $crop; ")
    assert "pixels" in size
    (left_out,) = run_tool(TOOL, configs / "more.py", "--search", "stem_s").stdout.splitlines()
    assert left_out.startswith("model.backbone.stem_stride = 4  # default of DeepLabResNet; ")
    done = run_tool(TOOL, configs / "more.py", "--search", "corp", status=2)
    assert "no setting with 'corp'; did you mean crop?" in done.stderr


def test_a_search_through_all_shipped_configs(run_tool):
    lines = run_tool(TOOL, "--search", "crop_size").stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("crop_size = ")]
    assert "'$size_crop_size'" in line
    assert line.endswith(" configs; height, width")
    assert "did you mean base_lr" in run_tool(TOOL, "--search", "bas_lr", status=2).stderr
    assert "CONFIG, or --search WORD" in run_tool(TOOL, status=2).stderr
