"""MaskFormer and Mask2Former of mmdet as guests."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmpanoptic.models.layers import checkpoint_backbone
from mmpanoptic.models.layers.mask_targets import collate_masks
from mmpanoptic.registry import MODELS, ConfigError

from .mask_fusion import fill_fusion
from .panoptic_segmentor import HeadOutputs, PanopticModel, plain_samples

DETECTORS = {"mmdet.MaskFormer": "MaskFormerHead", "mmdet.Mask2Former": "Mask2FormerHead"}
"""Detectors that can be hosted, and the ``panoptic_head`` of each."""
PARTS = ("type", "backbone", "neck", "panoptic_head", "train_cfg", "init_cfg")


@MODELS.register_module()
class MMDetPanopticSegmentor(PanopticModel):
    """Host mmdet's MaskFormer (arXiv:2107.06278) or Mask2Former (arXiv:2112.01527).

    Backbone, head, matcher and losses are mmdet's; data, post-processing and everything else are
    this package's. Parts have the names that they have in mmdet, so that its published weights are
    ``load_from`` as they are. Multi-scale deformable attention comes from :mod:`mmpanoptic.ops`
    where mmcv is not compiled.

    Targets are those of :class:`TransformersPanopticSegmentor`: one mask for each thing and for
    each stuff class of an image, crowds are no targets.

    Differences from the original: things and stuff may have any order of labels; targets come from
    the panoptic map, not from boxes and a semantic map, so crowds are left out of stuff, too; maps
    are fused by :class:`MaskSetFusionHead`, which enlarges no query that is dropped.

    Args:
        num_classes (int): Number of classes C.
        thing_labels (Sequence[int]): Contiguous labels of the things.
        detector (dict): A model of mmdet's configs: ``type`` ("mmdet.MaskFormer" or
            "mmdet.Mask2Former"), ``backbone``, ``neck``, ``panoptic_head``, ``train_cfg`` and
            ``init_cfg``. Types inside are mmdet's; other packages' have their prefix.
        fusion_head (dict | None): Config of the fusion head; :class:`MaskSetFusionHead` by default.
        data_preprocessor (dict | nn.Module | None): Config of the data preprocessor;
            ``PanopticDataPreprocessor`` by default, to a multiple of 32 pixels.
        activation_checkpointing (bool): See :class:`PanopticSegmentor`.

    Raises:
        ConfigError: If it is another detector, or the config has a setting that does nothing here.
    """

    GIVES = ("classified masks",)

    def __init__(
        self,
        num_classes: int,
        thing_labels: Sequence[int],
        detector: dict,
        fusion_head: dict | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        activation_checkpointing: bool = False,
    ) -> None:
        check_detector(detector)
        fusion = fill_fusion(fusion_head, num_classes, thing_labels)
        if data_preprocessor is None:
            data_preprocessor = {"type": "PanopticDataPreprocessor", "pad_size_divisor": 32}
        super().__init__(fusion, data_preprocessor, detector.get("init_cfg"))
        self.fusion_cfg = fusion
        self.check_fusion(self)
        self.backbone = _build(detector["backbone"])
        self.neck = _build(detector["neck"]) if detector.get("neck") else None
        head = head_config(detector, num_classes, len(thing_labels))
        self.panoptic_head: Any = _build(head)
        if activation_checkpointing:
            checkpoint_backbone(self.backbone)

    @property
    def export_obstacle(self) -> str | None:
        """Say why the network cannot become an ONNX file; None if nothing stands in its way."""
        decoder = type(self.panoptic_head.pixel_decoder).__name__
        if decoder != "MSDeformAttnPixelDecoder":
            return None
        return (
            f"{decoder} reads the sizes of its maps from a tensor, which the exporter cannot "
            "follow; the Mask2Former of the transformers package (network.model_type "
            "mask2former of TransformersPanopticSegmentor) can be exported"
        )

    def extract_feat(self, inputs: Tensor) -> Sequence[Tensor]:
        """Compute features, fine to coarse, of normalised images ``(N, 3, H, W)``."""
        feats = self.backbone(inputs)
        return feats if self.neck is None else self.neck(feats)

    def forward_heads(
        self, inputs: Tensor, data_samples: Sequence[DetDataSample] | None = None
    ) -> HeadOutputs:
        """Run the network without post-processing; this is what is exported and timed.

        Args:
            inputs (Tensor): Normalised images ``(N, 3, H, W)``.
            data_samples (Sequence[DetDataSample] | None): Metainfo ``img_shape``: MaskFormer does
                not look at padding. None takes every image as it is.

        Returns:
            HeadOutputs: ``semantic``, class logits of the queries ``(N, Q, C + 1)``, and
            ``instance``, their mask logits ``(N, Q, H / 4, W / 4)``.
        """
        samples = _with_padded_size(inputs, data_samples)
        classes, masks = self.panoptic_head(self.extract_feat(inputs), samples)
        return HeadOutputs(classes[-1], masks[-1])

    def predict(
        self, inputs: Tensor, data_samples: Sequence[DetDataSample] | None = None
    ) -> list[DetDataSample]:
        """Predict panoptic maps at the size of the original images.

        Args:
            inputs (Tensor): Normalised and padded images ``(N, 3, H, W)``.
            data_samples (Sequence[DetDataSample] | None): Metainfo ``img_shape``, ``ori_shape``;
                None takes every image as it is.

        Returns:
            list[DetDataSample]: The samples with the predictions added.
        """
        samples = _with_padded_size(inputs, data_samples)
        return self.postprocess(self.forward_heads(inputs, samples), samples)

    def loss(self, inputs: Tensor, data_samples: Sequence[DetDataSample]) -> dict[str, Tensor]:
        """Compute mmdet's losses.

        Args:
            inputs (Tensor): Normalised and padded images ``(N, 3, H, W)``.
            data_samples (Sequence[DetDataSample]): Ground truth, padded like the images.

        Returns:
            dict[str, Tensor]: ``loss_cls``, ``loss_mask`` and ``loss_dice`` of the last layer, and
            with ``d0.``, ``d1.``, ... before the name those of earlier ones.
        """
        samples = _with_padded_size(inputs, data_samples)
        targets = [
            InstanceData(masks=masks.long(), labels=labels)
            for masks, labels in zip(*collate_masks(samples), strict=True)
        ]
        outputs = self.panoptic_head(self.extract_feat(inputs), samples)
        metas = [sample.metainfo for sample in samples]
        return self.panoptic_head.loss_by_feat(*outputs, targets, metas)


def check_detector(detector: Mapping[str, Any]) -> None:
    """Refuse a detector that cannot be hosted and settings that would do nothing.

    Args:
        detector (Mapping): See :class:`MMDetPanopticSegmentor`.

    Raises:
        ConfigError: If there is something of that kind.
    """
    kind = detector.get("type")
    if kind not in DETECTORS:
        raise ConfigError(f"detector.type must be one of {', '.join(DETECTORS)}, got {kind!r}")
    places = {
        "data_preprocessor": "model.data_preprocessor=dict(type='PanopticDataPreprocessor', ...)",
        "panoptic_fusion_head": "model.fusion_head=dict(type='MaskSetFusionHead', ...)",
        "test_cfg": "model.fusion_head.score_thr (object_mask_thr of mmdet), overlap_thr (iou_thr) "
        "and fill (the opposite of filter_low_score)",
    }
    for name in detector:
        if name not in PARTS:
            what = f"set {places[name]}" if name in places else f"it may have {', '.join(PARTS)}"
            raise ConfigError(f"detector.{name} does nothing here; {what}")
    for name in ("backbone", "panoptic_head", "train_cfg"):
        if not detector.get(name):
            raise ConfigError(f"detector.{name} is missing; {kind} cannot be built without")
    head = detector["panoptic_head"]
    if str(head.get("type")).removeprefix("mmdet.") != DETECTORS[kind]:
        raise ConfigError(
            f"detector.panoptic_head.type must be {DETECTORS[kind]} in a {kind}, got "
            f"{head.get('type')!r}"
        )
    for name in ("num_things_classes", "num_stuff_classes"):
        if name in head:
            raise ConfigError(
                f"detector.panoptic_head.{name} does nothing: classes come from the dataset"
            )


def head_config(detector: Mapping[str, Any], num_classes: int, num_things: int) -> dict[str, Any]:
    """Give a head the classes of a dataset.

    Args:
        detector (Mapping): See :class:`MMDetPanopticSegmentor`.
        num_classes (int): Number of classes.
        num_things (int): How many of them are things.

    Returns:
        dict: Config of the head; "no object" weighs 0.1 in its classification loss unless
        ``class_weight`` says otherwise.

    Raises:
        ConfigError: If ``class_weight`` has another length.
    """
    head = copy.deepcopy(dict(detector["panoptic_head"]))
    head["num_things_classes"] = num_things
    head["num_stuff_classes"] = num_classes - num_things
    head["train_cfg"] = detector["train_cfg"]
    loss = {"type": "CrossEntropyLoss", "loss_weight": 2.0, **head.get("loss_cls", {})}
    weights = loss.setdefault("class_weight", [1.0] * num_classes + [0.1])
    if not isinstance(weights, Sequence) or len(weights) != num_classes + 1:
        raise ConfigError(
            f"detector.panoptic_head.loss_cls.class_weight needs {num_classes} numbers and one of "
            f'"no object", got {weights!r}; left out, they are 1 and 0.1'
        )
    return {**head, "loss_cls": loss}


def _build(config: Mapping[str, Any]) -> Any:
    """Build a part whose types, nested ones too, are mmdet's unless they have a prefix."""
    return MODELS.build(ConfigDict({"_scope_": "mmdet", **config}))


def _with_padded_size(
    inputs: Tensor, samples: Sequence[DetDataSample] | None
) -> Sequence[DetDataSample]:
    """Tell mmdet's heads the size of the batch, which the preprocessor of a training has told."""
    samples = plain_samples(inputs) if samples is None else samples
    for sample in samples:
        if "batch_input_shape" not in sample.metainfo:
            sample.set_metainfo({"batch_input_shape": tuple(inputs.shape[-2:])})
    return samples
