"""Small COPS models for the tests of this folder."""

from __future__ import annotations

from tests.models.builders import NUM_CLASSES, THINGS, tiny_config

DISTANCES = (1, 4, 8)


def tiny_cops(second_stage: bool = False, **fusion) -> dict:
    """Config of a COPS model with a few thousand weights."""
    config = tiny_config()
    levels = {
        key: value
        for key, value in config["semantic_head"].items()
        if key not in ("type", "num_classes", "small_instance_area")
    }
    config["type"] = "COPS"
    config["instance_head"] = {
        "type": "AffinityHead",
        "num_classes": NUM_CLASSES,
        "distances": DISTANCES,
        "near_channels": (8, 8),
        "far_channels": (16, 8),
        **levels,
    }
    config["fusion_head"] = {
        "type": "MulticutHead",
        "num_classes": NUM_CLASSES,
        "thing_labels": THINGS,
        "distances": DISTANCES,
        "stuff_area": 64,
        "instance_area": 32,
        **fusion,
    }
    if second_stage:
        config["frozen"] = ("backbone", "semantic_head.decoder", "instance_head.decoder")
        config["frozen_norm"] = True
        config["semantic_head"]["loss"] = {"type": "HardPixelMiningLoss", "loss_weight": 0.0}
        config["instance_head"].update(
            learn_costs=True, loss={"type": "HardEdgeMiningLoss", "loss_weight": 0.0}
        )
        config["multicut_loss"] = {
            "type": "MulticutLoss",
            "num_classes": NUM_CLASSES,
            "thing_labels": THINGS,
            "distances": DISTANCES,
            "stuff_area": 64,
            "instance_area": 32,
            "num_steps": 2,
            "num_threads": 1,
        }
    return config
