"""Curves are measured from real work, and pictures are drawn from the figures in docs."""

import json
import re

import pytest

from tests.tools.load_tool import TOOLS, load_tool

DOCS = TOOLS.parent / "docs"
tool = load_tool("analysis_tools/benchmark_curves.py")
drawing = load_tool("dev/draw_benchmarks.py")
writing = load_tool("dev/write_benchmarks.py")
parts = load_tool("analysis_tools/benchmark_parts.py")


@pytest.mark.parametrize(("power", "scale"), [(1, 2.0), (2, 1e-3)])
def test_the_exponent_is_that_of_a_power(power, scale):
    points = [(n, scale * n**power) for n in (1, 10, 100, 1000)]
    assert tool.exponent(points) == pytest.approx(power)
    assert tool.exponent(points[:1]) is None


@pytest.mark.parametrize(
    ("name", "size"), [("pq", 5), ("amwc", 1), ("opening", 20), ("training", 32 * 32)]
)
def test_a_curve_does_its_work(name, size, monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS.parent))
    found = tool.measure(tool.CURVES[name].make, size, 1)
    assert found["cpu_seconds"] > 0
    assert found["size"] == (size if name != "amwc" else 11_296)  # exact where it was asked about


@pytest.mark.parametrize("name", tool.POST)
def test_post_processing_of_each_system_does_its_work(name, monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS.parent))
    result = tool.POST[name][1]((128, 256), 6)()
    data = result[0] if isinstance(result, list) else result
    assert "pred_panoptic_seg" in data or "pred_instances" in data


def test_curves_are_printed_and_written(run_tool, tmp_path):
    out = tmp_path / "curves.json"
    done = run_tool(
        "analysis_tools/benchmark_curves.py", "opening", "--largest", 0.01, "--json", out
    )
    assert "opening: opening an annotation file" in done.stdout
    (curve,) = json.loads(out.read_text())["curves"].values()
    assert [point["size"] for point in curve["points"]] == [1000]
    done = run_tool("analysis_tools/benchmark_curves.py", "missing", status=2)
    assert "unknown curve missing" in done.stderr


def test_the_bars_are_those_of_the_json_and_of_the_page(tmp_path):
    rows = json.loads((DOCS / "benchmarks.json").read_text())
    page, readme = ((path).read_text() for path in (DOCS / "benchmarks.md", DOCS / "../README.md"))
    assert "docs/images/benchmark_bars.svg" in readme
    assert len(rows) == 4
    for row in rows:
        assert f"| {row['ratio']:.2f} |" in page
    drawn = (DOCS / "images" / "benchmark_bars.svg").read_text()
    assert drawn == drawing.draw_bars(rows)


def test_a_slower_bar_lies_left_of_one_and_long_ones_are_cut():
    rows = [{"work": "a & b", "against": "c", "ratio": ratio} for ratio in (0.7, 2, 99)]
    text = drawing.draw_bars(rows)
    assert ">a &amp; b<" in text
    assert ">against c<" in text
    starts = [float(x) for x in re.findall(r'rect x="([\d.]+)"', text)]
    widths = [float(x) for x in re.findall(r'rect x="[\d.]+" y="\d+" width="([\d.]+)"', text)]
    assert starts[0] + widths[0] == pytest.approx(starts[1], abs=0.2)
    assert starts[2] + widths[2] == pytest.approx(drawing.RIGHT, abs=0.2)


def test_curves_of_the_docs_fill_every_panel(tmp_path):
    curves = json.loads((DOCS / "curves.json").read_text())["curves"]
    assert curves.keys() == tool.CURVES.keys()
    drawing.draw_curves(curves, tmp_path / "curves.svg")
    text = (tmp_path / "curves.svg").read_text()
    for title in drawing.PANELS:
        assert title in text


def test_every_row_of_the_page_is_a_case_of_a_part(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS.parent))
    known = parts.find_parts(parts.PARTS_FOLDER)
    assert {name.partition("[")[0] for name in writing.ROWS} <= known.keys()
    assert set(writing.BARS) <= writing.ROWS.keys()
    for name in ("pdl_step", "pdl_targets", "start", "open_annotations"):
        module = parts.load_part(name, known[name])
        labels = {f"{name}[{case}]" if case else name for case in module.CASES}
        assert labels >= {row for row in writing.ROWS if row.partition("[")[0] == name}


def test_the_page_is_written_from_what_was_measured(run_tool, tmp_path):
    figures = [
        {
            "part": name,
            "ratio": 1.5 + number,
            "cpu_ratio": 2.25,
            "seconds": {"baseline": 3.0, "ours": 2.0},
        }
        for number, name in enumerate(writing.BARS)
    ]
    measured = {"machine": {"cpu": "a processor"}, "threads": 2, "parts": figures}
    (tmp_path / "parts.json").write_text(json.dumps(measured))
    page, bars = tmp_path / "page.md", tmp_path / "bars.json"
    page.write_text("# Page\n\n<!-- measured -->\nold\n<!-- /measured -->\n\nend\n")
    options = ("dev/write_benchmarks.py", tmp_path / "parts.json", "--page", page, "--bars", bars)
    run_tool(*options)
    text = page.read_text()
    assert "old" not in text
    assert text.endswith("<!-- /measured -->\n\nend\n")
    assert "cpu a processor" in text
    assert "| 1.50 | 2.25 | 3, 2 | 2 | `benchmark_parts.py" in text
    assert [bar["ratio"] for bar in json.loads(bars.read_text())] == [1.5, 2.5, 3.5, 4.5]
    page.write_text("no marks")
    assert "lacks the marks" in run_tool(*options, status=2).stderr
    assert "<!-- measured -->" in (DOCS / "benchmarks.md").read_text()
