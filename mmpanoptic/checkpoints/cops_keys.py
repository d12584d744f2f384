"""Published names of COPS: those of its detectron2 fork."""

from __future__ import annotations

from .key_map import KeyMap, Rules
from .panoptic_deeplab_keys import layouts

INSTANCE_HEAD: Rules = (
    (r"^instance_head\.costs\.node\.", "amwc_layer.seg_cost_weights."),
    (r"^instance_head\.costs\.edge\.", "amwc_layer.edge_costs_weights."),
    (r"^(instance_head\.classifiers\.\d+)\.hidden\.", r"\1."),
    (r"^(instance_head\.classifiers\.\d+)\.predictor\.", r"\1.2."),
    (r"^instance_head\.head\.", "AFF_EMBED_head.affinity_head."),
    (r"^instance_head\.", "AFF_EMBED_head."),
)


class CopsKeyMap(KeyMap):
    """Names of COPS; nothing reads the areas that are dropped.

    Checkpoints of the second stage lack the batch counters of their frozen norm layers.
    """

    layouts = layouts(INSTANCE_HEAD, dropped=(r"amwc_layer\.training_per_class_areas$",))
    class_bound = r"semantic_head\.predictor\.|instance_head\.head\.0\.conv\.weight"
