import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from mmpanoptic import cli
from mmpanoptic.checkpoints.loading import load_checkpoint
from mmpanoptic.nas import SearchSpace
from mmpanoptic.nas.auto_panoptic_cost import make_costs
from tests.nas.test_loops import records

from .load_tool import TOOLS, load_tool

SUPERNET = "auto-panoptic_supernet-1.3g_8xb2-90k_coco-nas"
TINY_SEARCH = "auto-panoptic_tiny-search_1xb8-12c_shapes"
TINY = "auto-panoptic_tiny_1xb8-500_shapes"
COCO = "32021320131330010010232210131221120202304123230200011120"
CODES = ["0" * 21, "1" * 21, "2" * 21, "012" * 7, "201" * 7, "120" * 7]


def test_an_architecture_is_described_without_building_it(run_tool):
    text = run_tool("search/describe.py", SUPERNET, COCO).stdout
    assert "mask: ATConv3x3 DWConv5x5 DFConv3x3 DFConv5x5" in text
    assert "f2b: r16 r4 r4 r4" in text
    widths = ["widths=[72,172,432,864,1728]", "model.neck.in_channels=[172,432,864,1728]"]
    found = run_tool("search/describe.py", SUPERNET, COCO, "--json", "--cfg-options", *widths)
    cost = json.loads(found.stdout)["cost"]
    assert cost["macs.backbone"] == 76552123200
    # Published: 45388972, with a level of the pyramid that never runs and rows of the background.
    assert cost["params"] == 45388972 - 609280 - 4 * 1025 - 257


def test_a_new_process_describes_an_architecture(run_script):
    """Nothing else has registered the parts before."""
    assert "bbox_head" in run_script("search/describe.py", TINY_SEARCH, CODES[3]).stdout


def test_a_published_file_without_suffix_is_described(run_tool):
    lists = {"backbone": COCO[:40], "head": COCO[40:47], "inter": COCO[47:]}
    content = [{name: list(map(int, digits)) for name, digits in lists.items()}]
    (run_tool.folder / "COCO_3.8G").write_text(json.dumps(content))
    assert COCO in run_tool("search/describe.py", SUPERNET, "COCO_3.8G").stdout
    done = run_tool("search/describe.py", SUPERNET, "ADE_3.8G", status=1)
    assert "no such file" in done.stderr


def test_a_network_is_chosen_from_the_published_log(run_tool, folder):
    """The same evaluations as a log give the same choice."""
    evaluations = json.loads((folder / "search.json").read_text())["evaluations"]
    log = [{"backbone_rngs": [*map(int, e["digits"])], "pq": e["fitness"]} for e in evaluations]
    (folder / "log.json").write_text(json.dumps(log))
    texts = [
        run_tool("search/choose.py", TINY_SEARCH, source, "--limit", "macs=6e8").stdout
        for source in (folder, folder / "log.json")
    ]
    assert texts[0] == texts[1]


@pytest.fixture
def folder(tmp_path):
    """Evaluations whose fitness falls with the number of choices 2."""
    evaluations = [{"digits": code, "fitness": 10.0 - code.count("2")} for code in CODES]
    (tmp_path / "search.json").write_text(json.dumps({"evaluations": evaluations}))
    return tmp_path


def test_a_network_within_limits_is_chosen_and_written(run_tool, folder):
    _, space, costs = tiny()
    limit = 6e8
    run_tool(
        "search/choose.py", TINY_SEARCH, folder, "--limit", f"macs={limit}",
        "--out", folder / "found", "--base", TINY,
    )  # fmt: skip
    arch = space.parse((folder / "found.json").read_text())
    assert costs.cost(arch)["macs"] <= limit
    from mmengine.config import Config

    written = Config.fromfile(folder / "found.py")
    assert written.model.backbone.choices == list(arch[:8])


def tiny():
    from mmpanoptic.apis import get_config
    from mmpanoptic.engine.config import resolve_config

    cfg = resolve_config(get_config(TINY_SEARCH))
    space = SearchSpace(cfg.search_space)
    return cfg, space, make_costs(space, cfg.model, **cfg.train_cfg.cost)


def test_a_curve_rises_with_the_limit(run_tool, folder):
    text = run_tool(
        "search/choose.py", TINY_SEARCH, folder, "--curve", "macs", "--points", 4
    ).stdout
    values = [
        float(row.split("|")[2])
        for row in text.splitlines()
        if row.startswith("| ") and "fit" not in row
    ]
    assert len(values) == 4
    assert values == sorted(values)


def test_a_limit_without_a_number_is_an_error(folder):
    tool = load_tool("search/choose.py")
    with pytest.raises(cli.UsageError, match="COST=GREATEST"):
        tool.read_limits(["macs"])


def test_latencies_of_a_supernet_are_measured(run_tool, tmp_path):
    out = tmp_path / "latency.json"
    size = ["--size", "64", "96", "--repeats", "1", "--warmup", "0", "--device", "cpu"]
    run_tool("search/measure_latency.py", TINY_SEARCH, out, *size)
    measured = json.loads(out.read_text())
    assert len(measured["choices_ms"]) == 21
    assert all(len(times) == 3 and min(times) >= 0 for times in measured["choices_ms"])


def test_closed_form_parameters_are_those_of_the_model():
    from mmengine.registry import init_default_scope

    from mmpanoptic.registry import MODELS

    init_default_scope("mmpanoptic")
    cfg, space, costs = tiny()
    for code in CODES[-2:]:
        arch = space.parse(code)
        with torch.device("meta"):
            model = MODELS.build(space.fix(cfg.model, arch))
        assert costs.cost(arch)["params"] == sum(p.numel() for p in model.parameters())


def test_an_exported_classifier_has_no_choices_of_heads(tmp_path):
    from mmengine.config import Config

    from mmpanoptic.apis import find_config
    from mmpanoptic.nas.export import write_config

    _, space, _ = tiny()
    base = find_config("auto-panoptic_tiny_1xb32-120_shapes-crops")
    path = tmp_path / "model.py"
    write_config(path, space, space.parse(CODES[3]), base)
    model = Config.fromfile(path).model
    assert model.backbone.choices == [0, 1, 2, 0, 1, 2, 0, 1]
    assert not {"roi_head", "f2b"} & set(model)


def test_networks_are_picked_from_the_worst_to_the_best():
    tool = load_tool("search/rank_quality.py")
    evaluations = [{"digits": str(i), "fitness": float(i)} for i in (4, 2, 0, 3, 1)]
    evaluations.append({"digits": "x", "fitness": None})
    assert [one["digits"] for one in tool.pick(evaluations, 3)] == ["0", "2", "4"]
    with pytest.raises(cli.UsageError, match="--num must lie within 2 and 5"):
        tool.pick(evaluations, 9)


def test_correlations_of_ranks():
    tool = load_tool("search/rank_quality.py")
    assert tool.correlations([1, 2, 3], [10, 20, 30]) == pytest.approx(
        {"spearman": 1, "kendall": 1}
    )
    assert tool.correlations([1, 2, 3, 4], [4, 3, 2, 1])["kendall"] == pytest.approx(-1)
    # 1 2 3 4 against 1 3 2 4: one of six pairs is turned round
    assert tool.correlations([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(
        {"spearman": 0.8, "kendall": 2 / 3}
    )


def demo(work, data):
    """Every stage with so few iterations that nothing is learned."""
    script = TOOLS / "dev" / "search_demo.py"
    options = ["--preset", "quick", "--data", str(data), "--work-dir", str(work)]
    env = {**os.environ, "PYTHONPATH": str(TOOLS.parent), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(script), *options],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_the_demo_of_all_stages_ends_alike_if_it_is_killed_in_the_middle(tmp_path):
    whole = demo(tmp_path / "whole", tmp_path / "data")
    out, _ = whole.communicate()
    assert whole.returncode == 0, out[-3000:]
    assert (tmp_path / "whole" / "2-search" / "search" / "pareto_macs.png").is_file()
    cut = demo(tmp_path / "cut", tmp_path / "data")
    reader = threading.Thread(target=cut.stdout.read, daemon=True)
    reader.start()
    while not records(tmp_path / "cut" / "2-search" / "search"):
        assert cut.poll() is None
        time.sleep(0.2)
    os.killpg(cut.pid, signal.SIGKILL)
    cut.wait()
    again = demo(tmp_path / "cut", tmp_path / "data")
    out, _ = again.communicate()
    assert again.returncode == 0, out[-3000:]
    assert "stage 2, supernet: done before" in out
    ends = [tmp_path / name / "4-retrain" / "iter_4.pth" for name in ("whole", "cut")]
    first, second = (load_checkpoint(end)["state_dict"] for end in ends)
    assert all(torch.equal(first[name], second[name]) for name in first)
    found = [json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("whole", "cut")]
    assert found[0]["architecture"] == found[1]["architecture"]
    assert found[0]["PQ"] == found[1]["PQ"]
