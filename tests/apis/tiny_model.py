"""The demo's model with random weights, for tests that need some prediction."""

import torch

from mmpanoptic.apis import init_model
from mmpanoptic.datasets.shapes import SHAPES_TABLE

CONFIG = "panoptic-deeplab_r18-tiny_1xb8-500_shapes"


def write_checkpoint(path):
    """Write a checkpoint whose model finds things and stuff."""
    torch.manual_seed(1)
    model = init_model(CONFIG, device="cpu", cfg_options={"data_root": "no such folder"})
    model.init_weights()
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d) and module.bias is not None:
            # The predictors: spread their outputs, whatever the features' scale is.
            torch.nn.init.normal_(module.weight, std=3.0)
            torch.nn.init.normal_(module.bias, std=0.2)
    meta = {"dataset_meta": {**SHAPES_TABLE.to_metainfo(), "name": "shapes"}}
    torch.save({"meta": meta, "state_dict": model.state_dict()}, path)
    return path
