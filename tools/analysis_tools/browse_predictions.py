"""Draw predictions next to the ground truth, from files in COCO-panoptic format."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mmcv
from mmdet.structures import DetDataSample
from mmengine.utils import track_iter_progress

from mmpanoptic.datasets import PanopticDataset
from mmpanoptic.structures import LabelTable, make_panoptic_data
from mmpanoptic.utils import read_json
from mmpanoptic.utils.panoptic_png import read_panoptic_png
from mmpanoptic.visualization import GalleryEntry, PanopticVisualizer, index_of_ids, write_gallery

EXAMPLES = """example:
  %(prog)s data/shapes/annotations/panoptic_val.json predictions/predictions.panoptic.json \\
      data/shapes/val --out gallery --per-image per_image.json
  (tools/test.py --out writes the predictions, eval_panoptic.py --per-image the last file)
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("gt_json", type=Path, help="ground truth; PNGs in the folder of its name")
    parser.add_argument("pred_json", type=Path, help="predictions; PNGs in the folder of its name")
    parser.add_argument("images", type=Path, help="folder of the images")
    parser.add_argument("--out", type=Path, required=True, help="folder of the gallery")
    parser.add_argument("--num", type=int, default=40, help="images to draw (default 40)")
    parser.add_argument("--per-image", type=Path, help="JSON of eval_panoptic.py, for captions")
    parser.add_argument("--title", default="Ground truth and predictions")
    return parser.parse_args(argv)


def read_dataset(gt_json: Path, images: Path) -> PanopticDataset:
    """Open the ground truth."""
    prefix = {"img": str(images), "seg": str(gt_json.with_suffix(""))}
    return PanopticDataset(str(gt_json), data_prefix=prefix, test_mode=True)


def make_sample(
    info: Mapping[str, Any], prediction: Mapping[str, Any], folder: Path, table: LabelTable
) -> DetDataSample:
    """Join the annotation of an image and its prediction in one sample."""
    keys = ("img_path", "seg_map_path", "segments_info")
    sample = DetDataSample(metainfo={key: info[key] for key in keys})
    segments = []
    for segment in prediction["segments_info"]:
        label = table.by_dataset_id(segment["category_id"])
        segments.append({**segment, "label": label.index, "isthing": label.isthing})
    ids = read_panoptic_png(folder / prediction["file_name"])
    sample.pred_panoptic_seg = make_panoptic_data(index_of_ids(ids, segments), segments)
    return sample


def draw_entries(args: argparse.Namespace, dataset: PanopticDataset) -> Iterator[GalleryEntry]:
    """Draw the first images, one after another.

    Raises:
        ValueError: If an image has no prediction.
    """
    table = dataset.label_table
    visualizer = PanopticVisualizer()
    visualizer.dataset_meta = table.to_metainfo()
    entries = read_json(args.pred_json)["annotations"]
    predictions = {entry["image_id"]: entry for entry in entries}
    quality = {}
    if args.per_image is not None:
        quality = {row["image_id"]: row["pq"] for row in read_json(args.per_image)}
    for index in track_iter_progress(range(min(args.num, len(dataset)))):
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


def main(argv: Sequence[str] | None = None) -> int:
    """Write the gallery; return the exit status."""
    args = parse_args(argv)
    try:
        dataset = read_dataset(args.gt_json, args.images)
        entries = draw_entries(args, dataset)
        index = write_gallery(args.out, entries, args.title, dataset.label_table)
    except (ValueError, OSError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"\ngallery: {index}\nsheet:   {index.with_name('sheet.png')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
