import json

import torch

from mmpanoptic.checkpoints.loading import load_checkpoint
from tests.golden import golden_dir

TOOL = "model_converters/efficientps.py"
CONFIG = "efficientps-maskrcnn-released_b5_16xb1-30k_cityscapes"


def test_a_checkpoint_of_the_authors_is_converted_completely(run_tool):
    path = golden_dir("efficientps_solov2") / "manifest_efficientps_cityscapes.json"
    manifest = json.loads(path.read_text())
    value = torch.full((), -1.0, dtype=torch.float16)
    state = {
        name: torch.zeros(shape, dtype=torch.int64)
        if name.endswith("num_batches_tracked")
        else value.expand(shape)  # one number in the file
        for name, shape in manifest.items()
    }
    torch.save({"meta": {"epoch": 160}, "state_dict": state, "optimizer": {}}, "model.pth")
    done = run_tool(TOOL, "model.pth", "ours.pth", "--config", CONFIG)
    assert f"{len(manifest)} tensors written to ours.pth" in done.stdout
    assert "0 tensors deliberately dropped" in done.stdout
    ours = load_checkpoint("ours.pth")
    scale = ours["state_dict"]["backbone.layers.6.bn.weight"]
    assert torch.allclose(scale, (value.abs() + 1e-3).expand(2048))
    assert "dataset_meta" in ours["meta"]
