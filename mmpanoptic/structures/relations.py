"""Who lies in front of whom among the instances of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mmengine.structures import InstanceData
    from torch import Tensor

OVERLAP_FIELD = "overlap"
"""Field of an instance annotation: ids of the instances that lie in front of it."""


def occluder_matrix(instances: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
    """Tabulate the annotated relations of an image.

    Args:
        instances (Sequence[Mapping]): All M annotations of the image, with ``id`` and ``overlap``.
            Ids that no annotation has are left out.

    Returns:
        np.ndarray | None: bool ``(M, M)``; entry (i, j): j lies in front of i. None if the
        annotations say nothing about relations.
    """
    if not any(OVERLAP_FIELD in instance for instance in instances):
        return None
    position = {instance["id"]: k for k, instance in enumerate(instances)}
    matrix = np.zeros((len(instances), len(instances)), bool)
    for k, instance in enumerate(instances):
        for other in instance.get(OVERLAP_FIELD, ()):
            if other in position:
                matrix[k, position[other]] = True
    return matrix


def relation_matrix(instances: InstanceData) -> Tensor:
    """Derive the relations of the instances that are still there.

    Transforms and filters remove instances, and with them rows of ``occluders``; its columns stay
    those of the annotation, and ``instance_index`` tells which of them still exist.

    Args:
        instances (InstanceData): ``occluders`` bool ``(N, M)`` and ``instance_index`` int64
            ``(N,)``, from ``PackPanopticInputs``.

    Returns:
        Tensor: bool ``(N, N)``; entry (i, j): i lies in front of j.

    Raises:
        ValueError: If there are instances without these fields.
    """
    if "occluders" in instances:
        return instances.occluders[:, instances.instance_index].T
    if len(instances):
        raise ValueError(
            "the ground truth says nothing about relations; give the dataset an instances_file "
            "whose annotations have the field 'overlap', which "
            "tools/dataset_converters/coco_relations.py adds"
        )
    return instances.bboxes.new_zeros((0, 0)).bool()
