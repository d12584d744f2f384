"""Names of the published COPS checkpoints and ours, in both directions."""

from __future__ import annotations

from .panoptic_deeplab_keys import PublishedKeyMap


class CopsKeyMap(PublishedKeyMap):
    """Convert state dicts between the published naming and that of a ``COPS`` model.

    The published checkpoints hold ``amwc_layer.training_per_class_areas``, which nothing reads; it
    is dropped. Checkpoints of the second stage lack the batch counters of their frozen norm layers;
    these become 0.

    Args:
        model (nn.Module): A ``COPS`` model built from the config of the variant.
    """

    instance_rules = (
        (r"^instance_head\.costs\.node\.", "amwc_layer.seg_cost_weights."),
        (r"^instance_head\.costs\.edge\.", "amwc_layer.edge_costs_weights."),
        (r"^(instance_head\.classifiers\.\d+)\.hidden\.", r"\1."),
        (r"^(instance_head\.classifiers\.\d+)\.predictor\.", r"\1.2."),
        (r"^instance_head\.head\.", "AFF_EMBED_head.affinity_head."),
        (r"^instance_head\.", "AFF_EMBED_head."),
    )
    class_bound = ("sem_seg_head.predictor.", "AFF_EMBED_head.affinity_head.0.weight")
    dropped = (r"amwc_layer\.training_per_class_areas$",)
