"""Commands of the documentation that need no more than what can be made here: they run."""

import json
import re
import shutil

import pytest

from mmpanoptic.datasets.shapes import ShapesSettings, generate_shapes

from .datasets.converters import test_ade20k, test_cityscapes, test_kitti_idd, test_mapillary
from .test_documented_commands import ROOT, commands_of, tool_of, words_of
from .tools.load_tool import load_tool
from .tools.test_search_tools import COCO as CODE

PAGES = ("docs/from_the_originals.md", "docs/datasets.md", "docs/dataset_converters.md")
COCO_TOOLS = ("coco_nas_split", "coco_panoptic2semantic", "coco_relations")
CONVERTERS = ("ade20k", "cityscapes", "idd", "kitti", "mapillary", *COCO_TOOLS)
RUNS = {
    *(f"dataset_converters/{name}.py" for name in CONVERTERS),
    *("search/describe.py", "search/choose.py"),
    *("analysis_tools/print_config.py", "analysis_tools/eval_panoptic.py"),
}


def documented():
    found = {
        " ".join(words_of(command)): command
        for page in PAGES
        for command in commands_of((ROOT / page).read_text(encoding="utf-8"))
        if command.startswith("python tools/")
    }
    return [command for command in found.values() if tool_of(words_of(command))[0] in RUNS]


COMMANDS = documented()


def make_coco(root):
    """Forty training images and two for validation, as COCO names them."""
    generate_shapes(root, {"train": 40, "val": 2}, ShapesSettings(48, 32))
    for split in ("train", "val"):
        (root / split).rename(root / f"{split}2017")
        for path in (root / "annotations").glob(f"*_{split}*"):
            path.rename(path.with_name(path.name.replace(split, f"{split}2017")))
    ids = json.loads((root / "annotations/panoptic_train2017.json").read_text())["images"][:3]
    root.with_name("published_val_ids.txt").write_text("\n".join(str(one["id"]) for one in ids))


def make_search(folder):
    """An architecture file and a log in the published formats."""
    lists = {"backbone": CODE[:40], "head": CODE[40:47], "inter": CODE[47:]}
    lists = {name: [int(digit) for digit in digits] for name, digits in lists.items()}
    (folder / "test_models").mkdir()
    (folder / "test_models" / "COCO_3.8G").write_text(json.dumps([lists]))
    entry = {f"{name}_rngs": digits for name, digits in lists.items()}
    (folder / "search_log.json").write_text(json.dumps([{**entry, "pq": 40.0}]))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Everything in its true layout."""
    folder = tmp_path_factory.mktemp("documented")
    data = folder / "data"
    make_coco(data / "coco")
    shutil.move(data / "published_val_ids.txt", folder)
    shutil.copytree(data / "coco", folder / "datasets" / "coco")
    test_cityscapes.make(data / "cityscapes")
    test_kitti_idd.make_kitti(data / "kitti_panoptic")
    test_kitti_idd.make_idd(data / "idd")
    test_ade20k.make(data / "ADEChallengeData2016")
    test_mapillary.make_both(data / "mapillary_vistas")
    make_search(folder)
    for name in ("GT", "PRED"):
        shutil.copy(data / "coco/annotations/panoptic_val2017.json", folder / f"{name}.json")
        shutil.copytree(data / "coco/annotations/panoptic_val2017", folder / name)
    return folder


def test_every_such_tool_is_documented():
    assert {tool_of(words_of(command))[0] for command in COMMANDS} == RUNS


@pytest.mark.parametrize("command", COMMANDS, ids=lambda text: text[13:100])
def test_a_documented_command_runs(made, command, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(folder)
    before = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    name, arguments = tool_of(words_of(command))
    if "coco_nas_split" in name and "--ids" not in arguments:
        arguments += ["--num-val", "10"]  # by default 5000, more than were made
    status = load_tool(name).main(arguments)
    out, err = capsys.readouterr()
    assert status == 0, err
    new = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} - before
    assert new or not name.startswith("dataset_converters/") or "mapillary" in name  # checks alone
    assert out
    for told in re.findall(r"\b((?:data|datasets)/[\w./-]+\.json)\b", out):
        assert (folder / told).is_file(), f"the output names {told}, which is not there"
