"""Tests of the parity tests: a mistake in a network is found, by a margin of ten."""

from __future__ import annotations

from contextlib import suppress

import pytest

from tests import tolerances
from tests.golden import golden_files
from tests.parity import (
    test_auto_panoptic,
    test_auto_panoptic_search,
    test_cops_network,
    test_efficientps,
    test_panoptic_deeplab,
    test_rap_network,
    test_solov2,
)
from tests.parity.faults import FAULTS

MARGIN = 10


def searched_network(path):
    test_auto_panoptic.test_searched_network(path, "rewritten")


# The parity test of each system's network, or of its parts where they have files of their own.
NETWORKS = {
    "panoptic_deeplab/forward_r52_conv_*.npz": test_panoptic_deeplab.test_network_forward,
    "rap/backbone_r101*.npz": test_rap_network.test_backbone_and_neck,
    "cops/network_coco*.npz": test_cops_network.test_network_and_prediction,
    "auto_panoptic/searched_coco_forward*.npz": searched_network,
    "efficientps_solov2/efficientnet_b5_features*.npz": test_efficientps.test_backbone_features,
    "efficientps_solov2/semantic_head*.npz": test_efficientps.test_semantic_head,
    "efficientps_solov2/solov2_head_light*.npz": test_solov2.test_forward,
}
# Their features are too few or too deep for the other faults to be a question.
EPS_ALONE = {
    "auto_panoptic/bn_recalibration*.npz": (
        test_auto_panoptic_search.test_recalibration_of_batch_norms
    ),
    "efficientps_solov2/mask_head*.npz": test_efficientps.test_mask_head,
}
CASES = [(pattern, test, fault) for pattern, test in NETWORKS.items() for fault in FAULTS]
CASES += [(pattern, test, "eps") for pattern, test in EPS_ALONE.items()]


@pytest.mark.parametrize(
    ("pattern", "test", "fault"), CASES, ids=[f"{p.split('*')[0]}-{f}" for p, _, f in CASES]
)
def test_a_fault_is_found(pattern, test, fault, monkeypatch):
    paths = golden_files(*pattern.split("/"))
    if not paths:
        pytest.skip("no such file in this folder")
    excess = [0.0]

    def measure(quantity, actual, expected, where):
        for norm, error in tolerances.relative_errors(actual, expected).items():
            excess.append(error / tolerances.allowed(quantity, norm))

    monkeypatch.setattr(tolerances, "listener", measure)
    with FAULTS[fault](), suppress(AssertionError):  # other numbers may be wrong as well
        test(paths[0])
    assert max(excess) >= MARGIN, f"{max(excess):.3g} times what is allowed"
