"""Draw predictions next to the ground truth, from files in COCO-panoptic format."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmpanoptic import cli
from mmpanoptic.utils import read_json

if TYPE_CHECKING:
    from mmdet.structures import DetDataSample

    from mmpanoptic.datasets import PanopticDataset
    from mmpanoptic.structures import LabelTable, SegmentInfo
    from mmpanoptic.visualization import GalleryEntry

EXAMPLES = """
  %(prog)s data/shapes/annotations/panoptic_val.json predictions/predictions.panoptic.json \\
      data/shapes/val --out-dir gallery --per-image per_image.json
  (tools/test.py --out-dir writes the predictions, eval_panoptic.py --per-image the last file)
"""


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    png = "PNGs in the folder of its name"
    parser.add("gt_json", type=Path, metavar="GT_JSON", help=f"ground truth; {png}")
    parser.add("pred_json", type=Path, metavar="PRED_JSON", help=f"predictions; {png}")
    parser.add("images", type=Path, metavar="IMAGES", help="folder of the images")
    parser.add("--out-dir", old=["--out"], type=Path, required=True, help="folder of the gallery")
    parser.add("--num", type=cli.at_least(1), default=40, help="images to draw (default 40)")
    parser.take("per_image", help="rows of eval_panoptic.py in JSON, for captions")
    parser.take("palette")
    parser.add("--title", default="Ground truth and predictions")
    return parser


def read_dataset(gt_json: Path, images: Path) -> PanopticDataset:
    """Open the ground truth."""
    from mmpanoptic.datasets import PanopticDataset

    prefix = {"img": str(images), "seg": str(gt_json.with_suffix(""))}
    return PanopticDataset(str(gt_json), data_prefix=prefix, test_mode=True)


def make_sample(
    info: Mapping[str, Any], prediction: Mapping[str, Any], folder: Path, table: LabelTable
) -> DetDataSample:
    """Join the annotation of an image and its prediction in one sample."""
    from mmdet.structures import DetDataSample

    from mmpanoptic.structures import make_panoptic_data
    from mmpanoptic.utils.files import is_inside
    from mmpanoptic.utils.panoptic_png import read_panoptic_png
    from mmpanoptic.visualization import index_of_ids

    keys = ("img_path", "seg_map_path", "segments_info")
    sample = DetDataSample(metainfo={key: info[key] for key in keys})
    segments: list[SegmentInfo] = []
    for segment in prediction["segments_info"]:
        label = table.by_dataset_id(segment["category_id"])
        segments.append({**segment, "label": label.index, "isthing": label.isthing})
    if not is_inside(prediction["file_name"]):
        raise ValueError(f"file_name {prediction['file_name']!r} leads out of {folder}")
    ids = read_panoptic_png(folder / prediction["file_name"])
    sample.pred_panoptic_seg = make_panoptic_data(index_of_ids(ids, segments), segments)
    return sample


def draw_entries(args: argparse.Namespace, dataset: PanopticDataset) -> Iterator[GalleryEntry]:
    """Draw the first images, one after another.

    Raises:
        ValueError: If an image has no prediction.
    """
    import mmcv

    from mmpanoptic.visualization import GalleryEntry, PanopticVisualizer

    table = dataset.label_table
    visualizer = PanopticVisualizer(palette=args.palette)
    visualizer.dataset_meta = table.to_metainfo()
    entries = read_json(args.pred_json)["annotations"]
    predictions = {entry["image_id"]: entry for entry in entries}
    quality = {}
    if args.per_image is not None:
        quality = {row["image_id"]: row["pq"] for row in read_json(args.per_image)}
    for index in cli.track(range(min(args.num, len(dataset))), "images"):
        info = dataset.get_data_info(index)
        if info["img_id"] not in predictions:
            raise ValueError(f"{args.pred_json} has no prediction for image {info['img_id']!r}")
        prediction = predictions[info["img_id"]]
        sample = make_sample(info, prediction, args.pred_json.with_suffix(""), table)
        image = mmcv.imread(info["img_path"], channel_order="rgb")
        pq = quality.get(info["img_id"])
        yield GalleryEntry(
            Path(info["img_path"]).name,
            visualizer.draw_sample(image, sample),
            None if pq is None else 100 * pq,
        )


def run(args: argparse.Namespace) -> Iterator[str]:
    """Write the gallery and say where."""
    from mmpanoptic.visualization import write_gallery

    dataset = read_dataset(args.gt_json, args.images)
    entries = draw_entries(args, dataset)
    index = write_gallery(args.out_dir, entries, args.title, dataset.label_table)
    yield f"gallery: {index}\nsheet:   {index.with_name('sheet.png')}"


main = cli.Command(build_parser, run)
