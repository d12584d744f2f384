from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.golden import DEFAULT_ROOT
from tests.tools.load_tool import load_tool

TOOL = "analysis_tools/eval_panoptic.py"
tool = load_tool(TOOL)
GOLDEN = DEFAULT_ROOT / "evaluation"

FAKE_PANOPTICAPI = """
from collections import namedtuple
from tests.reference import panoptic_quality as reference

class Stat:
    def __init__(self, stats):
        self.stats = stats

    def pq_average(self, categories, isthing):
        values = reference.average(self.stats, list(categories.values()), isthing)
        values["pq"] += {error}
        return values, {{}}

def pq_compute_single_core(proc_id, annotation_set, gt_folder, pred_folder, categories):
    from pathlib import Path
    stats = reference.new_statistics()
    print("Core: 0, 0 from 1 images processed")
    for gt, pred in annotation_set:
        maps = [
            reference.read_ids(Path(folder) / entry["file_name"])
            for folder, entry in ((gt_folder, gt), (pred_folder, pred))
        ]
        reference.image_statistics(
            maps[0], gt["segments_info"], maps[1], pred["segments_info"], stats
        )
    return Stat(stats)
"""


def _arguments(name: str) -> list:
    folder = GOLDEN / name
    return ["--gt_json_file", folder / "gt.json", "--pred_json_file", folder / "pred.json"]


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Call the tool in a folder of its own; gives its output and errors."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, status=0):
        assert tool.main([str(argument) for argument in arguments]) == status
        return capsys.readouterr()

    return call


def test_runs_as_a_script(run_tool):
    done = run_tool(TOOL, *_arguments("coco_mini"))
    assert "Panoptic quality by class" in done.stdout


def test_prints_tables_and_writes_everything(run):
    done = run(
        *_arguments("coco_mini"),
        *("--json", "out.json", "--per-image", "images.csv", "--worst", 2, "--nproc", 2),
    )
    expected = json.loads((GOLDEN / "coco_mini/expected.json").read_text())
    content = json.loads(Path("out.json").read_text())
    for group in ("All", "Things", "Stuff"):
        assert content[group] == expected["averages"][group]
    assert content["per_class"] == expected["averages"]["per_class"]
    assert f"{100 * expected['averages']['All']['pq']:.2f}" in done.out
    assert "Worst images" in done.out
    with Path("images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["image_id"]) for row in rows] == [
        image["image_id"] for image in expected["per_image"]
    ]
    totals = {
        key: sum(part[key] for part in expected["per_category_stats"].values())
        for key in ("tp", "fp", "fn")
    }
    assert {key: sum(int(row[key]) for row in rows) for key in totals} == totals


def test_folders_can_lie_elsewhere(run, tmp_path):
    for name in ("gt", "pred"):
        shutil.copytree(GOLDEN / "coco_random" / name, tmp_path / "maps" / name)
        shutil.copy(GOLDEN / f"coco_random/{name}.json", tmp_path / f"{name} list.json")
    run(
        *("--gt_json_file", tmp_path / "gt list.json"),
        *("--pred_json_file", tmp_path / "pred list.json"),
        *("--gt_folder", tmp_path / "maps/gt", "--pred_folder", tmp_path / "maps/pred"),
        *("--per-image", "images.json"),
    )
    assert len(json.loads(Path("images.json").read_text())) == 8


def test_broken_input_ends_with_the_list_of_problems(run):
    done = run(*_arguments("coco_invalid/missing_pred_png"), status=1)
    assert "[missing_file] image 11" in done.err
    assert "Traceback" not in done.err


def test_a_ground_truth_without_annotations_is_an_error(run):
    arguments = _arguments("coco_quirks/no_annotation_at_all")
    assert (
        "[empty_annotation] the ground truth lists no annotations" in run(*arguments, status=1).err
    )
    assert "0 images" in run(*arguments, "--parity").out


@pytest.mark.parametrize("option", ["--json", "--per-image"])
@pytest.mark.parametrize("name", ["gt.json", "pred.json"])
def test_what_is_written_never_replaces_what_was_read(run, tmp_path, option, name):
    shutil.copytree(GOLDEN / "coco_mini", tmp_path / "mini")
    arguments = ["--gt_json_file", "mini/gt.json", "--pred_json_file", "mini/pred.json"]
    before = (tmp_path / "mini" / name).read_bytes()
    done = run(*arguments, option, f"mini/{name}", status=1)
    assert "is an input and would be overwritten" in done.err
    assert (tmp_path / "mini" / name).read_bytes() == before


def test_parity_gives_a_number_and_a_loud_warning(run):
    arguments = _arguments("coco_quirks/gt_area_too_small")
    assert "impossible_iou" in run(*arguments, status=1).err
    done = run(*arguments, "--parity")
    assert "316.74" in done.out
    assert "THE RESULT IS MEANINGLESS" in done.err


def test_missing_fields_are_filled_on_request(run):
    arguments = _arguments("coco_invalid/gt_without_area")
    assert "missing_field" in run(*arguments, status=1).err
    assert "Things" in run(*arguments, "--fill-missing-fields").out


def test_empty_groups_are_null_in_json(run):
    arguments = _arguments("coco_quirks/only_things_present")
    run(*arguments, "--json", "out.json")
    content = json.loads(Path("out.json").read_text())
    assert content["Stuff"] == {"pq": None, "sq": None, "rq": None, "n": 0}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--per-image", "images.txt"], "must end in .csv or .json"),
        (["--nproc", "0"], "--nproc: must be a whole number of at least 1"),
    ],
)
def test_wrong_options_are_explained(run, options, text):
    assert text in run(*_arguments("coco_mini"), *options, status=2).err


@pytest.mark.parametrize(("error", "status"), [("0", 0), ("1e-16", 1)])
def test_comparison_with_panopticapi_is_bit_by_bit(run, tmp_path, monkeypatch, error, status):
    package = tmp_path / "path" / "panopticapi"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "evaluation.py").write_text(FAKE_PANOPTICAPI.format(error=error))
    monkeypatch.syspath_prepend(package.parent)
    done = run(*_arguments("coco_mini"), "--check-against-panopticapi", status=status)
    for name in ("panopticapi", "panopticapi.evaluation"):
        del sys.modules[name]
    assert ("same bits" in done.out) == (status == 0)


def test_comparison_says_how_to_get_panopticapi(run, monkeypatch):
    monkeypatch.setattr(tool, "find_spec", lambda name: None)
    done = run(*_arguments("coco_mini"), "--check-against-panopticapi", status=1)
    assert "pip install --no-deps panopticapi-lite" in done.err


@pytest.mark.optional
@pytest.mark.parametrize("name", ["coco_mini", "coco_random", "coco_quirks/only_stuff_present"])
def test_installed_panopticapi_computes_the_same_bits(run, name):
    pytest.importorskip("panopticapi")
    assert "same bits" in run(*_arguments(name), "--check-against-panopticapi").out
