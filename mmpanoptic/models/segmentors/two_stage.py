"""Two-stage panoptic models: features, RPN, RoI head, semantic head, fusion head."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmpanoptic.models.layers import checkpoint_backbone
from mmpanoptic.registry import MODELS, ConfigError

from .panoptic_segmentor import HeadOutputs, PanopticSegmentor, plain_samples


@MODELS.register_module()
class TwoStagePanopticSegmentor(PanopticSegmentor):
    """Wire backbone, neck, RPN, RoI head, semantic head and fusion head together.

    Panoptic FPN (arXiv:1901.02446), section 3; the base of RAP, OCFusion, EfficientPS and
    Auto-Panoptic. The RPN head and the RoI head are mmdet's or follow their interface; the
    semantic head is that of :class:`PanopticSegmentor`. The fusion head gets, as ``ins_outputs``,
    one ``InstanceData`` per image with ``bboxes`` (float32 ``(K, 4)``, x0 y0 x1 y1 in pixels of the
    original image), ``scores``, ``labels`` (position in ``thing_labels``), ``mask_logits``
    (``(K, m, m)``, of the predicted class, inside the box) and what the RoI head's further heads
    add.

    Args:
        backbone (dict): Config of the backbone.
        rpn_head (dict): Config of the region proposal network.
        roi_head (dict): Config of the RoI head, e.g. ``PanopticRoIHead``.
        semantic_head (dict): Config of the semantic head.
        thing_labels (Sequence[int]): Contiguous labels of the things, in the order of the box
            head's classes.
        neck (dict | None): Config of the neck.
        fusion_head (dict | None): Config of the fusion head; only predictions need it.
        train_cfg (dict | None): mmdet's ``rpn``, ``rpn_proposal`` and ``rcnn``.
            ``rpn_proposal.max_per_batch`` bounds the proposals of all images of a process
            together, as maskrcnn-benchmark does; an image with few leaves room to others.
        test_cfg (dict): mmdet's ``rpn`` and ``rcnn``.
        inclusive_boxes (bool): The box coder takes boxes to end at their last pixel
            (x1 = x0 + width - 1, see ``DetectronBoxCoder``) rather than behind it; the ground truth
            is turned accordingly.
        train_extra_heads_only (bool): Train only what the RoI head names in ``EXTRA_HEADS``; all
            other parts stay as they are, get no gradients, and their losses are not computed.
        data_preprocessor (dict | nn.Module | None): Config of the data preprocessor;
            ``PanopticDataPreprocessor`` by default.
        channels_last (bool): See :class:`PanopticSegmentor`.
        activation_checkpointing (bool): See :class:`PanopticSegmentor`; the extra heads alone are
            trained without.
        init_cfg (dict | list | None): Initialisation of the whole model, e.g. a checkpoint.

    Raises:
        ValueError: If only extra heads are to be trained, but the RoI head has none.
        ConfigError: If there are no things, the fusion head needs what the RoI head does not give,
            or ``activation_checkpointing`` has nothing to compute again.
    """

    def __init__(
        self,
        backbone: dict,
        rpn_head: dict,
        roi_head: dict,
        semantic_head: dict,
        thing_labels: Sequence[int],
        neck: dict | None = None,
        fusion_head: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        inclusive_boxes: bool = False,
        train_extra_heads_only: bool = False,
        data_preprocessor: dict | nn.Module | None = None,
        channels_last: bool = False,
        activation_checkpointing: bool = False,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(
            backbone,
            neck=neck,
            semantic_head=semantic_head,
            fusion_head=None,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        train, test = ConfigDict(train_cfg or {}), ConfigDict(test_cfg or {})
        self.rpn_head: Any = _build_head(rpn_head, train.get("rpn"), test.get("rpn"))
        self.roi_head: Any = _build_head(roi_head, train.get("rcnn"), test.get("rcnn"))
        self.train_proposal_cfg = train.get("rpn_proposal", test.get("rpn"))
        if not thing_labels:
            raise ConfigError(
                "two-stage models predict things, but the dataset has no thing classes (isthing 1 "
                "in the JSON's categories); train a semantic model such as DeepLabV3+ on it"
            )
        self.fusion_head = None if fusion_head is None else MODELS.build(fusion_head)
        self.check_fusion(self.roi_head)
        self.thing_labels = tuple(thing_labels)
        self.box_end = 1 if inclusive_boxes else 0
        self.set_channels_last(channels_last)
        self.train_extra_heads_only = train_extra_heads_only
        if train_extra_heads_only:
            self.requires_grad_(False)
            for head in self.extra_heads():
                head.requires_grad_(True)
            self.train()
        if activation_checkpointing:
            checkpoint_backbone(self.backbone)

    def extra_heads(self) -> list[nn.Module]:
        """List the RoI head's modules that can be trained alone.

        Raises:
            ValueError: If there is none.
        """
        heads = [getattr(self.roi_head, n) for n in getattr(self.roi_head, "EXTRA_HEADS", ())]
        if not heads:
            raise ValueError(
                f"train_extra_heads_only needs a RoI head with extra heads, which "
                f"{type(self.roi_head).__name__} has not; choose e.g. RelationRoIHead, or train "
                "the whole model"
            )
        return heads

    def train(self, mode: bool = True) -> TwoStagePanopticSegmentor:
        """Switch between training and evaluation; frozen parts stay in evaluation.

        Args:
            mode (bool): Training.

        Returns:
            TwoStagePanopticSegmentor: The model.
        """
        super().train(mode)
        if mode and getattr(self, "train_extra_heads_only", False):
            for part in self.children():
                part.eval()
            for head in self.extra_heads():
                head.train()
        return self

    def exchange(self, feats: Sequence[Tensor]) -> tuple[Sequence[Tensor], Any]:
        """Run the semantic branch; a place for models whose branches hand features to each other.

        Args:
            feats (Sequence[Tensor]): Feature maps, fine to coarse.

        Returns:
            tuple: Feature maps for the RPN and the RoI head, outputs of the semantic head.
        """
        return self.instance_feats(feats), self.semantic_head(feats)

    def instance_feats(self, feats: Sequence[Tensor]) -> Sequence[Tensor]:
        """Give the feature maps for RPN and RoI head alone, where the semantic head may rest.

        Args:
            feats (Sequence[Tensor]): Feature maps, fine to coarse.

        Returns:
            Sequence[Tensor]: As the first result of :meth:`exchange`.
        """
        return feats

    def propose(
        self, feats: Sequence[Tensor], metas: Sequence[Mapping[str, Any]], cfg: Any = None
    ) -> list[InstanceData]:
        """Propose boxes.

        Args:
            feats (Sequence[Tensor]): Feature maps, fine to coarse.
            metas (Sequence[Mapping]): ``img_shape`` of each image.
            cfg (ConfigDict | None): Numbers of proposals; the RPN head's ``test_cfg`` by default.

        Returns:
            list[InstanceData]: ``bboxes`` and ``scores`` of each image, by descending score.
        """
        outputs = _in_float32(self.rpn_head(feats))
        return self.rpn_head.predict_by_feat(*outputs, batch_img_metas=list(metas), cfg=cfg)

    def forward_heads(
        self, inputs: Tensor, data_samples: Sequence[DetDataSample] | None = None
    ) -> HeadOutputs:
        """Run the network without fusion; this is what is timed.

        Args:
            inputs (Tensor): Normalised images ``(N, 3, H, W)``.
            data_samples (Sequence[DetDataSample] | None): Metainfo ``img_shape`` and
                ``ori_shape``; None takes every image as it is.

        Returns:
            HeadOutputs: Outputs of the semantic head; the instances, one ``InstanceData`` per
            image.
        """
        if data_samples is None:
            data_samples = plain_samples(inputs)
        feats, semantic = self.exchange(self.extract_feat(inputs))
        proposals = self.propose(feats, [sample.metainfo for sample in data_samples])
        return HeadOutputs(semantic, self.roi_head.predict(feats, proposals, data_samples))

    def predict(
        self, inputs: Tensor, data_samples: Sequence[DetDataSample] | None = None
    ) -> list[DetDataSample]:
        """Predict panoptic maps at the size of the original images.

        Args:
            inputs (Tensor): Normalised and padded images ``(N, 3, H, W)``.
            data_samples (Sequence[DetDataSample] | None): See :meth:`forward_heads`.

        Returns:
            list[DetDataSample]: The samples with the predictions added.
        """
        if data_samples is None:
            data_samples = plain_samples(inputs)
        return self.postprocess(self.forward_heads(inputs, data_samples), data_samples)

    def loss(self, inputs: Tensor, data_samples: Sequence[DetDataSample]) -> dict[str, Tensor]:
        """Compute the training losses.

        Args:
            inputs (Tensor): Normalised and padded images ``(N, 3, H, W)``.
            data_samples (Sequence[DetDataSample]): Ground truth: what the semantic head needs, and
                ``gt_instances`` with ``bboxes``, ``labels`` and ``masks`` (mmdet's
                ``BitmapMasks``).

        Returns:
            dict[str, Tensor]: Losses of all heads by name.

        Raises:
            ValueError: If a sample has no instances, a label is not a thing's, or two heads use
                the same name for a loss.
        """
        samples = [self.instance_truth(sample) for sample in data_samples]
        if self.train_extra_heads_only:
            return self._loss_of_extra_heads(inputs, samples)
        feats, semantic = self.exchange(self.extract_feat(inputs))
        own = [self.semantic_head.loss_by_feat(semantic, data_samples)]
        proposals, rpn_losses = self._rpn_loss(feats, samples)
        own += [rpn_losses, self.roi_head.loss(feats, proposals, samples)]
        losses: dict[str, Tensor] = {}
        for part in own:
            double = sorted(losses.keys() & part.keys())
            if double:
                raise ValueError(f"two heads return the loss {', '.join(double)}")
            losses.update(part)
        return losses

    def _rpn_loss(
        self, feats: Sequence[Tensor], samples: Sequence[DetDataSample]
    ) -> tuple[list[InstanceData], dict[str, Tensor]]:
        """Train the RPN to tell things from background, and propose boxes."""
        outputs = _in_float32(self.rpn_head(feats))
        metas = [sample.metainfo for sample in samples]
        truth = [InstanceData(bboxes=s.gt_instances.bboxes) for s in samples]
        for one in truth:
            one.labels = one.bboxes.new_zeros(len(one), dtype=torch.long)
        ignored = [sample.get("ignored_instances") for sample in samples]
        losses = self._loss_of_anchors(outputs, truth, metas, ignored)
        cfg = self.train_proposal_cfg
        proposals = self.rpn_head.predict_by_feat(*outputs, batch_img_metas=metas, cfg=cfg)
        return keep_best_of_batch(proposals, cfg.get("max_per_batch")), losses

    def _loss_of_anchors(self, outputs: Any, *truth: Any) -> dict[str, Tensor]:
        """Compute the RPN's losses; where no anchor fits into an image, anchors may cross borders.

        mmdet ends the training there.
        """
        try:
            return self.rpn_head.loss_by_feat(*outputs, *truth)
        except ValueError as error:
            if "no valid anchor inside the image" not in str(error):
                raise
        cfg = self.rpn_head.train_cfg
        border, cfg.allowed_border = cfg.allowed_border, -1
        try:
            return self.rpn_head.loss_by_feat(*outputs, *truth)
        finally:
            cfg.allowed_border = border

    def _loss_of_extra_heads(
        self, inputs: Tensor, samples: Sequence[DetDataSample]
    ) -> dict[str, Tensor]:
        with torch.no_grad():
            feats = self.instance_feats(self.extract_feat(inputs))
            metas = [sample.metainfo for sample in samples]
            proposals = self.propose(feats, metas, self.train_proposal_cfg)
        return self.roi_head.loss_of_extra_heads(feats, proposals, samples)

    def instance_truth(self, sample: DetDataSample) -> DetDataSample:
        """Turn the ground truth of the things into what RPN and RoI head expect.

        Args:
            sample (DetDataSample): With ``gt_instances``; stays as it is.

        Returns:
            DetDataSample: ``gt_instances`` whose labels are positions in ``thing_labels`` and whose
            boxes end as the box coder takes them, ``ignored_instances`` likewise, and the
            metainfo.

        Raises:
            ValueError: If there are no instances, or one's label is not in ``thing_labels``.
        """
        if "gt_instances" not in sample:
            raise ValueError(
                "two-stage models train on gt_instances, which this sample lacks; set "
                "PackPanopticInputs(with_instances=True) in the pipeline"
            )
        result = DetDataSample(metainfo=sample.metainfo)
        for name in ("gt_instances", "ignored_instances"):
            if name in sample:
                setattr(result, name, self._turn_instances(sample.get(name)))
        return result

    def _turn_instances(self, instances: InstanceData) -> InstanceData:
        turned = copy.copy(instances)
        end = instances.bboxes.new_tensor([0, 0, self.box_end, self.box_end])
        turned.bboxes = instances.bboxes - end
        hit = instances.labels[:, None] == instances.labels.new_tensor(self.thing_labels)
        if not hit.any(1).all():
            raise ValueError(
                f"the labels {sorted(set(instances.labels.tolist()))} of an image's instances are "
                f"not all in thing_labels {list(self.thing_labels)}; the config's classes are not "
                "the dataset's"
            )
        turned.labels = hit.long().argmax(1)
        return turned


def keep_best_of_batch(proposals: list[InstanceData], limit: int | None) -> list[InstanceData]:
    """Keep the proposals with the best scores of all images together.

    Args:
        proposals (list[InstanceData]): ``scores`` and more of each image.
        limit (int | None): How many to keep; None keeps all.

    Returns:
        list[InstanceData]: Of each image those that are left, in the same order.
    """
    counts = [len(one) for one in proposals]
    if limit is None or sum(counts) <= limit:
        return proposals
    scores = torch.cat([one.scores for one in proposals])
    keep = torch.zeros_like(scores, dtype=torch.bool)
    keep[scores.topk(limit).indices] = True
    return [one[kept] for one, kept in zip(proposals, keep.split(counts), strict=True)]


def _build_head(cfg: dict, train_cfg: Any, test_cfg: Any) -> nn.Module:
    return MODELS.build({**cfg, "train_cfg": train_cfg, "test_cfg": test_cfg})


def _in_float32(outputs: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
    """Decode boxes from float32: bfloat16 would round their coordinates."""
    return [[level.float() for level in levels] for levels in outputs]
