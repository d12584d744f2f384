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

    Images are padded on the right and at the bottom with 0 after normalisation (the mean
    colour), first to the largest height and width of the batch, then to a multiple of
    ``pad_size_divisor``. In training ``gt_panoptic_seg`` is padded with void and ``gt_sem_seg``
    with 255. Samples get the metainfo ``batch_input_shape`` and ``pad_shape``.

    Args:
        mean (Sequence[float]): Mean of each channel, in the order after the conversion.
        std (Sequence[float]): Standard deviation of each channel.
        pad_size_divisor (int): 0 or 1 pads no further than the largest image.
        bgr_to_rgb (bool): Reverse the channels.
    """

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        pad_size_divisor: int = 0,
        bgr_to_rgb: bool = True,
    ) -> None:
        super().__init__(
            mean=mean,
            std=std,
            pad_size_divisor=max(pad_size_divisor, 1),
            pad_value=0,
            non_blocking=True,
        )
        # The parent's own conversion indexes with a list, which a GPU waits for.
        self.bgr_to_rgb = bgr_to_rgb

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data (dict): ``inputs``, uint8 images ``(3, H, W)`` in a list or one tensor
                ``(N, 3, H, W)``, and ``data_samples``, a list or None.
            training (bool): Pad the ground truth as well.

        Returns:
            dict: ``inputs`` ``(N, 3, H, W)``, float32 or what ``model.half()``, ``.bfloat16()`` and
            the like have made of the model, and ``data_samples``.
        """
        shapes = [tuple(image.shape[-2:]) for image in data["inputs"]]
        data = self.cast_data(data)
        if self.bgr_to_rgb:
            data["inputs"] = _reversed_channels(data["inputs"])
        data = super().forward(data, training)
        data["inputs"] = data["inputs"].to(self.mean.dtype)  # a buffer that follows the weights
        size = tuple(data["inputs"].shape[-2:])
        if data["data_samples"] is not None:
            for sample, shape in zip(data["data_samples"], shapes, strict=True):
                sample.set_metainfo({"batch_input_shape": size, "pad_shape": size})
                if "img_shape" not in sample:
                    sample.set_metainfo({"img_shape": shape})
                if training:
                    _pad_ground_truth(sample, size)
        return data


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
