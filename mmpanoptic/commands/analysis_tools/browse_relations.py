"""Draw who lies in front of whom: the relation graph of images, annotated or predicted."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from mmpanoptic import cli
from mmpanoptic.structures import OVERLAP_FIELD, LabelTable
from mmpanoptic.utils.coco_file import InstanceJson, load_json_object
from mmpanoptic.utils.segmentations import decode

if TYPE_CHECKING:
    from mmpanoptic.visualization import GalleryEntry

EXAMPLES = """
  %(prog)s INSTANCES_JSON data/shapes/val --out-dir relations
  (tools/dataset_converters/coco_relations.py writes instances_val_with_relation.json)
  %(prog)s INSTANCES_JSON data/shapes/val --out-dir relations \\
      --model configs/rap/rap_r18-tiny_relation-finetune_1xb8-2k_shapes.py iter_2000.pth
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.add(
        "instances",
        type=Path,
        metavar="INSTANCES_JSON",
        help="instance JSON with the field overlap",
    )
    parser.add("images", type=Path, metavar="IMAGES", help="folder of the images")
    parser.add("--out-dir", old=["--out"], type=Path, required=True, help="folder of the gallery")
    parser.add("--num", type=cli.at_least(1), default=40, help="images to draw (default 40)")
    parser.add("--image-ids", nargs="+", metavar="ID", help="draw these images")
    parser.add("--scale", type=cli.at_least(1), default=1, help="enlarge small images (default 1)")
    parser.add(
        "--model",
        nargs=2,
        metavar=("CONFIG", "CHECKPOINT"),
        help="also draw what a model predicts, for images of the config's test dataset",
    )
    parser.take("device", "cfg_options", "trust")
    return parser


class Predictor:
    """A model and the images of its test dataset.

    Args:
        args (argparse.Namespace): The command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        from mmpanoptic.apis import init_model
        from mmpanoptic.registry import DATASETS

        config, checkpoint = args.model
        model: Any = init_model(config, checkpoint, args.device, args.cfg_options, args.trust)
        self.model = model
        self.dataset = DATASETS.build(self.model.cfg.test_dataloader.dataset)
        infos = (self.dataset.get_data_info(k) for k in range(len(self.dataset)))
        self.position = {info["img_id"]: k for k, info in enumerate(infos)}
        self.table = LabelTable.from_metainfo(self.model.dataset_meta)

    def draw(self, image: np.ndarray, image_id: Any, scale: int) -> np.ndarray:
        """Draw the detections of an image that meet another one."""
        from mmpanoptic.apis.relation_accuracy import detect_instances, predict_relations

        found, masks = detect_instances(self.model, self.dataset[self.position[image_id]])
        pairs = predict_relations(found, masks)
        chosen = sorted({k for pair in pairs for k in pair})
        place = {k: number for number, k in enumerate(chosen)}
        names = [
            self.table[self.table.thing_labels[label]].name
            for label in found.labels[chosen].tolist()
        ]
        full = masks.select(chosen).to_full().cpu().numpy()
        placed = [(place[a], place[b]) for a, b in pairs]
        return draw_scaled(image, list(full), names, placed, scale)


def choose_images(
    args: argparse.Namespace,
    content: Mapping[str, Any],
    by_image: Mapping[Any, Sequence[Mapping[str, Any]]],
) -> list[dict[str, Any]]:
    """Choose the images of the given ids, or the first ones with relations.

    Raises:
        ValueError: If an id is unknown, or no image has relations.
    """
    if args.image_ids:
        known = {str(image["id"]): image for image in content["images"]}
        unknown = [i for i in args.image_ids if i not in known]
        if unknown:
            raise ValueError(f"{args.instances} has no image {', '.join(unknown)}")
        return [known[i] for i in args.image_ids]
    related = [
        image
        for image in content["images"]
        if any(one.get(OVERLAP_FIELD) for one in by_image.get(image["id"], ()))
    ]
    if not related:
        raise ValueError(
            f"no annotation of {args.instances} has a filled field {OVERLAP_FIELD!r}; "
            "tools/dataset_converters/coco_relations.py adds it"
        )
    return related[: args.num]


def draw_image(
    image: np.ndarray,
    annotations: Sequence[Mapping[str, Any]],
    names: Mapping[Any, str],
    scale: int,
) -> np.ndarray:
    """Draw the instances of one image that have a relation."""
    fronts = {one["id"]: one.get(OVERLAP_FIELD, []) for one in annotations}
    involved = {i for behind, front in fronts.items() if front for i in (behind, *front)}
    chosen = [one for one in annotations if one["id"] in involved]
    position = {one["id"]: k for k, one in enumerate(chosen)}
    pairs = [
        (position[front], position[one["id"]])
        for one in chosen
        for front in fronts[one["id"]]
        if front in position
    ]
    height, width = image.shape[:2]
    masks = [decode(one["segmentation"], height, width) for one in chosen]
    texts = [names.get(one["category_id"], str(one["category_id"])) for one in chosen]
    return draw_scaled(image, masks, texts, pairs, scale)


def draw_scaled(
    image: np.ndarray,
    masks: Sequence[np.ndarray],
    names: Sequence[str],
    pairs: Sequence[tuple[int, int]],
    scale: int,
) -> np.ndarray:
    """Enlarge image and masks by a whole factor and draw them."""
    from mmpanoptic.visualization.relations import draw_relations

    size = (image.shape[1] * scale, image.shape[0] * scale)
    large = [
        cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
        for mask in masks
    ]
    if scale > 1:
        image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    return draw_relations(image, large, names, pairs)


def draw_entries(args: argparse.Namespace) -> Iterator[GalleryEntry]:
    """Draw the chosen images, one after another.

    Raises:
        OSError: If an image cannot be read.
    """
    from mmpanoptic.visualization import GalleryEntry
    from mmpanoptic.visualization.text import place_side_by_side

    reader = InstanceJson(load_json_object(args.instances), args.instances)
    content, by_image = reader.content, dict[Any, list[dict[str, Any]]]()
    for annotation in reader.annotations():
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    names = {number: name for (_, number), name in reader.names.items()}
    predictor = Predictor(args) if args.model else None
    for image in cli.track(choose_images(args, content, by_image), "relations"):
        path = args.images / image["file_name"]
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        if picture is None:
            raise OSError(f"cannot read the image {path}")
        drawn = draw_image(picture, by_image.get(image["id"], []), names, args.scale)
        if predictor is not None:
            predicted = predictor.draw(picture, image["id"], args.scale)
            drawn = place_side_by_side([("annotation", drawn), ("model", predicted)])
        yield GalleryEntry(path.name, drawn)


def run(args: argparse.Namespace) -> Iterator[str]:
    """Write the gallery and say where."""
    from mmpanoptic.visualization import write_gallery

    index = write_gallery(args.out_dir, draw_entries(args), "Who lies in front of whom")
    yield f"gallery: {index}"


main = cli.Command(build_parser, run)
