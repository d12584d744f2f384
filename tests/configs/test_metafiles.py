"""metafile.yml, README.md and configs tell the same figures, published and measured."""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
METAFILES = sorted((ROOT / "configs").glob("*/metafile.yml"))
each_metafile = pytest.mark.parametrize("path", METAFILES, ids=lambda p: p.parent.name)
NAMES = ("PQ_st", "PQ_th", "PQ", "SQ", "RQ", "mIoU", "box AP", "mask AP", "AP", "top-1 error")
COLUMNS = {*NAMES, "mask AP50", "s per image", "output", "weights"}
FIELDS = {"Seconds per image": "s per image", "Output size": "output"}


def published(config):
    """Numbers of the field ``Published:`` in a config's header."""
    header = ast.get_docstring(ast.parse(config.read_text(encoding="utf-8")))
    line = re.search(r"^Published: (.*)$", header, re.MULTILINE)[1]
    found = re.findall(rf"(?<![\w.])({'|'.join(NAMES)}) (\d+\.\d)", line)
    return {name: float(value) for name, value in found}


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def plain(cell):
    """The text of a Markdown cell without links, up to its first remark."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", cell).strip()


def table_rows(readme):
    """Rows of all Markdown tables, as dicts from column to cell; the first cell is ``""``."""
    columns = None
    for line in readme.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            columns = None
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if columns is None:
            columns = ["", *cells[1:]]
        elif set(cells[0]) != {"-"}:
            assert len(cells) == len(columns), f"{readme}: {line}"
            yield dict(zip(columns, cells, strict=True))


def figures_of(row, ours):
    """What a row shows in the columns of published figures, or of ours."""
    suffix = " ours" if ours else ""
    found = {name: row.get(f"{name}{suffix}", "") for name in COLUMNS}
    return {name: cell for name, cell in found.items() if cell}


def entries(content):
    """Every figure of a metafile as (config or None, name of the row or None, ours, entry)."""
    (collection,) = content["Collections"]
    for entry in collection.get("Published", []):
        yield None, entry["Name"], False, entry
    for model in content["Models"]:
        for key in ("Published", "Results"):
            for entry in model.get(key, []):
                yield model["Name"], entry.get("Variant"), key == "Results", entry


def shown(entry):
    """What the README should show for an entry."""
    values = {name: str(value) for name, value in entry["Metrics"].items()}
    for field, column in FIELDS.items():
        if field in entry:
            values[column] = str(entry[field])
    if "Weights" in entry:
        values["weights"] = f"[file]({entry['Weights']})"
    return values


def find_row(rows, config, name):
    if name is None:
        found = [row for row in rows if f"({config}.py)" in row[""]]
    else:
        found = [row for row in rows if row[""] == name]
    assert len(found) == 1, f"{name or config}: {len(found)} rows"
    return found[0]


def test_every_system_has_a_metafile_and_the_index_lists_it():
    folders = {path.parent for path in (ROOT / "configs").glob("*/*xb*.py")}
    assert {path.parent for path in METAFILES} == folders
    index = read(ROOT / "model-index.yml")
    assert index["Import"] == [str(path.relative_to(ROOT)) for path in METAFILES]


@each_metafile
def test_entries_say_what_the_configs_say(path):
    content = read(path)
    (collection,) = content["Collections"]
    assert (ROOT / collection["README"]).is_file()
    assert (ROOT / collection["Code"]["URL"]).is_file()
    listed = set()
    for model in content["Models"]:
        assert model["In Collection"] == collection["Name"]
        config = ROOT / model["Config"]
        assert config.stem == model["Name"]
        metrics = {}
        for entry in model.get("Published", []):
            if "Variant" not in entry:
                assert not metrics.keys() & entry["Metrics"].keys(), "two figures of one name"
                metrics |= entry["Metrics"]
        assert metrics == published(config)
        if metrics:
            listed.add(config)
    assert listed == {config for config in path.parent.glob("*_*xb*.py") if published(config)}


@each_metafile
def test_every_figure_has_its_data_and_whose_it_is(path):
    for _, _, ours, entry in entries(read(path)):
        assert entry["Task"]
        assert entry["Metrics"]
        assert entry["Dataset"]
        assert ours != ("Source" in entry), "published figures name their source, ours have none"
        assert ("recalled" in entry.get("Source", "")) == entry.get("Recalled", False)


@each_metafile
def test_the_tables_show_the_figures_of_the_metafile_and_no_others(path):
    rows = list(table_rows(path.parent / "README.md"))
    expected = {}
    for config, name, ours, entry in entries(read(path)):
        key = (rows.index(find_row(rows, config, name)), ours)
        expected.setdefault(key, {}).update(shown(entry))
    found = {
        (number, ours): figures_of(row, ours)
        for number, row in enumerate(rows)
        for ours in (False, True)
        if set(figures_of(row, ours)) - {"output", "weights"}
    }
    assert found == expected


@each_metafile
def test_recalled_figures_are_marked_in_the_tables(path):
    rows = list(table_rows(path.parent / "README.md"))
    for config, name, ours, entry in entries(read(path)):
        row = find_row(rows, config, name)
        if not ours and "source" in row:
            assert row["source"] == ("recalled" if entry.get("Recalled") else "certain")
        assert "Recalled" not in entry or "source" in row
