import json

from tests.apis.tiny_model import CONFIG

TOOL = "analysis_tools/get_flops.py"


def test_counts_a_network_whose_operations_are_known(run_tool):
    run_tool(TOOL, CONFIG, "--shape", 64, 96, "--depth", 2, "--json", "f.json")
    content = json.loads((run_tool.folder / "f.json").read_text())
    parts = {row["part"]: row for row in content["parts"]}
    # The stem's first convolution: 3 -> 16 channels, 3 x 3, to half the size; then 16 -> 16 and
    # 16 -> 32 at that size.
    pixels = 32 * 48
    assert parts["backbone.stem"]["flops"] == 2 * 9 * pixels * (3 * 16 + 16 * 16 + 16 * 32)
    heads = ("backbone", "semantic_head", "instance_head")
    assert parts["total"]["flops"] == sum(parts[name]["flops"] for name in heads)
    assert parts["total"]["parameters"] == sum(parts[name]["parameters"] for name in heads)


def test_four_times_the_pixels_are_four_times_the_operations(run_tool):
    for name, size in (("small", 64), ("large", 128)):
        run_tool(TOOL, CONFIG, "--shape", size, size, "--json", f"{name}.json")
    small, large = (
        json.loads((run_tool.folder / f"{name}.json").read_text())["parts"]
        for name in ("small", "large")
    )
    backbone = next(k for k, row in enumerate(small) if row["part"] == "backbone")
    assert large[backbone]["flops"] == 4 * small[backbone]["flops"]


def test_bad_shapes_are_refused(run_tool):
    assert "positive" in run_tool(TOOL, CONFIG, "--shape", 0, 5, status=2).stderr
