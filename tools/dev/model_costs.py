"""Write docs/model_costs.json, what each model costs, for docs/model_zoo.md."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmpanoptic import cli

ROOT = Path(__file__).parents[2]
COSTS = ROOT / "docs" / "model_costs.json"
EXAMPLES = """
  %(prog)s
  %(prog)s panoptic-deeplab_r52_8xb4-90k_cityscapes-512x1024
  OMP_NUM_THREADS=1 %(prog)s --time

--time takes the processor time of one image, from its array to the panoptic map, on one thread,
with folded batch normalisations and random weights (the model of the package has its own); of runs
below two seconds the second counts. Models that have a time keep it unless they are named; those
with the fewest operations come first.

Without it nothing is computed: the networks run on shapes alone (torch's fake tensors), for an
image of the size that the test pipeline makes of a usual image of the data set. A two-stage model
gets as many boxes and masks as its config allows at most; relation and occlusion heads are not run.
Models whose classes come from annotations (data of one's own, ADE20K, KITTI, IDD, Mapillary) are
left out, but for the one in the package.
"""
IMAGES = {
    "ShapesDataset": (128, 192),
    "CocoPanopticDataset": (480, 640),
    "CityscapesPanopticDataset": (1024, 2048),
}
"""Height and width of a usual image of each data set."""
GUEST = "TransformersPanopticSegmentor"
"""Type of the models whose networks are another library's."""
SHIPPED = {"panoptic-deeplab_r18-fine_1xb4-1k_own": ("nuclei", (256, 256))}
"""Models of the package by their config, with a usual image."""


def listed_models() -> list[str]:
    """Return the names of all configs that the metafiles list."""
    import yaml

    paths = sorted((ROOT / "configs").glob("*/metafile.yml"))
    return [
        model["Name"]
        for path in paths
        for model in yaml.safe_load(path.read_text(encoding="utf-8"))["Models"]
    ]


def costs_of(name: str) -> dict[str, Any] | None:
    """Count what a model costs; None where the data of the user decide.

    Args:
        name (str): Of a shipped config.

    Returns:
        dict | None: ``size`` (height and width of the network's input), ``parameters``, ``macs``,
        ``memory`` (most bytes of weights and maps at a time, float32), and of a two-stage model
        ``boxes`` and ``masks``.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    from mmpanoptic.apis.complexity import count_operations, peak_memory

    model, image = _build(name)
    if model is None:
        return None
    size = _input_size(model, image)
    found: dict[str, Any] = {"size": list(size)}
    network: Any = model
    if hasattr(model, "rpn_head"):
        network = _with_fixed_boxes(model)
        found |= {"boxes": network.boxes, "masks": network.masks}
    # Of "meta" tensors autocast knows no device.
    with FakeTensorMode(allow_non_fake_inputs=True):
        _become_fake(model)
        total = count_operations(network, size)[0]
        found |= {"parameters": total.parameters, "macs": total.flops // 2}
        return {**found, "memory": peak_memory(network, size)}


def seconds_of(name: str) -> float | None:
    """Take the processor time of one image, post-processing included.

    Args:
        name (str): Of a shipped config.

    Returns:
        float | None: Seconds of one thread; None where the data of the user decide.
    """
    import time

    import torch
    from mmengine.dataset import pseudo_collate

    from mmpanoptic.apis import build_test_pipeline, get_config, init_model
    from mmpanoptic.apis.inferencer import fuse_for_inference, iter_sources
    from mmpanoptic.datasets.shapes import ShapesSettings
    from mmpanoptic.datasets.shapes.generator import make_scene

    model_name, image = SHIPPED.get(name, (name, None))
    kind = get_config(name).dataset_type
    if image is None and kind not in IMAGES:
        return None
    height, width = image or IMAGES[kind]
    (source,) = iter_sources(make_scene(ShapesSettings(width, height), "val", 0).image)
    torch.set_num_threads(1)
    model: Any = fuse_for_inference(init_model(model_name, device="cpu"))
    pipeline = build_test_pipeline(model.cfg)
    seconds = 0.0
    for number in range(2):
        if number and seconds > 2:
            break
        sample = source.to_sample()
        start = time.process_time()
        with torch.inference_mode():
            model.test_step(pseudo_collate([pipeline(sample)]))
        seconds = time.process_time() - start
    return float(f"{seconds:.3g}")


def _become_fake(model: Any) -> None:
    """Give a model fake weights, on the CPU."""
    import torch

    future = torch.__future__
    before = future.get_overwrite_module_params_on_conversion()
    future.set_overwrite_module_params_on_conversion(True)
    try:
        model.to_empty(device="cpu")
    finally:
        future.set_overwrite_module_params_on_conversion(before)


def _build(name: str) -> tuple[Any, tuple[int, int]]:
    """Build a model without memory, and name the size of a usual image."""
    from mmpanoptic.apis import get_config, init_model
    from mmpanoptic.apis.conversion import model_of_config

    if name in SHIPPED:
        shipped, image = SHIPPED[name]
        return init_model(shipped, device="cpu").to("meta"), image
    kind = get_config(name).dataset_type
    if kind not in IMAGES or get_config(name).model.type == GUEST:
        return None, (0, 0)
    model, cfg = model_of_config(name, None)
    model.cfg = cfg
    return model.eval(), IMAGES[kind]


def _input_size(model: Any, image: tuple[int, int]) -> tuple[int, int]:
    """Run the test pipeline and the padding of the model on an empty image."""
    import numpy as np
    from mmengine.dataset import pseudo_collate

    from mmpanoptic.apis import build_test_pipeline
    from mmpanoptic.registry import MODELS

    sample = {"img": np.zeros((*image, 3), np.uint8), "img_path": "", "ori_shape": image}
    packed = build_test_pipeline(model.cfg)(sample)
    preprocessor: Any = MODELS.build(model.cfg.model.data_preprocessor)
    height, width = preprocessor(pseudo_collate([packed]), False)["inputs"].shape[2:]
    return height, width


def _with_fixed_boxes(model: Any) -> Any:
    """Wrap a two-stage model: its heads work on a given number of boxes, found or not."""
    import torch
    from torch import nn

    class FixedBoxes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.boxes = int(model.rpn_head.test_cfg.max_per_img)
            self.masks = int(model.roi_head.test_cfg.max_per_img)

        def forward(self, inputs: Any, mode: str) -> None:
            feats, _ = model.exchange(model.extract_feat(inputs))
            model.rpn_head(feats)
            head = model.roi_head
            for part, extractor, number in (
                (head.bbox_head, head.bbox_roi_extractor, self.boxes),
                (head.mask_head, head.mask_roi_extractor, self.masks),
            ):
                size = extractor.roi_layers[0].output_size
                shape = (number, extractor.out_channels, *size)
                part(torch.zeros(shape, device=inputs.device))

    return FixedBoxes().eval()


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.add("--time", action="store_true", help="take times in place of counting")
    parser.add("names", nargs="*", metavar="CONFIG", help="models to count anew (default: all)")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Count or time, and write."""
    names = args.names or listed_models()
    costs = _known()
    if args.time:
        if not args.names:
            names = [name for name in names if "seconds" not in costs.get(name, {})]
        names = sorted(names, key=lambda name: costs.get(name, {}).get("macs", 1e15))
        found: dict[str, Any] = {}
        for name in cli.track(names, "models"):
            found[name] = seconds = seconds_of(name)
            if seconds is not None:
                costs[name] = {**costs.get(name, {}), "seconds": seconds}
                _write(costs)  # what was timed stays if the rest is stopped
    else:
        found = {name: costs_of(name) for name in cli.track(names, "models")}
        for name, cost in found.items():
            if cost is not None:
                costs[name] = {**cost, **_time_of(costs.get(name))}
    _write(costs)
    yield f"{COSTS} written: {len(costs)} models"
    left = [name for name, cost in found.items() if cost is None]
    if left:
        yield f"left out, since the data decide on classes and sizes: {', '.join(left)}"


def _time_of(cost: Mapping[str, Any] | None) -> dict[str, Any]:
    """Keep what was timed when a model is counted again."""
    return {"seconds": cost["seconds"]} if cost and "seconds" in cost else {}


def _known() -> dict[str, Any]:
    import json

    return dict(json.loads(COSTS.read_text(encoding="utf-8"))) if COSTS.exists() else {}


def _write(costs: Mapping[str, Any]) -> None:
    """Write one model a line, in the order of the metafiles."""
    import json

    lines = [
        f"{json.dumps(name)}: {json.dumps(costs[name])}"
        for name in listed_models()
        if name in costs
    ]
    COSTS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
