import csv
import json

import cv2
import pytest
import torch
from mmengine.config import Config

from mmpanoptic.apis.choice_latency import measure_choices
from mmpanoptic.nas.context import describe_data
from mmpanoptic.nas.cost import CostTable
from mmpanoptic.nas.export import export_models
from mmpanoptic.nas.report import write_report
from mmpanoptic.nas.space import SearchSpace
from mmpanoptic.registry import MODELS
from tests.engine.toy import toy_config
from tests.nas.toy import MODEL, SPACE

SPACE = SearchSpace(SPACE)


def result(digits, fitness, macs):
    metrics = {} if fitness is None else {"PQ": fitness}
    known = {"metrics": metrics, "cost": {"macs": macs}, "seconds": 1.0, "host": "here"}
    return {"digits": digits, "fitness": fitness, **known}


RESULTS = [
    result("00000", 3.0, 5.0),
    result("00001", 4.0, 5.0),
    result("00002", 1.0, 2.0),
    result("00010", None, 1.0),
    result("00011", 3.9, 9.0),
]


def test_a_report_has_tables_and_pictures(tmp_path):
    scores = [[1.0, 2.0]] * 3 + [[0.0, 0.0, 1.0]] * 2
    best = SPACE.parse("00001")
    write_report(tmp_path, SPACE, RESULTS, [best], {"scores": scores, "loop": "X"})
    rows = list(csv.DictReader((tmp_path / "evaluations.csv").open()))
    assert [row["fitness"] for row in rows] == ["3.0", "4.0", "1.0", "failed", "3.9"]
    assert [row["pareto_macs"] for row in rows] == ["0", "1", "1", "0", "0"]
    assert [row["model"] for row in rows] == ["", "0", "", "", ""]
    content = json.loads((tmp_path / "search.json").read_text())
    assert content["models"][0]["digits"] == "00001"
    assert content["pareto"] == {"macs": ["00002", "00001"]}
    assert content["evaluations"][3]["fitness"] is None
    for name in ("pareto_macs.png", "scoreboard.png"):
        assert cv2.imread(str(tmp_path / name)).std() > 10


def test_exported_configs_and_weights_make_the_network(tmp_path):
    base = tmp_path / "configs" / "base.py"
    base.parent.mkdir()
    base.write_text(f"model = {MODEL!r}\n")
    only_backbone = tmp_path / "configs" / "part.py"
    only_backbone.write_text(f"model = dict(backbone={MODEL['backbone']!r}, type='Other')\n")
    supernet = MODELS.build(MODEL)
    arch = SPACE.parse("01121")
    bases = {"retrain": base, "pretrain": only_backbone}
    export_models(tmp_path / "models", supernet, SPACE, [arch], RESULTS, bases)
    cfg = Config.fromfile(tmp_path / "models" / "model_0_retrain.py")
    subnet = MODELS.build(cfg.model)
    weights = torch.load(tmp_path / "models" / "model_0.pth", weights_only=True)
    subnet.load_state_dict(weights["state_dict"])
    assert SPACE.parse((tmp_path / "models" / "model_0.json").read_text()) == arch
    part = Config.fromfile(tmp_path / "models" / "model_0_pretrain.py").model
    assert part.backbone.choices == [0, 1, 1]


def test_latencies_add_up_and_come_back_from_their_file(tmp_path):
    supernet = MODELS.build(MODEL).eval()
    inputs = torch.randn(2, 3, 16, 16)
    measured = measure_choices(supernet, lambda: supernet(inputs), repeats=3, warmup=1)
    assert measured["decisions"] == list(SPACE.decisions)
    assert [len(times) for times in measured["choices_ms"]] == list(SPACE.num_choices)
    assert all(time > 0 for times in measured["choices_ms"] for time in times)
    (tmp_path / "l.json").write_text(json.dumps(measured))
    table = CostTable(SPACE)
    for count in SPACE.num_choices:
        table.add_decision("all", macs=[1] * count)
    table.add_latencies(tmp_path / "l.json")
    expected = measured["base_ms"] + sum(times[1] for times in measured["choices_ms"])
    assert table.cost((1, 1, 1, 1, 1))["latency"] == pytest.approx(expected)


def test_latencies_of_another_space_are_an_error(tmp_path):
    content = {"base_ms": 1, "decisions": list(SPACE.decisions), "choices_ms": [[1.0]]}
    (tmp_path / "l.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="another search space"):
        CostTable(SPACE).add_latencies(tmp_path / "l.json")


def test_the_context_knows_the_data_but_not_its_folder(tmp_path):
    def described(root, text):
        root.mkdir()
        (root / "ann.json").write_text(text)
        cfg = toy_config(root)
        dataset = {"type": "ToyDataset", "data_root": str(root), "ann_file": "ann.json"}
        cfg.train_dataloader.dataset = cfg.val_dataloader.dataset = dataset
        return describe_data(cfg)

    one = described(tmp_path / "a", "1")
    assert one == described(tmp_path / "b", "1")
    assert one != described(tmp_path / "c", "2")
