"""Panoptic-DeepLab on a backbone of your own, in one file; docs/own_backbone.md walks through it.

python tools/dataset_converters/shapes.py data/shapes
python examples/own_backbone.py train plain --data data/shapes
python examples/own_backbone.py train timm --model resnet18 --data data/shapes
python examples/own_backbone.py convert plain classifier.pth checkpoints/plain.pth
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from typing import Any, NamedTuple

from mmcv.cnn import ConvModule
from mmengine.config import Config
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmpanoptic.apis import get_config
from mmpanoptic.checkpoints.conversion import convert_published
from mmpanoptic.checkpoints.key_map import KeyMap, Layout
from mmpanoptic.engine.feature_maps import measure_feature_maps
from mmpanoptic.registry import MODELS, RUNNERS


# 1. The network: an image in, a tuple of feature maps out, fine to coarse.
@MODELS.register_module()
class PlainNet(BaseModule):
    """Stages of two 3x3 convolutions, each of which halves the size.

    Args:
        widths (tuple[int, ...]): Channels after the stem and after each stage.
        norm_cfg (dict | None): Config of the norm layers; BN by default.
        init_cfg (dict | None): As in mmengine.
    """

    def __init__(
        self,
        widths: tuple[int, ...] = (24, 32, 64, 128),
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        norm_cfg = norm_cfg or {"type": "BN"}
        self.stem = ConvModule(3, widths[0], 3, stride=2, padding=1, norm_cfg=norm_cfg)
        self.stages = nn.ModuleList(
            nn.Sequential(
                ConvModule(before, width, 3, stride=2, padding=1, norm_cfg=norm_cfg),
                ConvModule(width, width, 3, padding=1, norm_cfg=norm_cfg),
            )
            for before, width in pairwise(widths)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map ``(N, 3, H, W)`` to maps of stride 4, 8 and 16."""
        x, features = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return tuple(features)


# 2. What the rest of the model has to know about it.
class Backbone(NamedTuple):
    """A backbone's config and its feature maps.

    Attributes:
        config (dict): As the registry builds it.
        channels (tuple[int, ...]): Channels of the maps, fine to coarse.
        strides (tuple[int, ...]): Strides of the maps, fine to coarse.
    """

    config: dict[str, Any]
    channels: tuple[int, ...]
    strides: tuple[int, ...]


def plain() -> Backbone:
    """The network above."""
    return Backbone({"type": "PlainNet"}, channels=(32, 64, 128), strides=(4, 8, 16))


def timm_model(name: str, pretrained: bool = False) -> Backbone:
    """A network of timm: its maps of stride 4 and 8, and the coarsest."""
    import timm

    strides = timm.create_model(name, features_only=True, pretrained=False).feature_info.reduction()
    config = {
        "type": "TIMMBackbone",
        "model_name": name,
        "pretrained": pretrained,  # True needs a tag in the name, as resnet18.a1_in1k
        "out_strides": (4, 8, strides[-1]),
    }
    maps = measure_feature_maps(config)
    return Backbone(config, tuple(maps["feature_channels"]), tuple(maps["feature_strides"]))


# 3. The model: a shipped config with another backbone, and decoders that read its maps.
def make_config(backbone: Backbone, data_root: str, work_dir: str) -> Config:
    """Put a backbone under the small Panoptic-DeepLab for the generated dataset."""
    decoder = {
        "in_channels": backbone.channels,
        "in_strides": backbone.strides,
        # channels of the projections of all maps but the coarsest
        "project_channels": tuple(max(16, width // 4) for width in backbone.channels[:-1]),
        # dilations of the ASPP, in cells of the coarsest map: half of them at twice the stride
        "aspp_dilations": tuple(d * 16 // backbone.strides[-1] for d in (2, 4, 6)),
    }
    options = {
        # images are padded to a multiple of the coarsest stride, so that all maps align
        "model.data_preprocessor.pad_size_divisor": backbone.strides[-1],
        "model.semantic_head": decoder,
        "model.instance_head": decoder,
        # fusion works at the stride of the finest map
        "model.fusion_head.stride": backbone.strides[0],
        "data_root": data_root,
        "work_dir": work_dir,
        "custom_imports": {"imports": ["examples.own_backbone"]},
    }
    cfg = get_config("panoptic-deeplab_r18-tiny_1xb8-500_shapes", options)
    cfg.model.backbone = backbone.config
    return cfg


# 4. Weights: what the classifier's file calls the tensors, and what it has besides.
class PlainNetKeys(KeyMap):
    """A classifier's file: features.stem..., features.stages..., fc.weight, fc.bias."""

    layouts = (Layout(rules=((r"^backbone\.", "features."),), dropped=(r"fc\.",)),)


def convert(backbone: Backbone, key_map: type[KeyMap], source: str, out: str) -> str:
    """Write a checkpoint for ``load_from``; a tensor without a place is an error."""
    module = nn.ModuleDict({"backbone": MODELS.build(backbone.config)})
    return convert_published(source, out, key_map(module)).report()


def main(argv: list[str] | None = None) -> None:
    """Train or convert."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=("train", "convert"))
    parser.add_argument("kind", choices=("plain", "timm"))
    parser.add_argument("files", nargs="*", metavar="FILE", help="of convert: source and result")
    parser.add_argument("--model", default="resnet18", help="name of the model of timm")
    parser.add_argument("--pretrained", action="store_true", help="begin with timm's weights")
    parser.add_argument("--data", default="data/shapes", help="folder of the generated dataset")
    parser.add_argument("--work-dir", help="default: work_dirs/own_backbone_KIND")
    parser.add_argument("--weights", help="converted weights to start from")
    parser.add_argument("--iterations", type=int, default=500, help="default 500")
    parser.add_argument("--num-workers", type=int, default=1, help="default 1")
    args = parser.parse_args(argv)
    if args.task == "convert" and (args.kind != "plain" or len(args.files) != 2):
        parser.error("convert plain takes two files: the classifier's and the one to write")
    backbone = plain() if args.kind == "plain" else timm_model(args.model, args.pretrained)
    if args.task == "convert":
        print(convert(backbone, PlainNetKeys, *args.files))
        return
    cfg = make_config(backbone, args.data, args.work_dir or f"work_dirs/own_backbone_{args.kind}")
    cfg.max_iters, cfg.num_workers, cfg.load_from = args.iterations, args.num_workers, args.weights
    RUNNERS.build(cfg).train()


if __name__ == "__main__":
    main()
