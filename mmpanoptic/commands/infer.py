"""Segment images, folders, videos or what a camera sees: panoptic PNGs, COCO JSON, overlays."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmpanoptic import cli

if TYPE_CHECKING:
    from mmpanoptic.apis import PanopticInferencer
    from mmpanoptic.utils.format_errors import PanopticFormatError
    from mmpanoptic.visualization import DrawStyle

EXAMPLES = """
  %(prog)s street.jpg work_dirs/demo           # a run: its own config, its best or newest weights
  %(prog)s street.jpg work_dirs/demo/config.py work_dirs/demo/last.pth
  %(prog)s photos/ CONFIG CHECKPOINT --out-dir out --no-overlay --batch-size 4
  %(prog)s a.jpg b.png 'more/**/*.jpg' CONFIG CHECKPOINT --score-thr 0.5
  %(prog)s drive.mp4 CONFIG CHECKPOINT                 # frames, and the drawings as a video
  %(prog)s CONFIG CHECKPOINT --webcam                  # a window; ESC or q ends it
  %(prog)s cells.png --model nuclei                    # a model that comes with mmpanoptic

CONFIG is a file or the name of a shipped config. It is Python and gets executed: use only those
you trust. The classes come from the checkpoint; no dataset is needed.

A frame of street.mp4 is called street/000001.

written: OUT/panoptic.json and OUT/panoptic/NAME.png (ids, R + 256 G + 65536 B, 0 = void),
         OUT/overlay/NAME.png (of a video OUT/overlay/NAME.mp4, and OUT/segments/NAME.jsonl, a
         line a frame; track_id and colour of a thing stay from frame to frame); with --heads
         OUT/heads/NAME_center.png and NAME_offset.png, or of COPS NAME_class_cost.png,
         NAME_component.png, and of each distance d NAME_cost_{d}_row.png,
         NAME_cost_{d}_column.png and NAME_cut_{d}.png, and all of them on NAME_sheet.png
"""


class SplitWords(argparse.Action):
    """Tell the inputs from the model behind them: the folder of a run, or CONFIG CHECKPOINT."""

    def __call__(  # noqa: D102
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        words = [str(word) for word in values or ()]
        namespace.inputs, namespace.config, namespace.checkpoint = [], None, None
        if not words:
            return
        is_alone = len(words) == 1 or (Path(words[-1]).is_dir() and not is_config(words[-2]))
        namespace.inputs = words[: -1 if is_alone else -2]
        namespace.config, namespace.checkpoint = words[-1 if is_alone else -2], None
        if not is_alone:
            namespace.checkpoint = words[-1]


def is_config(word: str) -> bool:
    """Tell a config from an image by its name."""
    if Path(word).suffix in (".py", ".json", ".yaml", ".yml"):
        return True
    from mmpanoptic.apis import list_configs

    return Path(word).name in list_configs()


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.add(
        "words",
        nargs="*",
        action=SplitWords,
        metavar="INPUT",
        help="images, folders (with sub-folders), patterns such as 'photos/**/*.jpg', videos; "
        "behind them the model: the folder of a run, which stands for its own config and its best "
        "checkpoint (else its newest), or CONFIG CHECKPOINT: a config file or the name of a "
        "shipped config, and weights",
    )
    parser.add("--model", metavar="NAME", help="a model that comes with mmpanoptic: nuclei")
    parser.take("device", "batch_size")
    parser.add("--out-dir", type=Path, default=Path("outputs"), help="default: outputs")
    parser.add(
        "--webcam",
        nargs="?",
        type=cli.at_least(0),
        const=0,
        metavar="NUMBER",
        help="show what a camera sees (default: the first one) and write nothing",
    )
    parser.add(
        "--score-thr",
        type=cli.at_least(0, float),
        default=0.0,
        help="leave out things with a lower score; their pixels become void (default: none)",
    )
    parser.add("--no-overlay", action="store_true", help="do not draw")
    parser.add(
        "--heads",
        action="store_true",
        help="also draw centre heatmap and offsets (Panoptic-DeepLab; the hue is the direction to "
        "the centre, the saturation the distance) or costs, cuts and components (COPS; blue edges "
        "attract, red ones repel)",
    )
    parser.add("--alpha", type=cli.at_least(0, float), help="weight of the overlay's fill, 0 to 1")
    parser.take("palette", "cfg_options", "trust")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Segment, write, and say what was found.

    Raises:
        Failure: If images were left out.
    """
    take_shipped_model(args)
    if args.config is None or bool(args.inputs) == (args.webcam is not None):
        raise cli.UsageError(
            "name images, folders or videos in front of the model, or take --webcam"
        )
    cli.complete_model(args)
    from mmpanoptic.apis import PanopticInferencer
    from mmpanoptic.apis.videos import DrawingVideos, SegmentLines
    from mmpanoptic.visualization import DrawStyle

    alpha = DrawStyle.alpha if args.alpha is None else args.alpha
    style = DrawStyle(alpha, palette=args.palette)
    inferencer = PanopticInferencer(
        args.config,
        args.checkpoint,
        args.device,
        args.cfg_options,
        args.trust,
        args.heads,
        args.score_thr,
    )
    if args.webcam is not None:
        yield watch(inferencer, args.webcam, style)
        return
    problems: list[PanopticFormatError] = []
    results = inferencer.iterate(
        args.inputs, args.batch_size, out_dir=args.out_dir, problems=problems
    )
    count, start = 0, time.perf_counter()
    folder = args.out_dir / "overlay"
    with DrawingVideos(folder) as videos, SegmentLines(args.out_dir / "segments") as lines:
        for result in results:
            if result.video:
                lines.add(result.name.rpartition("/")[0], result)
            if not args.no_overlay and result.video:
                videos.add(result.video, result.name.rpartition("/")[0], result.draw(style=style))
            elif not args.no_overlay:
                result.save_overlay(folder / f"{result.name}.png", style)
            if args.heads:
                result.save_heads(args.out_dir / "heads")
            yield f"{result.name}: {result.count()}  ({time.perf_counter() - start:.2f} s)"
            count, start = count + 1, time.perf_counter()
    yield f"{count} images done, {len(problems)} left out; results in {args.out_dir}"
    if problems:
        raise cli.Failure("left out: " + "\nleft out: ".join(map(str, problems)))


def take_shipped_model(args: argparse.Namespace) -> None:
    """With ``--model`` all words are inputs."""
    if args.model is None:
        return
    from mmpanoptic.checkpoints.shipped_models import get_shipped_model

    args.inputs += filter(None, (args.config, args.checkpoint))
    args.config, args.checkpoint = get_shipped_model(args.model).name, None


def watch(inferencer: PanopticInferencer, camera: int, style: DrawStyle) -> str:
    """Segment the frames of a camera and show them until ESC or q is pressed."""
    import cv2

    from mmpanoptic.apis.videos import camera_frames

    count, start = 0, time.perf_counter()
    for frame in camera_frames(camera):
        cv2.imshow("mmpanoptic", inferencer(frame)[0].draw(style=style))
        count += 1
        if cv2.waitKey(1) & 0xFF in (27, ord("q")):
            break
    cv2.destroyAllWindows()
    return f"{count} frames, {count / (time.perf_counter() - start):.1f} a second"


main = cli.Command(build_parser, run)
