"""Segment images, folders, videos or what a camera sees: panoptic PNGs, COCO JSON, overlays."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmpanoptic import cli
from mmpanoptic.utils import threads

if TYPE_CHECKING:
    from mmpanoptic.apis import PanopticInferencer
    from mmpanoptic.apis.bulk_inference import BulkRun
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
  %(prog)s --list files.txt work_dirs/demo --out-dir out        # very many images, see below
  %(prog)s street.jpg --model work_dirs/demo           # the folder of a run, named anywhere

CONFIG is a file or the name of a shipped config. It is Python and gets executed: use only those
you trust. The classes come from the checkpoint; no dataset is needed.

A frame of street.mp4 is called street/000001.

written: OUT/panoptic.json and OUT/panoptic/NAME.png (ids, R + 256 G + 65536 B, 0 = void),
         OUT/overlay/NAME.png (of a video OUT/overlay/NAME.mp4, and OUT/segments/NAME.jsonl, a
         line a frame; track_id and colour of a thing stay from frame to frame); with --heads
         OUT/heads/NAME_center.png and NAME_offset.png, or of COPS NAME_class_cost.png,
         NAME_component.png, and of each distance d NAME_cost_{d}_row.png,
         NAME_cost_{d}_column.png and NAME_cut_{d}.png, and all of them on NAME_sheet.png

--list FILE takes a text file with the path of one image per line. Several processes share it: start
the same command with torchrun, in a Slurm array, or with RANK and WORLD_SIZE set. What is done
stays done when a process is killed; the same command goes on. Written, by shards of --shard-size
lines: OUT/panoptic/SHARD.tar (with --format png OUT/panoptic/SHARD/*.png), OUT/segments/SHARD.jsonl
(a line per image: path, size, segments, or why it was left out), OUT/done/, in the end
OUT/index.json.
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
    parser.add(
        "--model",
        metavar="NAME",
        help="a model that comes with mmpanoptic (nuclei), or the folder of a run; all words are "
        "images then",
    )
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
    parser.add("--list", type=Path, metavar="FILE", help="the path of one image per line")
    parser.add(
        "--shard-size",
        type=cli.at_least(1),
        metavar="N",
        help="of --list: images of a shard (default: 1000)",
    )
    parser.add(
        "--format", choices=("tar", "png"), help="of --list: where label maps go (default: tar)"
    )
    parser.add("--alpha", type=cli.at_least(0, float), help="weight of the overlay's fill, 0 to 1")
    parser.take("palette", "cfg_options", "trust")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Segment, write, and say what was found.

    Raises:
        Failure: If images were left out.
    """
    threads.settle()
    take_model(args)
    if args.list is not None:
        yield from segment_list(args)
        return
    if args.shard_size is not None or args.format is not None:
        raise cli.UsageError("--shard-size and --format are of --list FILE")
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
    done = f"{count} image{'s' * (count != 1)} done"
    yield f"{done}, {len(problems)} left out; results in {args.out_dir}"
    if problems:
        raise cli.Failure("left out: " + "\nleft out: ".join(map(str, problems)))


def segment_list(args: argparse.Namespace) -> Iterator[str]:
    """Segment the images of a list, together with other processes.

    Raises:
        UsageError: If an argument is of another way to segment.
        Failure: If all shards are done, and images were left out.
    """
    drawing = args.heads or args.alpha is not None or args.no_overlay
    if args.config is None or args.inputs or args.webcam is not None or drawing:
        raise cli.UsageError(
            "with --list FILE name the model alone; inputs, --webcam and options of drawings do "
            "not go with it"
        )
    cli.complete_model(args)
    from mmpanoptic.apis import PanopticInferencer, bulk_inference

    inferencer = PanopticInferencer(
        args.config,
        args.checkpoint,
        args.device or bulk_inference.local_device(),
        args.cfg_options,
        args.trust,
        score_thr=args.score_thr,
    )
    worker = bulk_inference.Worker.of_environment()
    work = bulk_inference.start_run(
        args.list,
        args.out_dir,
        inferencer.table,
        bulk_inference.model_fingerprint(inferencer),
        args.shard_size or 1000,
        args.format or "tar",
    )
    before, start = work.count_done(), time.perf_counter()
    yield (
        f"worker {worker.rank + 1} of {worker.world}: {work.num_images} images in "
        f"{work.num_shards} shards, {before} of them done before"
    )
    for report in bulk_inference.segment_shards(inferencer, work, worker, args.batch_size):
        done = work.count_done()
        left = (work.num_shards - done) * (time.perf_counter() - start) / max(done - before, 1)
        yield (
            f"shard {report.shard:06d}: {report.images} images, {report.left_out} left out, in "
            f"{report.seconds:.1f} s; of all workers {done} of {work.num_shards} shards, "
            f"about {left:.0f} s left"
        )
    yield from sum_up(work)


def sum_up(work: BulkRun) -> Iterator[str]:
    """Say what became of all images once no shard is missing.

    Raises:
        Failure: If images were left out.
    """
    from mmpanoptic.apis import bulk_inference

    index = bulk_inference.write_index(work)
    if index is None:
        yield f"{work.count_done()} of {work.num_shards} shards done; other workers are not yet"
        return
    plural = "s" * (index["images"] != 1)
    counts = f"{index['images']} image{plural} done, {index['left_out']} left out"
    yield f"{counts}; {work.folder / 'index.json'}"
    if index["left_out"]:
        rows = [f"{row['path']}: {row['error']}" for row in bulk_inference.left_out_rows(work, 5)]
        more = index["left_out"] - len(rows)
        rows += [f"and {more} more, in {work.folder / 'segments'}"] if more else []
        raise cli.Failure("left out: " + "\nleft out: ".join(rows))


def take_model(args: argparse.Namespace) -> None:
    """Settle which words are inputs and which the model; with ``--model`` all are inputs.

    No model is taken unasked, not even where one alone comes with the package: what it knows has
    nothing to do with most images, and it would find things in them all the same.

    Raises:
        UsageError: If there is no model, or nothing to segment.
    """
    if args.model is not None:
        args.inputs += filter(None, (args.config, args.checkpoint))
        args.config, args.checkpoint = _named_model(args.model), None
    elif args.config and _is_input(args.config, alone=not args.inputs):
        raise cli.UsageError(f"no model is named; {_ways_to_name_one()}")
    if args.list is None and (
        args.config is None or bool(args.inputs) == (args.webcam is not None)
    ):
        raise cli.UsageError(
            "name images, folders or videos in front of the model, or take --webcam"
        )


def _named_model(name: str) -> str:
    """Find what ``--model`` names: the folder of a run, or a model of the package."""
    from mmpanoptic.checkpoints.shipped_models import get_shipped_model

    if Path(name).expanduser().is_dir():
        return name
    if Path(name).name != name:
        raise cli.UsageError(f"--model {name}: there is no such folder of a run")
    return get_shipped_model(name).name


def _is_input(word: str, alone: bool) -> bool:
    """Tell images, videos, patterns and folders of images from what names a model.

    Args:
        word (str): In the place of the model.
        alone (bool): Whether it is the first word; a folder behind others is to be a run's.
    """
    from mmpanoptic.checkpoints.run_folder import run_config
    from mmpanoptic.checkpoints.shipped_models import is_shipped_model

    path = Path(word).expanduser()
    if path.is_dir():
        try:
            run_config(path)
        except FileNotFoundError:
            return alone
        return False
    is_named = path.is_file() or "://" in word or bool(set("*?[") & set(word))
    return is_named and not is_config(word) and not is_shipped_model(word)


def _ways_to_name_one() -> str:
    """Say which models there are, and how to name one."""
    from mmpanoptic.checkpoints.shipped_models import list_shipped_models

    models = list_shipped_models()
    tasks = "; ".join(f"{name}: {model.card['task'].rstrip('.')}" for name, model in models.items())
    return f"add --model NAME, the folder of a run or a model that comes along ({tasks})"


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
