"""Universal segmentation models of the transformers package as guests."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine import dist
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmpanoptic.models.layers.mask_targets import collate_masks
from mmpanoptic.registry import MODELS, ConfigError

from .mask_fusion import fill_fusion
from .panoptic_segmentor import HeadOutputs, PanopticModel
from .transformers_weights import (
    POSITIONS,
    PROBABILITIES,
    explained_missing,
    fit_backbone,
    fit_weights,
    import_transformers,
    read_backbone,
    read_pretrained,
    resample_positions,
)

FAMILIES = ("eomt", "eomt_dinov3", "mask2former", "maskformer", "oneformer")
"""Values of ``model_type``."""
PANOPTIC_TASK = (49406, 518, 10549, 533, 1072, 24755, 49407)
"""CLIP's tokens of "the task is panoptic", which OneFormer reads as numbers."""
UNUSED = re.compile(
    r"model\.pixel_level_module\.encoder\.(swin|model)\.layernorm\.|criterion\.logit_scale"
)
"""Parameters that the losses do not reach; several processes would wait for their gradients."""


@MODELS.register_module()
class TransformersPanopticSegmentor(PanopticModel):
    """Host a universal segmentation model of the transformers package.

    EoMT (arXiv:2503.19108), EoMT with DINOv3, Mask2Former (arXiv:2112.01527), MaskFormer
    (arXiv:2107.06278) and OneFormer (arXiv:2211.06220), as
    https://github.com/huggingface/transformers implements them: network, matcher and losses are the
    library's, data, post-processing and everything else are this package's.

    Targets are one mask for each thing and for each stuff class of an image. Crowds are no targets;
    as in the papers' code, their pixels and void are outside of every mask.

    Differences from the original: the number of masks that the losses are divided by is averaged
    over the processes, as in the papers' code; maps are fused by :class:`MaskSetFusionHead` rather
    than by the library, whose ids may collide and whose masks of Mask2Former pass through 384 x 384
    pixels; EoMT's share of masked queries is rounded to 0 or 1 in evaluation, so that a model in
    the midst of its annealing predicts the same twice; OneFormer learns without its contrastive
    loss, which needs the CLIP tokenizer.

    Args:
        class_names (Sequence[str]): Names of the C classes, by contiguous label.
        thing_labels (Sequence[int]): Contiguous labels of the things.
        network (dict | None): ``model_type`` ("eomt", "eomt_dinov3", "mask2former", "maskformer" or
            "oneformer") and fields of the library's config class. None reads the config that lies
            beside the weights ``pretrained``, which then must be there whenever the model is built.
        pretrained (str | None): Folder, or id on the Hugging Face hub, whose weights a training
            begins with. The hub's cache (HF_HOME) and its offline mode (HF_HUB_OFFLINE=1) hold. The
            class layer starts anew where the number of classes differs. Only with ``network=None``
            they are loaded whenever the model is built, for inference too.
        backbone_pretrained (str | None): Folder or id of a DINOv2 (with registers) or DINOv3
            backbone that EoMT's transformer begins a training with, in place of ``pretrained``.
        reset_classes (bool): Start the class layer anew although the weights have as many classes.
        activation_checkpointing (bool): Compute the activations of each layer again in the backward
            pass rather than store them.
        fusion_head (dict | None): Config of the fusion head; :class:`MaskSetFusionHead` by default.
        data_preprocessor (dict | nn.Module | None): Config of the data preprocessor;
            ``PanopticDataPreprocessor`` by default. EoMT needs its ``pad_size``.
        init_cfg (dict | list | None): Initialisation of the whole model, e.g. a checkpoint.

    Raises:
        ImportError: If transformers is not installed.
        ConfigError: If the network is unknown or has unknown fields, or the weights do not fit.
    """

    GIVES = ("classified masks",)

    def __init__(
        self,
        class_names: Sequence[str],
        thing_labels: Sequence[int],
        network: dict | None = None,
        pretrained: str | os.PathLike[str] | None = None,
        backbone_pretrained: str | os.PathLike[str] | None = None,
        reset_classes: bool = False,
        activation_checkpointing: bool = False,
        fusion_head: dict | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: Any = None,
    ) -> None:
        fusion = fill_fusion(fusion_head, len(class_names), thing_labels)
        super().__init__(fusion, data_preprocessor, init_cfg)
        self.fusion_cfg = fusion
        self.check_fusion(self)
        self.pretrained = None if pretrained is None else os.fspath(pretrained)
        self.backbone_pretrained = None
        if backbone_pretrained is not None:
            self.backbone_pretrained = os.fspath(backbone_pretrained)
        if pretrained is not None and backbone_pretrained is not None:
            raise ConfigError(
                "pretrained and backbone_pretrained both name weights to begin with; give one"
            )
        self.reset_classes = reset_classes
        config = make_config(network, self.pretrained, class_names)
        self.family = config.model_type
        library = import_transformers()
        self.network: Any = library.AutoModelForUniversalSegmentation.from_config(config)
        self.network.criterion.get_num_masks = mean_num_masks
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(not UNUSED.match(name))
        if activation_checkpointing:
            checkpoint_layers(self.network)
        if self.anneals:
            # As a buffer of the network a GPU would be waited for before each block.
            self.register_buffer(PROBABILITIES, self.network.attn_mask_probs.clone())
            delattr(self.network, PROBABILITIES)
            self._register_load_state_dict_pre_hook(_fit_positions, with_module=True)
            self.register_load_state_dict_post_hook(_note_probabilities)
            self.note_probabilities()
        if network is None:
            self.load_pretrained()

    @property
    def anneals(self) -> bool:
        """Tell whether the network masks the attention of its queries at first: EoMT does."""
        return self.family.startswith("eomt")

    def note_probabilities(self) -> None:
        """Hand the shares of masked queries to the network; the host waits for a GPU here."""
        if self.attn_mask_probs.is_meta:
            return
        shares = self.attn_mask_probs.tolist()
        self.network.attn_mask_probs = [
            one if self.training else float(round(one)) for one in shares
        ]

    def train(self, mode: bool = True) -> TransformersPanopticSegmentor:
        """Switch between training and evaluation.

        Args:
            mode (bool): Training.

        Returns:
            TransformersPanopticSegmentor: The model.
        """
        super().train(mode)
        if PROBABILITIES in self._buffers:
            self.note_probabilities()
        return self

    def init_weights(self) -> None:
        """Load the weights that the config names; else the library's stay."""
        if self.init_cfg:
            super().init_weights()
        elif self.pretrained is not None:
            self.load_pretrained()
        elif self.backbone_pretrained is not None:
            backbone = read_backbone(self.backbone_pretrained, self.family)
            own = self.network.state_dict()
            state = fit_backbone(backbone, own, self.backbone_pretrained)
            self.network.load_state_dict({**own, **state})

    def load_pretrained(self) -> None:
        """Load the weights of a folder or of the hub.

        Raises:
            ConfigError: If they cannot be found or do not fit.
        """
        if self.pretrained is None:
            raise ConfigError("pretrained names no weights")
        found = read_pretrained(self.pretrained)
        own = {**self.network.state_dict(), **_annealing(self)}
        state = fit_weights(found, own, self.network.config, self.pretrained, self.reset_classes)
        probabilities = state.pop(PROBABILITIES, None)
        self.network.load_state_dict(state)
        if probabilities is not None:
            self.attn_mask_probs.copy_(probabilities)
            self.note_probabilities()

    def forward_heads(
        self, inputs: Tensor, data_samples: Sequence[DetDataSample] | None = None
    ) -> HeadOutputs:
        """Run the network without post-processing; this is what is exported and timed.

        Args:
            inputs (Tensor): Normalised images ``(N, 3, H, W)``, RGB.
            data_samples (Sequence[DetDataSample] | None): Not used.

        Returns:
            HeadOutputs: ``semantic``, class logits of the queries ``(N, Q, C + 1)``, and
            ``instance``, their mask logits ``(N, Q, h, w)``.
        """
        outputs = self.run(inputs)
        return HeadOutputs(outputs.class_queries_logits, outputs.masks_queries_logits)

    def run(self, inputs: Tensor, **targets: Any) -> Any:
        """Call the network.

        Args:
            inputs (Tensor): Normalised images ``(N, 3, H, W)``.
            **targets: ``mask_labels`` and ``class_labels`` of the library.

        Returns:
            ModelOutput: The library's.

        Raises:
            ValueError: If EoMT gets images of another size than its own.
        """
        config = self.network.config
        if self.anneals and tuple(inputs.shape[-2:]) != (config.image_size,) * 2:
            size = (config.image_size,) * 2
            raise ValueError(
                f"EoMT takes images of {size} pixels only, got {tuple(inputs.shape[-2:])}; let the "
                "pipeline resize them into this size and set "
                f'data_preprocessor=dict(pad_size={size}, pad_colour="black"), or set '
                "network.image_size"
            )
        if self.family == "oneformer":
            task = torch.zeros(1, config.task_seq_len, dtype=inputs.dtype)
            task[0, : len(PANOPTIC_TASK)] = torch.tensor(PANOPTIC_TASK, dtype=inputs.dtype)
            targets["task_inputs"] = task.to(inputs.device).expand(len(inputs), -1)
        if self.family == "maskformer" and config.use_auxiliary_loss:
            targets["output_hidden_states"] = True  # the library fails without
        return self.network(pixel_values=inputs, **targets)

    def loss(self, inputs: Tensor, data_samples: Sequence[DetDataSample]) -> dict[str, Tensor]:
        """Compute the library's losses.

        Args:
            inputs (Tensor): Normalised and padded images ``(N, 3, H, W)``.
            data_samples (Sequence[DetDataSample]): Ground truth, padded like the images.

        Returns:
            dict[str, Tensor]: Weighted terms of the last prediction, and ``loss_auxiliary``, the
            sum of those of all earlier layers.
        """
        masks, labels = collate_masks(data_samples, inputs.dtype)
        with recorded_losses(self.network) as layers:
            self.run(inputs, mask_labels=masks, class_labels=labels)
        *earlier, last = layers
        losses = {name: value.sum() for name, value in last.items() if not name[-1].isdigit()}
        others = [value.sum() for name, value in last.items() if name[-1].isdigit()]
        others += [value.sum() for layer in earlier for value in layer.values()]
        if others:
            losses["loss_auxiliary"] = torch.stack(others).sum()
        return losses


@contextmanager
def recorded_losses(network: Any) -> Iterator[list[dict[str, Tensor]]]:
    """Record what the network's ``get_loss_dict`` returns; EoMT's output has the sum alone.

    Args:
        network (PreTrainedModel): Of the library.

    Yields:
        list[dict[str, Tensor]]: Filled by each call; the last one is of the last prediction.
    """
    compute = network.get_loss_dict
    found: list[dict[str, Tensor]] = []

    def record(*args: Any, **kwargs: Any) -> dict[str, Tensor]:
        found.append(compute(*args, **kwargs))
        return found[-1]

    network.get_loss_dict = record
    try:
        yield found
    finally:
        del network.get_loss_dict


def mean_num_masks(class_labels: Sequence[Tensor], device: torch.device) -> Tensor:
    """Average the number of masks of a batch over the processes; at least 1.

    Args:
        class_labels (Sequence[Tensor]): ``(n,)`` of each image.
        device (torch.device): Of the result.

    Returns:
        Tensor: float32 ``()``.
    """
    count = torch.tensor(float(sum(len(one) for one in class_labels))).to(device, non_blocking=True)
    if dist.get_world_size() > 1:
        dist.all_reduce(count, "mean")
    return count.clamp(min=1)


def checkpoint_layers(network: nn.Module) -> None:
    """Let a network compute the activations of its layers again in the backward pass.

    Args:
        network (nn.Module): Of the library.

    Raises:
        ConfigError: If the library has not prepared any of its layers for that.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers: list[Any] = [
        part for part in network.modules() if isinstance(part, GradientCheckpointingLayer)
    ]
    if not layers:
        raise ConfigError(
            f"activation_checkpointing: no layer of {type(network).__name__} can be computed again "
            "in this version of transformers; leave the setting out"
        )
    for layer in layers:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)


# ---- configs ----------------------------------------------------------------------------------


def make_config(
    network: Mapping[str, Any] | None, pretrained: str | None, class_names: Sequence[str]
) -> Any:
    """Make the library's config of a network for the classes of a dataset.

    Args:
        network (Mapping | None): See :class:`TransformersPanopticSegmentor`.
        pretrained (str | None): Where a config lies if there is no ``network``.
        class_names (Sequence[str]): By label.

    Returns:
        PretrainedConfig: Of the library.

    Raises:
        ConfigError: If it is unknown, has unknown fields, or cannot be served.
    """
    library = import_transformers()
    names: dict[str, Any] = {
        "id2label": dict(enumerate(class_names)),
        "label2id": {name: label for label, name in enumerate(class_names)},
    }
    if network is None:
        if pretrained is None:
            raise ConfigError("TransformersPanopticSegmentor needs network, pretrained or both")
        with explained_missing(pretrained):
            config = library.AutoConfig.from_pretrained(pretrained)
        _check_family(config.model_type)
        config.id2label, config.label2id = names["id2label"], names["label2id"]
    else:
        fields = _plain(network)
        _check_family(kind := fields.pop("model_type", None))
        _check_fields(fields, type(library.AutoConfig.for_model(kind)), "network")
        config = library.AutoConfig.for_model(kind, **fields, **names)
    if getattr(config, "is_training", False):
        raise ConfigError(
            "network.is_training=True of OneFormer adds a contrastive loss with texts, for which "
            "the CLIP tokenizer would be needed; leave it False"
        )
    return config


def _plain(node: Any) -> Any:
    """Turn a config's dicts into plain ones, which the library's checks ask for."""
    if isinstance(node, Mapping):
        return {key: _plain(value) for key, value in node.items()}
    return [_plain(value) for value in node] if isinstance(node, list | tuple) else node


def _check_family(kind: Any) -> None:
    if kind not in FAMILIES:
        raise ConfigError(f"network.model_type must be one of {', '.join(FAMILIES)}, got {kind!r}")


def _check_fields(fields: Mapping[str, Any], kind: type, place: str) -> None:
    """Refuse fields that the library would take and never read."""
    properties = (name for name in dir(kind) if isinstance(getattr(kind, name), property))
    known = [name for name in (*vars(kind()), *properties) if not name.startswith("_")]
    refused = ("id2label", "label2id", "num_labels")
    for name, value in fields.items():
        if name in refused:
            raise ConfigError(f"{place}.{name} does nothing: classes come from the dataset")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{kind.__name__} has no field {name} ({place}.{name}){hint}")
        if name.endswith("_config") and isinstance(value, Mapping) and "model_type" in value:
            library = import_transformers()
            inner = {key: one for key, one in value.items() if key != "model_type"}
            try:
                nested = type(library.AutoConfig.for_model(value["model_type"]))
            except ValueError as error:
                raise ConfigError(f"{place}.{name}.model_type: {error}") from error
            _check_fields(inner, nested, f"{place}.{name}")


def _fit_positions(module: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Resample the position table of another image_size; only trainings may begin with one."""
    name = f"{prefix}network.{POSITIONS}"
    own = dict(module.network.named_parameters()).get(POSITIONS)  # DINOv3 has no table
    if own is not None and name in state and len(state[name]) != len(own):
        state[name] = resample_positions(state[name], len(own))


def _note_probabilities(module: Any, incompatible: Any) -> None:
    """Follow a loaded state; a function of the module, so that models can be pickled."""
    module.note_probabilities()


def _annealing(module: nn.Module) -> dict[str, Tensor]:
    found = module._buffers.get(PROBABILITIES)
    return {} if found is None else {PROBABILITIES: found}
