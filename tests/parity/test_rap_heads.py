"""Relation head, its loss, and the occlusion head of RAP against the golden files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmpanoptic.models.losses import PairwiseRankingLoss
from mmpanoptic.models.roi_heads import OcclusionHead, RelationHead
from mmpanoptic.models.roi_heads.relation_roi_head import stack_mask
from mmpanoptic.structures import occluder_matrix, relation_matrix
from tests.data.golden.panoptic_deeplab import synthetic_checkpoint
from tests.golden import Golden, golden_cases, golden_files, layout_file
from tests.tolerances import check

SYSTEM = "rap"
PREFIX = "roi_heads.relation."


def published_heads(kind: str) -> dict[str, torch.Tensor]:
    """Synthetic weights of the published layout under our names; kind is "" or "oc_"."""
    name = {"": "RAP", "oc_": "ocfusion"}[kind]
    manifest = json.loads(layout_file(SYSTEM, f"manifest_R_50_{name}.json").read_text())
    state = {}
    for published, shape in manifest.items():
        if not published.startswith(PREFIX):
            continue
        layer, leaf = published.rsplit(".", 1)
        layer = layer.split(".")[-1].removeprefix(f"relation_{kind}")
        ours = {"fc1": "fc", "fc2": "predictor", "val": "predictor"}.get(layer)
        ours = ours or f"convs.{int(layer.removeprefix('fcn')) - 1}"
        values = synthetic_checkpoint.synthetic_tensor(published, shape)
        state[f"{ours}.{leaf}"] = torch.from_numpy(values)
    return state


def head_inputs(data) -> torch.Tensor:
    """The stacked features and masks of a golden file."""
    rs, num = np.random.RandomState(int(data["seed"])), int(data["num"])
    feats = rs.standard_normal((num, 256, 14, 14)).astype(np.float32)
    probability = rs.uniform(0, 1, (num, 1, 28, 28)).astype(np.float32)
    return stack_mask(torch.from_numpy(feats), torch.from_numpy(probability)[:, 0].logit())


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "relation_head*.npz"))
@torch.no_grad()
def test_relation_values(path):
    data = Golden(path)
    head = RelationHead()
    head.load_state_dict(published_heads(""))
    x = head_inputs(data)
    data.close("rap.relation_values", "relation_val", head(x))
    hidden = head.fc(head.features(x)).relu()[:, ::8]
    data.close("rap.relation_features", "fc1_every_8th", hidden)


def image_relations(target: dict) -> torch.Tensor:
    """Who lies in front of whom.

    The original's case filters an instance out, but keeps proposals of it: what it hides still
    counts, what hides it does not.
    """
    annotated = [
        {"id": number, "overlap": overlap}
        for number, overlap in zip(target["ids"], target["overlap"], strict=True)
    ]
    occluders = torch.from_numpy(occluder_matrix(annotated))
    occluders[~torch.tensor(target["keep"]).bool()] = False
    return relation_matrix(
        InstanceData(instance_index=torch.arange(len(annotated)), occluders=occluders)
    )


def relation_cases():
    for path in golden_files(SYSTEM, "relation_loss*.json"):
        for name, case in json.loads(path.read_text()).items():
            yield pytest.param(case, id=f"{path.stem}-{name}")


@pytest.mark.parametrize("case", relation_cases())
def test_relation_loss_and_gradient(case):
    z = torch.tensor(case["z"], requires_grad=True)
    matrices = []
    for ids, target in zip(case["proposal_instance_ids"], case["targets"], strict=True):
        owner = torch.tensor([target["ids"].index(number) for number in ids])
        matrices.append(image_relations(target)[owner][:, owner])
    loss = PairwiseRankingLoss()(z.split([len(one) for one in matrices]), matrices)
    (gradient,) = torch.autograd.grad(loss, z)
    expected, expected_gradient = case["loss"], torch.tensor(case["grad"])
    if not np.isfinite(expected):  # the original overflows
        gap = max(case["z"]) - min(case["z"])
        expected, expected_gradient = gap, torch.tensor([-1.0, 1.0])
    check("rap.relation_loss", loss, expected)
    check("rap.relation_loss_gradient", gradient, expected_gradient)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "ocfusion_head*.npz"))
def test_occlusion_probabilities_and_training(path):
    data = Golden(path)
    head = OcclusionHead()
    head.load_state_dict(published_heads("oc_"))
    x = head_inputs(data).requires_grad_()
    num = int(data["num"])
    with torch.no_grad():
        pairs = torch.cartesian_prod(torch.arange(num), torch.arange(num))
        probability = head(x, pairs).view(num, num)
    data.close("rap.occlusion", "pair_prob", probability)
    data.equal("occlusion", probability > 0.5)

    ids = torch.from_numpy(data["proposal_instance_ids"])
    relations = []
    for k, owner in enumerate(ids.split(data["proposals_per_image"].tolist())):
        front = torch.zeros(len(owner), len(owner), dtype=torch.bool)
        for first, second in data[f"relation_pairs_{k}"].tolist():
            front |= (owner[:, None] == first) & (owner[None] == second)
        relations.append(front)
    loss = head.loss(x[: len(ids)], relations)["loss_occlusion"]
    data.close("rap.occlusion_loss", "loss", loss)
    (gradient,) = torch.autograd.grad(loss, x)
    total = gradient.abs().sum((1, 2, 3))[: len(ids)]
    data.close("rap.occlusion_gradient", "input_grad_abs_sum", total)
