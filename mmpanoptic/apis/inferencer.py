"""Panoptic segmentation of images in files, folders and memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate

from mmpanoptic.registry import INFERENCERS, TRANSFORMS
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils import write_json
from mmpanoptic.utils.format_errors import PanopticFormatError
from mmpanoptic.utils.image_files import image_id_of

from .inputs import ImageInput, ImageSource, iter_sources
from .model import autocast, choose_device, init_model
from .panoptic_result import PanopticResult
from .videos import Tracker

_Loaded = tuple[ImageSource, dict[str, Any]]


@INFERENCERS.register_module()
class PanopticInferencer:
    """Segment images: a path, an array, a folder, a video, or any of them in a row.

    The class list comes from the checkpoint; no dataset and no annotation is needed.

    Args:
        config: Path, name of a shipped config (:func:`mmpanoptic.apis.list_configs`), a loaded
            config; or the folder of a run, which stands for its own config and weights.
        checkpoint: Path or URL of the weights; None takes those of the run, or leaves them random
            where ``config`` is no run.
        device: ``cpu``, ``cuda``, ``cuda:N``; None or ``auto``: the first CUDA device if there is
            one, else the CPU.
        cfg_options (Mapping | None): Values that replace those of the config.
        trust (bool): Accept bookkeeping classes of other toolboxes in the checkpoint.
        keep_heads (bool): Hand out the centre heatmap and offsets with each result
            (Panoptic-DeepLab only).
        score_thr (float): Leave out things with a lower score; their pixels become void.
        amp (str | None): ``fp16`` or ``bf16``: run under autocast.
        fuse (bool): Fold batch normalisations into the convolutions before them: the same network
            up to rounding, faster.

    Raises:
        ValueError: If the model has no such heads.

    Example:
        >>> inferencer = PanopticInferencer("work_dirs/run")
        >>> result = inferencer("street.jpg")[0]
        >>> result
        PanopticResult(street, 640 x 480: 3 car, 1 road)
        >>> result.masks.shape, result.names[0]
    """

    def __init__(
        self,
        config: str | os.PathLike[str] | Config,
        checkpoint: str | os.PathLike[str] | None = None,
        device: str | torch.device | None = None,
        cfg_options: Mapping[str, Any] | None = None,
        trust: bool = False,
        keep_heads: bool = False,
        score_thr: float = 0.0,
        amp: str | None = None,
        fuse: bool = False,
    ) -> None:
        self.score_thr = score_thr
        self.autocast = autocast(choose_device(device), amp)
        model: Any = init_model(config, checkpoint, device, cfg_options, trust)
        if keep_heads:
            head = model.fusion_head
            if not hasattr(head, "keep_outputs"):
                raise ValueError(
                    f"the fusion head {type(head).__name__} keeps no outputs of the heads; only "
                    "models with a CenterGroupingHead (Panoptic-DeepLab) or a MulticutHead (COPS) "
                    "do"
                )
            head.keep_outputs = True
        self.model = fuse_conv_bn(model) if fuse else model
        self.table = LabelTable.from_metainfo(model.dataset_meta)
        self.pipeline = build_test_pipeline(self.model.cfg)

    def __call__(
        self,
        inputs: ImageInput | Iterable[ImageInput],
        batch_size: int = 1,
        show_dir: str | os.PathLike[str] | None = None,
        out_dir: str | os.PathLike[str] | None = None,
        channels: str = "bgr",
    ) -> list[PanopticResult]:
        """Segment images.

        Args:
            inputs: A file, a folder (with sub-folders), a pattern of paths, a video, an address, a
                camera's number, encoded bytes, a uint8 array ``(H, W, 3)``, a PIL image, an RGB
                tensor ``(3, H, W)``, or an iterable of them, such as a generator of frames; see
                :func:`mmpanoptic.apis.inputs.iter_sources`.
            batch_size (int): Images to run at once. Only neighbours whose prepared images have
                one size share a batch, so the result does not depend on it.
            show_dir: Write drawings here, ``NAME.png``.
            out_dir: Write ``panoptic/NAME.png`` and ``panoptic.json`` (COCO format) here.
            channels (str): Order of the channels of arrays, ``bgr`` or ``rgb``.

        Returns:
            list[PanopticResult]: In the order of the inputs. To segment more images than fit
            into memory use :meth:`iterate`.
        """
        return list(self.iterate(inputs, batch_size, show_dir, out_dir, channels=channels))

    def iterate(
        self,
        inputs: ImageInput | Iterable[ImageInput],
        batch_size: int = 1,
        show_dir: str | os.PathLike[str] | None = None,
        out_dir: str | os.PathLike[str] | None = None,
        problems: list[PanopticFormatError] | None = None,
        channels: str = "bgr",
    ) -> Iterator[PanopticResult]:
        """Segment images one batch after another; arguments as in :meth:`__call__`.

        Args:
            inputs: As above.
            batch_size (int): As above.
            show_dir: As above.
            out_dir: As above; ``panoptic.json`` is written at the end.
            problems (list | None): Errors of images that cannot be read are appended and the
                images left out; without a list the first one is raised.
            channels (str): As above.

        Yields:
            PanopticResult: In the order of the inputs.

        Raises:
            PanopticFormatError: If an image cannot be read and ``problems`` is None.
            ValueError: If ``batch_size`` is less than 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        writer = CocoWriter(out_dir, self.table) if out_dir is not None else None
        tracker: Tracker | None = None
        for batch in _same_sizes(self._load(inputs, problems, channels), batch_size):
            for result in self._predict(batch):
                if result.video:
                    tracker = tracker or Tracker()
                    tracker.add(result)
                if show_dir is not None:
                    result.save_overlay(Path(show_dir) / f"{result.name}.png")
                if writer is not None:
                    writer.add(result)
                yield result
        if writer is not None:
            writer.close()

    def _load(
        self,
        inputs: ImageInput | Iterable[ImageInput],
        problems: list[PanopticFormatError] | None,
        channels: str,
    ) -> Iterator[_Loaded]:
        for source in iter_sources(inputs, channels):
            try:
                sample = self.pipeline(source.to_sample())
            except PanopticFormatError as error:
                if problems is None:
                    raise
                problems.append(error)
                continue
            yield source, sample

    @torch.inference_mode()
    def _predict(self, batch: Sequence[_Loaded]) -> list[PanopticResult]:
        with self.autocast:
            samples = self.model.test_step(pseudo_collate([sample for _, sample in batch]))
        return [
            self._to_result(source, sample)
            for (source, _), sample in zip(batch, samples, strict=True)
        ]

    def _to_result(self, source: ImageSource, sample: Any) -> PanopticResult:
        if "pred_panoptic_seg" not in sample:
            raise ValueError(
                "this model predicts instances alone, no panoptic map; tools/save_instances.py "
                "saves them, and a config with a semantic head fuses both"
            )
        result = PanopticResult.from_prediction(
            source.name, sample.pred_panoptic_seg, self.table, source.path, source.image
        )
        result.video = source.video
        if self.score_thr > 0:
            result = result.without_things_below(self.score_thr)
        if "pred_heads" in sample:
            result.heads = {name: value.cpu().numpy() for name, value in sample.pred_heads.items()}
        return result


class CocoWriter:
    """Write results in COCO-panoptic format: PNGs at once, the JSON at the end.

    Ids follow :func:`~mmpanoptic.utils.image_files.image_id_of`, as those of converted own data do.

    Args:
        folder: Gets ``panoptic.json`` and ``panoptic/NAME.png``.
        table (LabelTable): The classes.
    """

    def __init__(self, folder: str | os.PathLike[str], table: LabelTable) -> None:
        self.folder = Path(folder)
        self.table = table
        self.images: dict[int | str, dict[str, Any]] = {}
        self.annotations: list[dict[str, Any]] = []

    def add(self, result: PanopticResult) -> None:
        """Write the PNG of a result and remember its segments."""
        image_id = image_id_of(result.name)
        if image_id in self.images:
            image_id = result.name
        self.images[image_id] = result.image_entry(image_id)
        file_name = f"{result.name}.png"
        result.save_png(self.folder / "panoptic" / file_name)
        self.annotations.append(result.to_coco(image_id, file_name))

    def close(self) -> None:
        """Write the JSON."""
        content = {
            "images": list(self.images.values()),
            "annotations": self.annotations,
            "categories": self.table.to_categories(),
        }
        write_json(self.folder / "panoptic.json", content)


def build_test_pipeline(cfg: Config) -> Compose:
    """Build the test pipeline of a config without the steps that load annotations.

    Args:
        cfg (Config): With ``test_dataloader`` (or ``val_dataloader``).

    Returns:
        Compose: Takes a dict with ``img`` or ``img_path``.

    Raises:
        ValueError: If the config has no test pipeline.
    """
    steps = None
    for name in ("test_dataloader", "val_dataloader"):
        dataset = (cfg.get(name) or {}).get("dataset")
        while dataset and "pipeline" not in dataset:
            dataset = dataset.get("dataset") or next(iter(dataset.get("datasets", ())), None)
        if dataset:
            steps = dataset["pipeline"]
            break
    if steps is None:
        raise ValueError(
            "the config has no test_dataloader.dataset.pipeline (nor one of val_dataloader), "
            "which says how images are prepared"
        )
    kept = [step for step in steps if not str(step["type"]).endswith("Annotations")]
    return Compose([TRANSFORMS.build(step) for step in kept])


def _same_sizes(items: Iterator[_Loaded], batch_size: int) -> Iterator[list[_Loaded]]:
    """Group neighbours of one size, at most ``batch_size``."""
    batch: list[_Loaded] = []
    for item in items:
        if batch and (
            len(batch) == batch_size or item[1]["inputs"].shape != batch[0][1]["inputs"].shape
        ):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch
