"""What a server computes: an image, or outputs that were kept, to the bytes of an answer."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from threading import Lock
from typing import Any

import cv2
import numpy as np
import torch

from mmpanoptic.apis import PanopticInferencer, PanopticResult
from mmpanoptic.apis.inferencer import iter_sources
from mmpanoptic.apis.live_fusion import KeptOutputs, LiveFusion
from mmpanoptic.utils.format_errors import PanopticFormatError
from mmpanoptic.utils.panoptic_png import encode_panoptic_png
from mmpanoptic.visualization import PALETTES, DrawStyle, draw_panoptic
from mmpanoptic.visualization.draw import fit_to_view
from mmpanoptic.visualization.pages import list_runs

from .errors import RequestError
from .kept_images import KeptImages
from .limits import Limits, check_image

ANSWERS = ("json", "png", "overlay", "view")
"""Segments and map; the map alone; the drawing alone; what the page shows."""


@dataclass(frozen=True)
class Query:
    """What a request asks for.

    Attributes:
        answer (str): One of :data:`ANSWERS`.
        palette (str): Of drawings.
        settings (dict): Thresholds by name.
        keep (bool): Keep the network's outputs.
        instead (str | None): Name of outputs that need not be kept any more.
    """

    answer: str
    palette: str
    settings: dict[str, float]
    keep: bool = False
    instead: str | None = None


class Predictor:
    """Segment images for a server.

    Args:
        inferencer (PanopticInferencer): Has the model.
        name (str): Of the model, for clients; no path.
        limits (Limits): Of the server.
        palette (str): Of drawings, where a request names none.
    """

    def __init__(
        self,
        inferencer: PanopticInferencer,
        name: str,
        limits: Limits | None = None,
        palette: str = PALETTES[0],
    ) -> None:
        self.live = LiveFusion(inferencer)
        self.table = inferencer.table
        self.name = name
        self.limits = limits or Limits()
        self.palette = palette
        self.kept = KeptImages(self.limits.kept, self.limits.kept_bytes)
        self.network_runs = 0
        self._lock = Lock()  # one forward pass at a time, whatever the number of threads

    def describe(self) -> dict[str, Any]:
        """Say what the model is and takes: classes, settings, limits."""
        return {
            "model": self.name,
            "categories": self.table.to_categories(),
            "settings": [vars(one) for one in self.live.settings.values()],
            "palettes": list(PALETTES),
            "palette": self.palette,
            "limits": self.limits.to_dict(),
        }

    def status(self) -> dict[str, int]:
        """Count what was done and is held."""
        return {
            "network_runs": self.network_runs,
            "kept_images": len(self.kept),
            "kept_bytes": self.kept.nbytes,
        }

    def predict(self, data: bytes, query: Query) -> tuple[bytes, str]:
        """Segment an image.

        Args:
            data (bytes): Its file.
            query (Query): What is asked for.

        Returns:
            tuple[bytes, str]: Body of the answer and its media type.

        Raises:
            RequestError: If the image cannot be segmented.
        """
        check_image(data, self.limits)
        try:
            (source,) = iter_sources(data)
            with self._lock:
                self.network_runs += 1
                kept = self.live.run(source)
        except PanopticFormatError:
            raise RequestError(
                422,
                "the image is damaged, or not of 8 bits per channel",
                "a whole image of 8 bits per channel, grey or in colours",
                "open it in a viewer; if it looks whole, save it anew as PNG or JPEG",
            ) from None
        except (MemoryError, RuntimeError) as error:
            if not _is_lack_of_memory(error):
                raise
            raise RequestError(
                503,
                "there is not enough memory for this image",
                "images of fewer pixels",
                "send a smaller image",
            ) from None
        name = None
        if query.keep:
            name = self.kept.add(kept, query.instead)
        return self._answer(kept, query, name)

    def fuse(self, name: str, query: Query) -> tuple[bytes, str]:
        """Answer about an image whose outputs were kept; the network does not run.

        Args:
            name (str): From an answer with ``keep``.
            query (Query): What is asked for.

        Returns:
            tuple[bytes, str]: Body of the answer and its media type.

        Raises:
            RequestError: If they are gone.
        """
        kept = self.kept.get(name)
        if kept is None:
            raise RequestError(
                404,
                "what the network said of this image is not kept any more",
                f"the newest {self.limits.kept} images of all clients are kept",
                "send the image again: POST /predict?keep=1",
            )
        return self._answer(kept, query, name)

    def check(self, query: Query) -> None:
        """Check the settings of a request before its image is read.

        Raises:
            RequestError: If one is unknown or out of range.
        """
        try:
            self.live.check(query.settings)
        except ValueError as error:
            names = ", ".join(f"{s.name} {s.low:g}..{s.high:g}" for s in self._settings())
            raise RequestError(
                422, str(error), f"settings of this model: {names}", "GET /model explains them"
            ) from None

    def _settings(self) -> list[Any]:
        return list(self.live.settings.values())

    def _answer(self, kept: KeptOutputs, query: Query, name: str | None) -> tuple[bytes, str]:
        with self._lock:
            result = self.live.fuse(kept, query.settings)
        if query.answer == "png":
            return encode_panoptic_png(result.panoptic_seg), "image/png"
        if query.answer == "overlay":
            return _encode(".png", result.draw(style=DrawStyle(palette=query.palette))), "image/png"
        height, width = result.panoptic_seg.shape
        used = {one.name: query.settings.get(one.name, one.value) for one in self._settings()}
        content = {
            "width": width,
            "height": height,
            "segments_info": result.segments_info,
            "settings": used,
            "result": name,
        }
        if query.answer == "view":
            content["view"] = self._view(result, query)
        else:
            content["categories"] = self.table.to_categories()
            content["panoptic_png"] = _base64(encode_panoptic_png(result.panoptic_seg))
        return json.dumps(content, separators=(",", ":")).encode(), "application/json"

    def _view(self, result: PanopticResult, query: Query) -> dict[str, Any]:
        """Make the pictures and the map of the page, of a size that can be looked at."""
        image, (index,) = fit_to_view(
            np.ascontiguousarray(result.image[..., ::-1]),  # type: ignore[index]
            [result.panoptic_seg],
        )
        style = DrawStyle(palette=query.palette)
        overlay = draw_panoptic(image, index, result.segments_info, self.table, style)
        rows = [[s["name"], s["id"], s["area"], s["score"], ""] for s in result.segments_info]
        side = {"name": "prediction", "runs": list_runs(index), "segments": rows}
        height, width = index.shape
        pictures = {"image": image, "overlay": overlay}
        return {
            "width": width,
            "height": height,
            "sides": [side],
            **{k: _base64(_encode(".jpg", v[..., ::-1])) for k, v in pictures.items()},
        }


def _encode(suffix: str, picture: np.ndarray) -> bytes:
    settings = [cv2.IMWRITE_JPEG_QUALITY, 90] if suffix == ".jpg" else []
    return bytes(cv2.imencode(suffix, np.ascontiguousarray(picture), settings)[1])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _is_lack_of_memory(error: Exception) -> bool:
    return (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or "can't allocate memory" in str(error)  # PyTorch's word for it on the CPU
    )
