"""Run a network once, and fuse its outputs with other thresholds as often as one likes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.dataset import pseudo_collate

from mmpanoptic.registry import MODELS
from mmpanoptic.structures import BoxedMasks

from .config_search import arguments_of
from .inferencer import ImageSource, PanopticInferencer
from .panoptic_result import PanopticResult

MIN_SCORE = "min_score"
_MARKUP = re.compile(r"(; see )?:\w+:`[^`]*`|``(.*?)``")
_SHARES = ("_thr", "threshold", "min_visible")
_INNER = ("mask_thr",)  # become logits, which 0 and 1 have none of
_COUNTS = ("top_k", "max_per_img", "nms_pre")


@dataclass(frozen=True)
class Setting:
    """A threshold of a fusion head.

    Attributes:
        name (str): Of the option; dotted where a head holds another.
        value (float | int): The model's own; whole numbers take whole numbers only.
        low (float | int): Least value.
        high (float | int): Greatest value.
        step (float | int): Of a slider.
        meaning (str): From the docstring of the head.
    """

    name: str
    value: float | int
    low: float | int
    high: float | int
    step: float | int
    meaning: str

    def check(self, value: float) -> float | int:
        """Return a value as the option takes it.

        Raises:
            ValueError: If it is out of range, or should be whole and is not.
        """
        whole = isinstance(self.value, int)
        in_range = math.isfinite(value) and self.low <= value <= self.high
        if not in_range or (whole and value != int(value)):
            kind = "a whole number" if whole else "a number"
            raise ValueError(f"{self.name} must be {kind} from {self.low} to {self.high}")
        return int(value) if whole else float(value)


@dataclass(frozen=True)
class KeptOutputs:
    """What a network said of an image.

    Attributes:
        source (ImageSource): The image.
        outputs (HeadOutputs): On the CPU.
        sample (DetDataSample): Sizes of the image, for the fusion.
        nbytes (int): Of outputs and image.
    """

    source: ImageSource
    outputs: Any
    sample: DetDataSample
    nbytes: int


class LiveFusion:
    """Fuse the outputs of a model's network with thresholds that change.

    Args:
        inferencer (PanopticInferencer): Has the model.

    Raises:
        ValueError: If the model has no fusion head, or one that reads files of its own.

    Example:
        >>> live = LiveFusion(PanopticInferencer("nuclei"))
        >>> kept = live.run(next(iter_sources("cells.png")))
        >>> live.fuse(kept, {"threshold": 0.3})
    """

    def __init__(self, inferencer: PanopticInferencer) -> None:
        model: Any = inferencer.model
        cfg = getattr(model, "fusion_cfg", None) or inferencer.model.cfg.model.get("fusion_head")
        if cfg is None:
            raise ValueError("this model has no fusion_head; predictions need one in the config")
        if cfg["type"] == "SavedInstanceFusionHead":
            raise ValueError(
                "SavedInstanceFusionHead fuses instances from files, which images of strangers do "
                "not have; take the joint model"
            )
        self.inferencer = inferencer
        self.cfg = cfg.to_dict() if hasattr(cfg, "to_dict") else dict(cfg)
        self.device = next(model.parameters()).device
        own = Setting(MIN_SCORE, 0.0, 0.0, 1.0, 0.01, "Things of a lower score are left out.")
        self.settings = {one.name: one for one in (own, *find_settings(self.cfg))}

    @torch.inference_mode()
    def run(self, source: ImageSource) -> KeptOutputs:
        """Run the network.

        Args:
            source (ImageSource): One image.

        Returns:
            KeptOutputs: For :meth:`fuse`.

        Raises:
            PanopticFormatError: If the image cannot be read.
        """
        model: Any = self.inferencer.model
        sample = self.inferencer.pipeline(source.to_sample())
        with self.inferencer.autocast:
            data = model.data_preprocessor(pseudo_collate([sample]), False)
            outputs = model.forward_heads(data["inputs"], data["data_samples"])
        outputs = move_outputs(outputs, torch.device("cpu"))
        pixels = 0 if source.image is None else source.image.nbytes
        nbytes = count_bytes(outputs) + pixels
        return KeptOutputs(source, outputs, data["data_samples"][0], nbytes)

    @torch.inference_mode()
    def fuse(self, kept: KeptOutputs, values: Mapping[str, float] | None = None) -> PanopticResult:
        """Fuse outputs that were kept; they stay as they are.

        Args:
            kept (KeptOutputs): From :meth:`run`.
            values (Mapping | None): Values of settings; others are the model's own.

        Returns:
            PanopticResult: As the inferencer gives with such a fusion head.

        Raises:
            ValueError: If a setting is unknown or out of range.
        """
        given = self.check(values or {})
        least = given.pop(MIN_SCORE, 0.0)
        head = self.inferencer.model.fusion_head if not given else self._build_head(given)
        outputs = move_outputs(kept.outputs, self.device)
        with self.inferencer.autocast:
            (sample,) = self.inferencer.model.postprocess(outputs, [kept.sample.new()], head)
        result = self.inferencer.to_result(kept.source, sample)
        # A head may give scores below 0, which a least score of 0 does not ask to drop.
        return result.without_things_below(least) if least > 0 else result

    def check(self, values: Mapping[str, float]) -> dict[str, float | int]:
        """Check settings.

        Args:
            values (Mapping): Value by name.

        Returns:
            dict: As the options take them, without those that the model has already.

        Raises:
            ValueError: If a setting is unknown or out of range.
        """
        unknown = [name for name in values if name not in self.settings]
        if unknown:
            raise ValueError(
                f"unknown setting {unknown[0]}; this model has {', '.join(self.settings)}"
            )
        given = {name: self.settings[name].check(value) for name, value in values.items()}
        return {k: v for k, v in given.items() if v != self.settings[k].value}

    def _build_head(self, values: Mapping[str, float | int]) -> Any:
        cfg = {**self.cfg}
        for name, value in values.items():
            *parents, last = name.split(".")
            node = cfg
            for parent in parents:
                node[parent] = {**node[parent]}
                node = node[parent]
            node[last] = value
        return MODELS.build(cfg).to(self.device).eval()


def find_settings(cfg: Mapping[str, Any], prefix: str = "") -> Iterator[Setting]:
    """Find the thresholds among the options of a fusion head, and of one that it holds.

    Args:
        cfg (Mapping): Config of the head.
        prefix (str): Of the names.

    Yields:
        Setting: Shares (options called ``*_thr``, ``threshold``, ``min_visible``) from 0 to 1,
        areas (``*_area``) in pixels, numbers of candidates.
    """
    for option, (default, meaning) in arguments_of(cfg["type"]).items():
        value = cfg.get(option, default)
        name, meaning = f"{prefix}{option}", _MARKUP.sub(r"\2", meaning)
        if isinstance(value, Mapping) and "type" in value:
            yield from find_settings(value, f"{name}.")
        idle = option == "area_order_thr" and cfg.get("order") != "area"
        if idle or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if option.endswith(_SHARES):
            edge = 0.01 if option in _INNER else 0.0
            yield Setting(name, float(value), edge, max(1.0, value) - edge, 0.01, meaning)
        elif option.endswith("_area"):
            high = max(4 * int(value), 256)
            yield Setting(name, int(value), 0, high, max(high // 512, 1), meaning)
        elif option in _COUNTS:
            yield Setting(name, int(value), 1, max(2 * int(value), 200), 1, meaning)


def move_outputs(value: Any, device: torch.device) -> Any:
    """Copy nested outputs to a device; nothing that was kept can be changed through the copy.

    Args:
        value: Tensors in tuples, lists, mappings, ``InstanceData`` or ``BoxedMasks``; what else
            there is stays as it is.
        device (torch.device): Of the copy.

    Returns:
        Any: Of the same structure.
    """
    if isinstance(value, torch.Tensor):
        return value.to(device, copy=True)
    if isinstance(value, BoxedMasks):
        moved = (value.windows.to(device, copy=True), value.values.to(device, copy=True))
        return BoxedMasks(*moved, value.size, value.known)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(move_outputs(item, device) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(move_outputs(item, device) for item in value)
    if isinstance(value, Mapping):
        return {key: move_outputs(item, device) for key, item in value.items()}
    return value.to(device).clone() if hasattr(value, "to") else value


def count_bytes(value: Any) -> int:
    """Count the bytes of the tensors in nested outputs.

    Args:
        value: See :func:`move_outputs`; of other objects the attributes are counted.

    Returns:
        int: Bytes.
    """
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, torch.nn.Module | str):  # a head that answers questions is the model's
        return 0
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return sum(map(count_bytes, value))
    return sum(map(count_bytes, vars(value).values())) if hasattr(value, "__dict__") else 0
