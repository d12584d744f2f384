"""Say what is installed, or what a config or the folder of a run is."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from mmpanoptic import cli
from mmpanoptic.version import __version__

EXAMPLES = """
  %(prog)s                            # versions, devices, configs that come with the package
  %(prog)s work_dirs/run              # a run: its config, weights, classes, parts, parameters
  %(prog)s panoptic-deeplab_r18-tiny_1xb8-500_shapes
"""
PACKAGES = ("torch", "torchvision", "mmengine", "mmcv", "mmcv-lite", "mmdet", "mmsegmentation")
PARTS = (
    *("backbone", "neck", "semantic_head", "instance_head"),
    *("rpn_head", "roi_head", "fusion_head"),
)


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.take("config", nargs="?", help="config file, name of a shipped one, or folder of a run")
    parser.take("cfg_options")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Describe the installation or the model."""
    if args.config is None:
        yield from describe_installation()
    else:
        yield from describe_model(args)


def describe_installation() -> Iterator[str]:
    """Yield versions, devices and places."""
    import torch

    from mmpanoptic.apis import list_configs
    from mmpanoptic.apis.configs import config_root
    from mmpanoptic.checkpoints.download import cache_folder
    from mmpanoptic.ops import amwc, name_backends

    yield f"{'mmpanoptic':16} {__version__}, {Path(__file__).parents[1]}"
    installed = {dist.name: dist.version for dist in metadata.distributions()}
    for name in PACKAGES:
        yield f"{name:16} {installed.get(name, 'missing')}"
    devices = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    yield f"{'devices':16} {', '.join(devices) or 'CPU'}, {torch.get_num_threads()} threads"
    device = "cuda" if devices else "cpu"
    yield f"{'operators':16} {name_backends(device)}"
    yield f"{'solver of COPS':16} {'compiled' if amwc.is_available() else 'missing'}"
    yield f"{'configs':16} {len(list_configs())} in {config_root()}"
    yield f"{'weights':16} {cache_folder()}"


def describe_model(args: argparse.Namespace) -> Iterator[str]:
    """Yield what a config or a run's folder is; its data set need not be there for a run."""
    from mmpanoptic.apis import find_config, init_model

    model: Any = init_model(args.config, None, "cpu", args.cfg_options)
    yield f"{'config':16} {find_config(args.config)}"
    yield f"{'weights':16} {model.checkpoint or 'none: a config alone'}"
    classes, isthing = model.dataset_meta["classes"], model.dataset_meta["isthing"]
    for kind, wanted in (("things", True), ("stuff", False)):
        names = [name for name, is_one in zip(classes, isthing, strict=True) if is_one == wanted]
        yield f"{kind:16} {len(names)}: {', '.join(names)}"
    network = model.model if hasattr(model, "model") else model
    for name in PARTS:
        part = getattr(network, name, None)
        if part is not None:
            yield f"{name:16} {type(part).__name__}, {count(part)}"
    yield f"{'all':16} {type(network).__name__}, {count(network)}"


def count(part: Any) -> str:
    """Say how many parameters a part has."""
    return f"{sum(p.numel() for p in part.parameters()) / 1e6:.2f} million parameters"


main = cli.Command(build_parser, run)
