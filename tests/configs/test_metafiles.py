"""metafile.yml and README.md of each system against its configs."""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
METAFILES = sorted((ROOT / "configs").glob("*/metafile.yml"))
each_metafile = pytest.mark.parametrize("path", METAFILES, ids=lambda p: p.parent.name)


def published(config):
    """Numbers of the field ``Published:`` in a config's header."""
    header = ast.get_docstring(ast.parse(config.read_text(encoding="utf-8")))
    line = re.search(r"^Published: (.*)$", header, re.MULTILINE)[1]
    found = re.findall(r"((?:box |mask )?(?:PQ|SQ|RQ|mIoU|AP)) (\d+\.\d)", line)
    return {name: float(value) for name, value in found}


def test_there_are_metafiles():
    assert {path.parent.name for path in METAFILES} >= {"panoptic_deeplab", "deeplabv3plus"}


@each_metafile
def test_entries_say_what_the_configs_say(path):
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    (collection,) = content["Collections"]
    assert (ROOT / collection["README"]).is_file()
    assert (ROOT / collection["Code"]["URL"]).is_file()
    listed = set()
    for model in content["Models"]:
        assert model["In Collection"] == collection["Name"]
        config = ROOT / model["Config"]
        assert config.stem == model["Name"]
        (result,) = model["Results"]
        assert result["Metrics"] == published(config)
        listed.add(config)
    assert listed == {config for config in path.parent.glob("*_*xb*.py") if published(config)}


@each_metafile
def test_the_table_shows_the_published_numbers(path):
    rows = (path.parent / "README.md").read_text(encoding="utf-8").splitlines()
    for model in yaml.safe_load(path.read_text(encoding="utf-8"))["Models"]:
        (row,) = [line for line in rows if f"({model['Name']}.py)" in line]
        cells = [cell.strip() for cell in row.split("|")]
        values = [str(value) for value in model["Results"][0]["Metrics"].values()]
        assert [cell for cell in cells if re.fullmatch(r"\d+\.\d", cell)] == values
