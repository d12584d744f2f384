"""Normalise and pad images together with their panoptic ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import ImgDataPreprocessor
from mmengine.structures import PixelData
from torch import Tensor
from torch.nn import functional

from mmpanoptic.registry import MODELS
from mmpanoptic.structures import IGNORE_LABEL, VOID_ID, make_panoptic_data


@MODELS.register_module()
class PanopticDataPreprocessor(ImgDataPreprocessor):
    """Convert BGR to RGB, normalise, pad to one size and stack.

    Images are padded on the right and at the bottom, first to the largest height and width of the
    batch, then to a multiple of ``pad_size_divisor`` or to ``pad_size``. In training
    ``gt_panoptic_seg`` is padded with void and ``gt_sem_seg`` with 255. Samples get the metainfo
    ``batch_input_shape`` and ``pad_shape``.

    Args:
        mean (Sequence[float]): Mean of each channel, in the order after the conversion.
        std (Sequence[float]): Standard deviation of each channel.
        pad_size_divisor (int): 0 or 1 pads no further than the largest image.
        bgr_to_rgb (bool): Reverse the channels.
        pad_size (Sequence[int] | None): Height and width of all batches, for networks of one size.
        pad_colour (str): "mean" pads with 0 after normalisation, "black" with what black becomes.

    Raises:
        ValueError: If ``pad_colour`` is unknown, or ``pad_size`` comes with ``pad_size_divisor``.
    """

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        pad_size_divisor: int = 0,
        bgr_to_rgb: bool = True,
        pad_size: Sequence[int] | None = None,
        pad_colour: str = "mean",
    ) -> None:
        if pad_colour not in ("mean", "black"):
            raise ValueError(f"pad_colour must be mean or black, got {pad_colour!r}")
        if pad_size is not None and pad_size_divisor > 1:
            raise ValueError("pad_size and pad_size_divisor exclude each other; give one of them")
        super().__init__(
            mean=mean,
            std=std,
            pad_size_divisor=max(pad_size_divisor, 1),
            pad_value=0,
            non_blocking=True,
        )
        # The parent's own conversion indexes with a list, which a GPU waits for.
        self.bgr_to_rgb = bgr_to_rgb
        self.pad_size = None if pad_size is None else tuple(pad_size)
        self.pad_colour = pad_colour

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data (dict): ``inputs``, uint8 images ``(3, H, W)`` in a list or one tensor
                ``(N, 3, H, W)``, and ``data_samples``, a list or None.
            training (bool): Pad the ground truth as well.

        Returns:
            dict: ``inputs`` ``(N, 3, H, W)``, float32 or what ``model.half()``, ``.bfloat16()`` and
            the like have made of the model, and ``data_samples``.

        Raises:
            ValueError: If an image is larger than ``pad_size``.
        """
        shapes = [tuple(image.shape[-2:]) for image in data["inputs"]]
        data = self.cast_data(data)
        if self.bgr_to_rgb:
            data["inputs"] = _reversed_channels(data["inputs"])
        data = super().forward(data, training)
        data["inputs"] = data["inputs"].to(self.mean.dtype)  # a buffer that follows the weights
        if self.pad_size is not None:
            data["inputs"] = _pad_images(data["inputs"], self.pad_size)
        if self.pad_colour == "black":
            self._paint_padding(data["inputs"], shapes)
        size = tuple(data["inputs"].shape[-2:])
        if data["data_samples"] is not None:
            for sample, shape in zip(data["data_samples"], shapes, strict=True):
                sample.set_metainfo({"batch_input_shape": size, "pad_shape": size})
                if "img_shape" not in sample:
                    sample.set_metainfo({"img_shape": shape})
                if training:
                    _pad_ground_truth(sample, size)
        return data

    def _paint_padding(self, inputs: Tensor, shapes: Sequence[tuple[int, ...]]) -> None:
        """Fill the padding of normalised images ``(N, 3, H, W)`` with black, in place."""
        black = (-self.mean / self.std).to(inputs.dtype)
        for image, (height, width) in zip(inputs, shapes, strict=True):
            image[:, height:] = black
            image[:, :height, width:] = black


def _pad_images(inputs: Tensor, size: tuple[int, ...]) -> Tensor:
    """Pad normalised images ``(N, 3, h, w)`` to ``(N, 3, *size)``."""
    height, width = inputs.shape[-2:]
    if height > size[0] or width > size[1]:
        raise ValueError(
            f"images of {(height, width)} pixels are larger than pad_size={size} of the data "
            "preprocessor; let the pipeline resize them into it (Resize with scale=(width, "
            "height), keep_ratio=True) or crop them"
        )
    return functional.pad(inputs, (0, size[1] - width, 0, size[0] - height))


def _reversed_channels(inputs: Any) -> Any:
    """Turn BGR into RGB: images ``(3, H, W)`` in a sequence, or a batch ``(N, 3, H, W)``."""
    if isinstance(inputs, Tensor):
        return inputs.flip(-3)
    return [image.flip(-3) for image in inputs]


def _pad_ground_truth(sample: Any, size: tuple[int, int]) -> None:
    if "gt_panoptic_seg" in sample:
        panoptic = sample.gt_panoptic_seg
        sample.gt_panoptic_seg = make_panoptic_data(
            _pad_map(panoptic.index_map, size, VOID_ID), panoptic.segments_info
        )
    if "gt_sem_seg" in sample:
        semantic = sample.gt_sem_seg
        # PixelData refuses fields of another size, so a new one is made.
        padded = PixelData(metainfo=semantic.metainfo)
        padded.sem_seg = _pad_map(semantic.sem_seg, size, IGNORE_LABEL)
        sample.gt_sem_seg = padded


def _pad_map(label_map: Tensor, size: tuple[int, int], value: int) -> Tensor:
    """Pad ``(1, h, w)`` on the right and at the bottom to ``(1, *size)``."""
    height, width = label_map.shape[-2:]
    return functional.pad(label_map, (0, size[1] - width, 0, size[0] - height), value=value)
