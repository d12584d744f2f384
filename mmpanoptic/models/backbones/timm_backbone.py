"""Backbones of timm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from mmpanoptic.registry import MODELS


@MODELS.register_module()
class TIMMBackbone(BaseModule):
    """Take the feature maps of a model of timm.

    Source: https://github.com/huggingface/pytorch-image-models, whose models these are.

    Args:
        model_name (str): Model and, for its weights, tag: ``resnet50.a1_in1k``.
        pretrained (bool): Begin a training with timm's weights of this name. They are fetched
            when weights are initialised, so that a model which loads a checkpoint needs none.
        out_strides (Sequence[int]): Strides of the maps to return; of several maps of one stride
            the last.
        init_cfg (dict | None): As in mmengine; in place of ``pretrained`` a ``Pretrained`` one
            names another file in timm's names of the whole model.
        **kwargs: As in ``timm.create_model``, for instance ``output_stride=16`` or
            ``dynamic_img_size=True``.

    Raises:
        ImportError: If timm is not installed.
        ValueError: If the model has no map of a stride, or no weights are published for it.

    Differences from the original (``TIMMBackbone`` of mmsegmentation 1.2.2): maps are chosen by
    stride and are always ``(N, C, H, W)``; weights come by this package's download, which checks
    them, when a training begins, not whenever a model is built; every tensor must be placed.
    """

    def __init__(
        self,
        model_name: str,
        pretrained: bool = False,
        out_strides: Sequence[int] = (4, 8, 16, 32),
        init_cfg: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if pretrained and init_cfg:
            raise ValueError("pretrained=True and init_cfg both name weights; give one of them")
        if pretrained:
            init_cfg = {"type": "Pretrained", "checkpoint": _address_of(model_name)}
        super().__init__(init_cfg)
        self._name, self._settings = model_name, kwargs
        network = _create(model_name, features_only=True, **kwargs)
        strides = network.feature_info.reduction()
        missing = [stride for stride in out_strides if stride not in strides]
        if missing or not out_strides:
            raise ValueError(
                f"{model_name} has maps of stride {', '.join(map(str, sorted(set(strides))))}; "
                f"out_strides={tuple(out_strides)} asks for others. output_stride=16 dilates the "
                "last stage of many models"
            )
        last = {stride: place for place, stride in enumerate(strides)}
        places = [network.feature_info.out_indices[last[stride]] for stride in out_strides]
        if places != list(network.feature_info.out_indices):
            self._settings = {**kwargs, "out_indices": tuple(places)}
            network = _create(model_name, features_only=True, **self._settings)
        self.timm_model = network
        self._is_nhwc = str(getattr(network, "output_fmt", None)).endswith("NHWC")

    def init_weights(self) -> None:
        """Load the weights that ``init_cfg`` names; else those stay that timm began with."""
        if self.init_cfg:
            super().init_weights()

    def read_pretrained(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turn weights of timm's whole model into those of this backbone.

        Args:
            state (Mapping): Tensors by timm's names; also older names that timm translates.

        Returns:
            dict[str, Tensor]: Tensors by the names of this module.

        Raises:
            ValueError: If they are not those of the model.
        """
        settings = {name: v for name, v in self._settings.items() if name != "out_indices"}
        try:  # the whole model takes them strictly, the features alone would not
            _create(self._name, pretrained=True, pretrained_cfg_overlay=_given(state), **settings)
        except (RuntimeError, KeyError) as error:
            raise ValueError(
                f"the weights are not those of timm's {self._name}: {error}"
            ) from error
        features = _create(
            self._name,
            features_only=True,
            pretrained=True,
            pretrained_cfg_overlay=_given(state),
            **self._settings,
        )
        return {f"timm_model.{name}": value for name, value in features.state_dict().items()}

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map ``(N, 3, H, W)`` to one map ``(N, C, H / stride, W / stride)`` for each stride."""
        maps = self.timm_model(x)
        return tuple(level.permute(0, 3, 1, 2) if self._is_nhwc else level for level in maps)


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise ImportError(
            "TIMMBackbone needs timm: install the torchvision that belongs to your torch, then "
            f"`pip install timm` ({error})"
        ) from error
    return timm


def _create(name: str, **settings: Any) -> Any:
    return _timm().create_model(name, **settings)


def _given(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Let timm take tensors in place of a download; it changes the dict."""
    return {"state_dict": dict(state)}


def _address_of(name: str) -> str:
    """Return the address of timm's weights for a model."""
    published = _timm().models.get_pretrained_cfg(name)
    if published is None or not (published.hf_hub_id or published.url):
        raise ValueError(f"timm publishes no weights for {name}; timm.list_pretrained() has names")
    if published.hf_hub_id:
        return f"hf://{published.hf_hub_id}/{published.hf_hub_filename or 'model.safetensors'}"
    return published.url
