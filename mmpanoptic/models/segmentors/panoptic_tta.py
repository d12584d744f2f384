"""Test-time augmentation: one prediction from several scaled and mirrored versions of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmdet.structures import DetDataSample
from mmengine.model import BaseTTAModel
from torch import Tensor, nn

from mmpanoptic.registry import MODELS

from .panoptic_segmentor import HeadOutputs


@MODELS.register_module()
class PanopticTTAModel(BaseTTAModel):
    """Average the network's outputs over augmentations, then post-process once.

    Outputs are brought to the size of the result, mirrored back and averaged: probabilities of
    classes, heatmaps, and offsets, which are scaled to that size and whose sign follows the
    mirror. Panoptic maps themselves cannot be averaged. Augmentations are what ``tta_pipeline``
    of the config makes with ``TestTimeAug``: any scales and flips.

    Args:
        module (dict | nn.Module): The model; its fusion head needs ``predict_augmented``.
        data_preprocessor (dict | nn.Module | None): Replaces the model's.

    Raises:
        ValueError: If the model's fusion head cannot average.
    """

    def __init__(
        self,
        module: dict | nn.Module,
        data_preprocessor: dict | nn.Module | None = None,
    ) -> None:
        if isinstance(module, Mapping):
            if data_preprocessor is not None:
                module = {**module, "data_preprocessor": data_preprocessor}
            # mmengine would look the type up in its own registry only.
            module = MODELS.build(dict(module))
        super().__init__(module)
        self.module: Any
        head = getattr(self.module, "fusion_head", None)
        if not hasattr(head, "predict_augmented"):
            raise ValueError(
                f"the fusion head {type(head).__name__} cannot average over augmentations; test "
                "without --tta"
            )

    def test_step(self, data: Mapping[str, Any]) -> list[DetDataSample]:
        """Predict a batch.

        Args:
            data (Mapping): ``inputs`` and ``data_samples``: for each augmentation a list of
                images and samples.

        Returns:
            list[DetDataSample]: The samples of the first augmentation with the predictions.
        """
        augmented = []
        for inputs, samples in zip(data["inputs"], data["data_samples"], strict=True):
            batch = self.module.data_preprocessor({"inputs": inputs, "data_samples": samples})
            outputs = self.module.forward_heads(batch["inputs"])
            prepared = enumerate(batch["data_samples"])
            augmented.append([_with_outputs(sample, outputs, n) for n, sample in prepared])
        return self.merge_preds([list(versions) for versions in zip(*augmented, strict=True)])

    def merge_preds(
        self, data_samples_list: Sequence[Sequence[DetDataSample]]
    ) -> list[DetDataSample]:
        """Post-process the mean outputs.

        Args:
            data_samples_list (Sequence): For each image its augmented samples, with the field
                ``network_outputs``.

        Returns:
            list[DetDataSample]: The first sample of each image with the predictions.
        """
        merged = []
        for versions in data_samples_list:
            outputs = [sample.pop("network_outputs") for sample in versions]
            fields = self.module.fusion_head.predict_augmented(
                [output.semantic for output in outputs],
                [output.instance for output in outputs],
                [sample.metainfo for sample in versions],
            )
            for name, value in fields.items():
                setattr(versions[0], name, value)
            merged.append(versions[0])
        return merged


def _with_outputs(sample: DetDataSample, outputs: HeadOutputs, number: int) -> DetDataSample:
    """Hang the outputs of one image of the batch on its sample."""
    sample.network_outputs = HeadOutputs(*(_select(output, number) for output in outputs))
    return sample


def _select(output: Any, number: int) -> Any:
    """Take one image out of a tensor or a (named) tuple of tensors."""
    if output is None or isinstance(output, Tensor):
        return None if output is None else output[number]
    return type(output)(*(_select(part, number) for part in output))
