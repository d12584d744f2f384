"""Segment a list of images on a Ray cluster; docs/scale.md tells when that is worth it.

pip install 'mmpanoptic[ray]'
python examples/ray_bulk_inference.py work_dirs/run files.txt out --workers 2
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmpanoptic.apis import PanopticInferencer
from mmpanoptic.apis.inferencer import ImageSource
from mmpanoptic.utils.format_errors import PanopticFormatError
from mmpanoptic.utils.panoptic_png import encode_panoptic_png


class SegmentBatch:
    """What a worker does: it loads the model once and segments one batch after another.

    Args:
        model (str): Folder of a run, a config or a model of the package.
        device (str): As of :class:`~mmpanoptic.apis.PanopticInferencer`.
    """

    def __init__(self, model: str, device: str = "auto") -> None:
        self.inferencer = PanopticInferencer(model, device=device)

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Segment a batch.

        Args:
            batch (Mapping): ``position`` and ``path`` of each image.

        Returns:
            dict: The same, with the panoptic PNG, its ``segments_info`` as JSON, and the reason for
            which an image was left out, else empty.
        """
        positions = [int(position) for position in batch["position"]]
        paths = [str(path) for path in batch["path"]]
        pngs, segments, errors = ([empty] * len(paths) for empty in (b"", "[]", ""))
        sources = [ImageSource(str(place), path) for place, path in enumerate(paths)]

        def leave_out(source: ImageSource, error: PanopticFormatError) -> None:
            errors[int(source.name)] = str(error)

        for result in self.inferencer.iterate_sources(sources, len(sources), leave_out):
            place = int(result.name)
            pngs[place] = encode_panoptic_png(result.panoptic_seg)
            info = result.to_coco(positions[place], f"{positions[place]:09d}.png")
            segments[place] = json.dumps(info["segments_info"])
        columns = {"position": positions, "path": paths, "png": pngs, "segments_info": segments}
        return {**columns, "error": errors}


def segment(
    model: str, list_file: Path, out: Path, workers: int, batch_size: int, gpus: float
) -> dict[str, int]:
    """Segment the images that a file lists, one a line; write Parquet files.

    Ray does the work of a lost worker again on another one; a file is there when it is whole. A
    run that is stopped as a whole begins anew: ``mmpanoptic infer --list`` goes on where it was.

    Args:
        model (str): See :class:`SegmentBatch`.
        list_file (Path): Paths that every machine of the cluster can read.
        out (Path): Folder that does not exist yet, for all machines the same.
        workers (int): How many load the model.
        batch_size (int): Images at once.
        gpus (float): Of a worker; 0 uses none.

    Returns:
        dict[str, int]: Number of images, and how many were left out.

    Raises:
        FileExistsError: If the folder is there.
    """
    import ray

    out.mkdir(parents=True)
    paths = list_file.read_text(encoding="utf-8").splitlines()
    rows = [{"position": position, "path": path} for position, path in enumerate(paths)]
    results = ray.data.from_items(
        rows, override_num_blocks=max(1, len(rows) // batch_size)
    ).map_batches(
        SegmentBatch,
        fn_constructor_args=(model, "cuda" if gpus else "cpu"),
        batch_size=batch_size,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_gpus=gpus,
    )
    results.write_parquet(str(out))
    return summarise(out)


def summarise(out: Path) -> dict[str, int]:
    """Count results and write ``left_out.jsonl``: path and reason of each image without one."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(out, columns=["position", "path", "error"])
    rows = sorted(table.to_pylist(), key=lambda row: row["position"])
    failed = [{"path": row["path"], "error": row["error"]} for row in rows if row["error"]]
    lines = "".join(json.dumps(row) + "\n" for row in failed)
    out.with_name(f"{out.name}-left_out.jsonl").write_text(lines, encoding="utf-8")
    return {"images": len(rows), "left_out": len(failed)}


def main() -> None:
    """Read the arguments and segment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("list", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--gpus", type=float, default=0, help="of a worker (default: none)")
    args = parser.parse_args()
    found = segment(args.model, args.list, args.out, args.workers, args.batch_size, args.gpus)
    print(f"{found['images']} images, {found['left_out']} left out; results in {args.out}")


if __name__ == "__main__":
    main()
