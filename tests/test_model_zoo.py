"""The model zoo shows what the metafiles say, and costs that are still true."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from torch import nn

from mmpanoptic.apis.complexity import peak_memory
from mmpanoptic.apis.conversion import model_of_config
from mmpanoptic.checkpoints.weights import manifest

from .tools.load_tool import load_tool

ROOT = Path(__file__).parent.parent
COSTS = json.loads((ROOT / "docs" / "model_costs.json").read_text(encoding="utf-8"))
MODELS = {
    model["Name"]: model
    for path in (ROOT / "configs").glob("*/metafile.yml")
    for model in yaml.safe_load(path.read_text(encoding="utf-8"))["Models"]
}
LEFT_OUT = ("_own", "_ade20k", "_mapillary", "_kitti-384x1280", "_idd-720x1280")
GUESTS = ("EoMT", "Mask2Former")  # networks of the transformers package, which few have
SHIPPED = "panoptic-deeplab_r18-fine_1xb4-1k_own"  # "nuclei"
TINY = "panoptic-deeplab_r18-tiny_1xb8-500_shapes"


@pytest.fixture(scope="module")
def rows():
    pytest.importorskip("sphinx")
    sys.path.insert(0, str(ROOT / "docs" / "extensions"))
    try:
        import model_zoo
    finally:
        sys.path.pop(0)
    return [dict(zip(model_zoo.COLUMNS, row, strict=True)) for row in model_zoo.zoo_rows()]


def test_every_model_of_the_metafiles_has_a_row_with_its_figures(rows):
    assert sorted(row["model"] for row in rows) == sorted(MODELS)
    for row in rows:
        for column, key in (("PQ published", "Published"), ("PQ measured", "Results")):
            plain = [e for e in MODELS[row["model"]].get(key, []) if "Variant" not in e]
            values = [str(e["Metrics"]["PQ"]) for e in plain if "PQ" in e["Metrics"]]
            assert row[column] == (values[0] if values else "—")
    by_name = {row["model"]: row for row in rows}
    assert by_name["solov2_r50_8xb2-90k_coco"]["other figures"].startswith("mask AP")
    assert by_name["cops_r52_e2e_1xb24-20k_cityscapes-512x1024"]["s, published"] == "1.8"


def test_weights_are_names_that_commands_take(rows):
    named = {part for row in rows for part in row["weights"].split(", ")} - {"—", "nuclei"}
    assert named
    assert {name.removeprefix("mmpanoptic://") for name in named} <= set(manifest())
    assert any(row["weights"] == "nuclei" for row in rows)


def test_every_model_has_its_costs_but_those_that_the_data_decide_on():
    guests = {name for name, model in MODELS.items() if model["In Collection"] in GUESTS}
    absent = {name for name in MODELS if name not in COSTS} - guests
    assert absent == {
        name
        for name in MODELS
        if name.endswith(LEFT_OUT) and name != SHIPPED and name not in guests
    }


@pytest.mark.parametrize(
    "name",
    [
        TINY,
        "panoptic-deeplab_x65_8xb4-90k_cityscapes-512x1024",
        "rap_r50_relation-finetune_8xb2-10k_coco",
        "solov2_r50_8xb2-90k_coco",
    ],
)
def test_the_number_of_parameters_is_still_true(name):
    model, _ = model_of_config(name, {"data_root": "no such folder"})
    assert COSTS[name]["parameters"] == sum(p.numel() for p in model.parameters())


def test_counting_again_gives_the_same():
    counted = {name: value for name, value in COSTS[TINY].items() if name != "seconds"}
    assert load_tool("dev/model_costs.py").costs_of(TINY) == counted


def test_a_time_is_that_of_the_whole_way_to_the_result(rows):
    seconds = load_tool("dev/model_costs.py").seconds_of(TINY)
    assert 0 < seconds < 60
    assert {row["model"]: row["s, CPU"] for row in rows}[TINY] == str(COSTS[TINY]["seconds"])


class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1, bias=False)

    def forward(self, inputs, mode):
        first = self.conv(inputs)
        second = first * 2
        del first
        return second + 1


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_memory_is_that_of_the_maps_that_live_at_once(device):
    weights, image, wide = 4 * 24, 4 * 3 * 100, 4 * 8 * 100
    found = peak_memory(Chain().to(device), (10, 10))
    assert found == weights + image + 2 * wide, "of three maps, one is freed before the last"
