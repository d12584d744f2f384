"""Costs of COPS' second stage at COCO's published size: bytes on their way to the solver."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmpanoptic.models.instance_heads.affinity import AffinityOutputs, CostScaling
from mmpanoptic.models.losses import MulticutLoss
from tests.gpu.real_configs import resolve
from tests.models.test_multicut_loss import DIVISOR, make_batch
from tests.pretended_gpu.device import RECORD

CONFIG = "cops_r52_e2e_1xb24-20k_coco-640x640"
CLASSES, THINGS, SIDE = 133, range(80), 640 // 4


def examine() -> dict[str, Any]:
    """Send one image's costs through the solver, on the CPU and on the device.

    Returns:
        dict: Images of the published batch, an image's bytes to the host, the waits for them, the
        loss, and whether it and its gradients equal those of the CPU.
    """
    cfg = resolve(CONFIG)
    options = {**cfg.model.multicut_loss, "num_classes": CLASSES, "thing_labels": THINGS}
    options |= {"num_steps": 1, "num_threads": 1, "label_divisor": DIVISOR}
    del options["type"]
    distances = options["distances"]
    outputs, targets = make_batch(
        1, SIDE, SIDE, classes=CLASSES, things=THINGS, distances=distances
    )
    targets.weight[:, :, : SIDE // 3] = 0
    targets.weight[:, : SIDE // 3] = 4
    torch.manual_seed(0)
    scaling = CostScaling(len(distances), cfg.model.instance_head.get("cost_dropout", 0.1), False)
    costs = scaling(outputs.node_costs.detach(), [part.detach() for part in outputs.edge_costs])
    loss = MulticutLoss(**options)
    expected = _learn(loss, *costs, targets)
    RECORD.clear()
    found = _learn(loss.to("cuda"), *_there(costs), type(targets)(*_there(targets)))
    return {
        "images": cfg.batch_size,
        "to_host": RECORD.to_host,
        "synchronized": sum(n for (kind, _), n in RECORD.waits.items() if kind == "synchronize"),
        "loss": float(expected[0]),
        "equal": all(
            torch.equal(one, other.cpu()) for one, other in zip(expected, found, strict=True)
        ),
    }


def _there(parts: Any) -> list[Any]:
    return [one.to("cuda") if isinstance(one, Tensor) else tuple(_there(one)) for one in parts]


def _learn(loss: MulticutLoss, node: Tensor, edges: Any, targets: Any) -> list[Tensor]:
    """Return the loss and its gradients at the costs."""
    leaves = [part.detach().clone().requires_grad_() for part in (node, *edges)]
    torch.manual_seed(1)
    outputs = AffinityOutputs((), leaves[0], tuple(leaves[1:]))
    value = loss(outputs, targets)["loss_multicut"]
    value.backward()
    return [value.detach(), *(leaf.grad for leaf in leaves)]
