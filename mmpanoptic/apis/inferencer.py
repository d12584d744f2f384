"""Panoptic segmentation of images in files, folders and memory."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

import cv2
import numpy as np
import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate

from mmpanoptic.models.layers.cpu_convs import fuse_activations
from mmpanoptic.registry import INFERENCERS, TRANSFORMS
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils import write_json
from mmpanoptic.utils.format_errors import PanopticFormatError, format_error
from mmpanoptic.utils.image_bytes import ImageDamageError, decode_image
from mmpanoptic.utils.image_files import image_id_of, list_images

from .model import autocast, choose_device, init_model
from .panoptic_result import PanopticResult
from .videos import Tracker, camera_frames

VIDEO_SUFFIXES = frozenset(
    {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
)

ImageInput = Any
"""Path, folder, pattern, address, video, number of a camera, encoded bytes, NumPy array, PIL image
or torch tensor, see :func:`iter_sources`."""
CHANNELS = ("bgr", "rgb")
TIMEOUT = 30
"""Seconds without an answer after which a server is given up."""


@dataclass(frozen=True)
class ImageSource:
    """One image to segment.

    Attributes:
        name (str): Unique among the inputs of a call; may contain folders.
        path (str | None): Its file.
        image (np.ndarray | None): uint8 BGR, ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)``.
        video (str | None): File of the video that it is a frame of.
    """

    name: str
    path: str | None = None
    image: np.ndarray | None = None
    video: str | None = None

    def to_sample(self) -> dict[str, Any]:
        """Return what the test pipeline starts with."""
        return {"img": self.image, "img_path": self.path, "img_id": self.name}


def iter_sources(
    inputs: ImageInput | Iterable[ImageInput], channels: str = "bgr"
) -> Iterator[ImageSource]:
    """Turn any input into single images with unique names.

    Args:
        inputs: One of the following, or an iterable of them; a generator of frames is read one by
            one.

            - ``str`` or path: an image; a folder with sub-folders, hidden files left out; a pattern
              (``photos/**/*.jpg``); a video; an address (``https://...``) of an image.
            - ``int``: number of a camera, whose frames come until it ends.
            - ``bytes``: an encoded image (JPEG, PNG, ...).
            - ``np.ndarray``: uint8 ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)`` in the order of
              ``channels``; four axes are a batch ``(N, H, W, C)``.
            - ``PIL.Image.Image``: any mode of 8 bits.
            - ``torch.Tensor``: RGB ``(3, H, W)`` or ``(N, 3, H, W)``, uint8 or float in [0, 1].

            The EXIF orientation of files, bytes and PIL images is applied.
        channels (str): Order of the channels of arrays, ``bgr`` (as OpenCV reads) or ``rgb``.

    Yields:
        ImageSource: In order; of a folder or pattern, sorted by path; of a video, its frames,
        which are read when they are asked for.

    Raises:
        FileNotFoundError: If a path is not there.
        TypeError: If an input is something else.
        ValueError: If a folder holds no image, or ``channels`` is neither.
        PanopticFormatError: If bytes or what a server gives is no image.
    """
    if channels not in CHANNELS:
        raise ValueError(f"channels must be bgr or rgb, got {channels!r}")
    used: dict[str, int] = {}
    for item in inputs if _holds_several(inputs) else [inputs]:
        for source in _expand(item, channels):
            yield replace(source, name=_unique(source.name, used))


def _holds_several(inputs: Any) -> bool:
    single = str | bytes | os.PathLike | np.ndarray | torch.Tensor
    return isinstance(inputs, Iterable) and not isinstance(inputs, single)


def _expand(item: Any, channels: str) -> Iterator[ImageSource]:
    if isinstance(item, str | os.PathLike):
        if isinstance(item, str) and item.startswith(("http://", "https://")):
            name = unquote(Path(urlsplit(item).path).stem) or "image"
            yield ImageSource(name, None, _decode(_download(item), item))
        else:
            yield from _expand_path(item)
    elif isinstance(item, int) and not isinstance(item, bool):
        for number, frame in enumerate(camera_frames(item), 1):
            yield ImageSource(f"camera{item}/{number:06d}", None, frame)
    else:
        for image in _in_memory(item, channels):
            yield ImageSource("image", image=image)


def _in_memory(item: Any, channels: str) -> Iterator[np.ndarray]:
    """Yield images in memory as BGR; those that are no image are left to the loader's message."""
    if isinstance(item, bytes | bytearray | memoryview):
        yield _decode(bytes(item), "<bytes>")
    elif isinstance(item, torch.Tensor):
        yield from _from_tensor(item)
    elif isinstance(item, np.ndarray):
        for image in item if item.ndim == 4 else (item,):
            yield _swapped(image) if channels == "rgb" and image.ndim == 3 else image
    elif hasattr(item, "getexif") and hasattr(item, "convert"):  # PIL, which is not imported
        from PIL import ImageOps

        if str(item.mode).startswith(("I", "F")):
            raise format_error("bad_image_mode", f"the image has the mode {item.mode}", "<PIL>")
        yield _swapped(np.asarray(ImageOps.exif_transpose(item).convert("RGB")))
    else:
        raise TypeError(
            "expected an image as path, folder, address, array (H, W, 3), PIL image, tensor "
            f"(3, H, W) or bytes, a camera's number, or several of them, got {type(item).__name__}"
        )


def _swapped(image: np.ndarray) -> np.ndarray:
    """Exchange red and blue; a fourth channel stays."""
    order = [2, 1, 0, *range(3, image.shape[2])] if image.shape[2] >= 3 else [0]
    return np.ascontiguousarray(image[..., order])


def _from_tensor(tensor: torch.Tensor) -> Iterator[np.ndarray]:
    if tensor.ndim not in (3, 4) or tensor.shape[-3] != 3:
        raise ValueError(
            f"a tensor must be RGB (3, H, W) or (N, 3, H, W), got {tuple(tensor.shape)}"
        )
    if tensor.is_floating_point():
        if not (tensor.min() >= 0 and tensor.max() <= 1):
            raise ValueError(
                "a float tensor must lie in [0, 1], as torchvision's do; normalisation is the "
                f"model's work. Got {tensor.min():.3g} to {tensor.max():.3g}"
            )
        tensor = (255 * tensor.float()).round().to(torch.uint8)
    elif tensor.dtype != torch.uint8:
        raise ValueError(f"a tensor must be uint8 or float in [0, 1], got {tensor.dtype}")
    for image in tensor if tensor.ndim == 4 else (tensor,):
        yield _swapped(image.permute(1, 2, 0).cpu().numpy())


def _decode(data: bytes, name: str) -> np.ndarray:
    """Decode a file in memory and apply its orientation."""
    try:
        return decode_image(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except ImageDamageError as error:
        raise format_error("corrupt_image", str(error), name) from error


def _download(address: str) -> bytes:
    if os.environ.get("MMPANOPTIC_OFFLINE", "0") not in ("", "0"):
        raise FileNotFoundError(f"{address} is not fetched: MMPANOPTIC_OFFLINE is set")
    request = Request(address, headers={"User-Agent": "mmpanoptic"})  # noqa: S310 - http(s) only
    try:
        with urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310 - as above
            content: bytes = response.read()
            return content
    except (URLError, TimeoutError) as error:
        reason = getattr(error, "reason", error)
        raise FileNotFoundError(f"cannot fetch {address}: {reason}") from error


def _expand_path(item: str | os.PathLike[str]) -> Iterator[ImageSource]:
    path = Path(item).expanduser()
    if path.is_dir():
        for file in list_images(path):
            yield ImageSource(file.relative_to(path).with_suffix("").as_posix(), str(file))
    elif path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
        for number, frame in enumerate(read_frames(path), 1):
            yield ImageSource(f"{path.stem}/{number:06d}", None, frame, str(path))
    elif path.is_file():
        yield ImageSource(path.stem, str(path))
    else:
        yield from _match(str(path), str(item))


def _match(pattern: str, typed: str) -> Iterator[ImageSource]:
    """Expand a pattern of paths, as a shell would; ``**`` stands for any folders."""
    found = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else []
    if not found:
        kind = "file that matches" if glob.has_magic(pattern) else "image or folder"
        raise FileNotFoundError(f"there is no {kind} {typed!r}")
    for name in found:
        yield from _expand_path(name)


def read_frames(path: Path) -> Iterator[np.ndarray]:
    """Decode a video frame by frame.

    Args:
        path (Path): The video.

    Yields:
        np.ndarray: uint8 BGR ``(H, W, 3)``.

    Raises:
        PanopticFormatError: If nothing can be decoded.
    """
    video = cv2.VideoCapture(str(path))
    try:
        promised, count = int(video.get(cv2.CAP_PROP_FRAME_COUNT)), 0
        while True:
            done, frame = video.read()
            if not done:
                break
            count += 1
            yield frame
    finally:
        video.release()
    if not count:
        raise format_error("corrupt_image", "cannot decode the video: no frame in it", path)
    if count < promised:
        warnings.warn(f"{path} has {promised} frames, of which {count} were decoded", stacklevel=2)


def _unique(name: str, used: dict[str, int]) -> str:
    """Number names that were used before: ``a``, ``a_2``, ``a_3``."""
    candidate, number = name, used.get(name, 1)
    while candidate in used:
        number += 1
        candidate = f"{name}_{number}"
    used[name] = number
    used.setdefault(candidate, 1)
    return candidate


_Loaded = tuple[ImageSource, dict[str, Any]]


def fuse_for_inference(model: Any) -> Any:
    """Fold batch normalisations into convolutions; on a CPU ReLUs and residual sums, too.

    On a CPU the channels are put last in memory. All this changes the outputs by rounding only,
    below 1e-5 of their range (``benchmark_parts.py pdl_network`` says what it saves).

    Args:
        model (PanopticSegmentor): In evaluation mode; it is changed, and cannot be
            trained afterwards.

    Returns:
        PanopticSegmentor: The model.
    """
    model = fuse_conv_bn(model)
    if next(model.parameters()).device.type == "cpu" and hasattr(model, "set_channels_last"):
        model.set_channels_last(True)
        fuse_activations(model)
    return model


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
        self._take(fuse_for_inference(model) if fuse else model)

    @classmethod
    def of_model(cls, model: Any) -> PanopticInferencer:
        """Make an inferencer of a model from :func:`~mmpanoptic.apis.init_model`."""
        inferencer = cls.__new__(cls)
        inferencer.score_thr = 0.0
        inferencer.autocast = nullcontext()
        inferencer._take(model)
        return inferencer

    def _take(self, model: Any) -> None:
        self.model = model
        self.table = LabelTable.from_metainfo(model.dataset_meta)
        self.pipeline = build_test_pipeline(model.cfg)

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
                :func:`iter_sources`.
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
        writer = CocoWriter(out_dir, self.table) if out_dir is not None else None
        tracker: Tracker | None = None

        def leave_out(_: ImageSource, error: PanopticFormatError) -> None:
            if problems is None:
                raise error
            problems.append(error)

        for result in self.iterate_sources(iter_sources(inputs, channels), batch_size, leave_out):
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

    def iterate_sources(
        self,
        sources: Iterable[ImageSource],
        batch_size: int,
        leave_out: Callable[[ImageSource, PanopticFormatError], None],
    ) -> Iterator[PanopticResult]:
        """Segment images that have names already; nothing is written.

        Args:
            sources (Iterable[ImageSource]): Read one batch after another.
            batch_size (int): As in :meth:`__call__`.
            leave_out (Callable): Is told of each image that cannot be read, and may raise.

        Yields:
            PanopticResult: In order, named as its source.

        Raises:
            ValueError: If ``batch_size`` is less than 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        for batch in _same_sizes(self._load(sources, leave_out), batch_size):
            yield from self._predict(batch)

    def _load(
        self,
        sources: Iterable[ImageSource],
        leave_out: Callable[[ImageSource, PanopticFormatError], None],
    ) -> Iterator[_Loaded]:
        for source in sources:
            try:
                sample = self.pipeline(source.to_sample())
            except PanopticFormatError as error:
                leave_out(source, error)
                continue
            yield source, sample

    @torch.inference_mode()
    def _predict(self, batch: Sequence[_Loaded]) -> list[PanopticResult]:
        with self.autocast:
            samples = self.model.test_step(pseudo_collate([sample for _, sample in batch]))
        return [
            self.to_result(source, sample)
            for (source, _), sample in zip(batch, samples, strict=True)
        ]

    def to_result(self, source: ImageSource, sample: Any) -> PanopticResult:
        """Make the result of an image from the model's sample.

        Args:
            source (ImageSource): The image.
            sample (DetDataSample): With ``pred_panoptic_seg``.

        Returns:
            PanopticResult: Without the things below ``score_thr``.

        Raises:
            ValueError: If the model predicts no panoptic map.
        """
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
    return Compose([TRANSFORMS.build(step) for step in test_pipeline_steps(cfg)])


def test_pipeline_steps(cfg: Config) -> list[Any]:
    """List the steps of the test pipeline of a config without those that load annotations.

    Args:
        cfg (Config): See :func:`build_test_pipeline`.

    Returns:
        list[dict]: Configs of transforms.

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
    return [step for step in steps if not str(step["type"]).endswith("Annotations")]


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
