"""Heads that a model cannot serve are refused when it is built."""

import pytest
import torch
from mmengine.registry import init_default_scope

from mmpanoptic.apis import get_config, list_configs
from mmpanoptic.engine.config import explained_build_errors, resolve_config
from mmpanoptic.registry import MODELS, ConfigError
from tests.models.test_contract import TABLES

DEEPLAB = "panoptic-deeplab_r18-tiny_1xb8-500_shapes"
COPS = "cops_r18-tiny_e2e_1xb8-200_shapes"
SOLO = "efficientps-solov2_b0-tiny_1xb8-600_shapes"
FPN = "panoptic-fpn_r18-tiny_1xb8-1k_shapes"
RAP = "rap_r18-tiny_relation-finetune_1xb8-2k_shapes"
OCFUSION = "rap_r18-tiny_ocfusion-finetune_1xb8-2k_shapes"
EOMT = "eomt_tiny_1xb8-1k_shapes"
MASK2FORMER = "mask2former_r18-tiny_1xb8-800_shapes"


def model_of(name):
    cfg = get_config(name)
    return resolve_config(cfg, TABLES["usual"].to_metainfo()).model


def build(model):
    init_default_scope("mmpanoptic")
    with torch.device("meta"):
        return MODELS.build(model)


@pytest.mark.parametrize(
    ("host", "part", "guest", "words"),
    [
        (FPN, "fusion_head", RAP, "RelationFusionHead needs relation_values.*relation_head"),
        (FPN, "fusion_head", OCFUSION, "OcclusionFusionHead needs occlusion.*occlusion_head"),
        (RAP, "fusion_head", OCFUSION, "needs occlusion.*the model has a RelationRoIHead"),
        (FPN, "fusion_head", DEEPLAB, "needs centres and offsets.*has a PanopticRoIHead"),
        (DEEPLAB, "fusion_head", RAP, "RelationFusionHead needs mask_logits.*relation_values"),
        (DEEPLAB, "fusion_head", SOLO, "needs kernels and mask features"),
        (DEEPLAB, "instance_head", SOLO, "CenterGroupingHead needs centres and offsets"),
        (DEEPLAB, "instance_head", COPS, "needs class logits, which PanopticSegmentor"),
        (COPS, "instance_head", DEEPLAB, r"MulticutHead needs edge costs"),
        (SOLO, "instance_head", DEEPLAB, "has a CenterOffsetHead"),
        (EOMT, "fusion_head", RAP, "needs mask_logits.*a TransformersPanopticSegmentor"),
        (EOMT, "fusion_head", COPS, "needs edge costs.*a TransformersPanopticSegmentor"),
        (MASK2FORMER, "fusion_head", RAP, "needs mask_logits.*a MMDetPanopticSegmentor"),
        (MASK2FORMER, "fusion_head", COPS, "needs edge costs.*a MMDetPanopticSegmentor"),
    ],
)
def test_parts_of_systems_that_do_not_fit_are_refused(host, part, guest, words):
    if host == EOMT:
        pytest.importorskip("transformers", reason="pip install 'mmpanoptic[transformers]'")
    model = model_of(host)
    model[part] = model_of(guest)[part]
    with pytest.raises(ConfigError, match=words):
        build(model)


def test_a_guest_has_no_place_for_a_relation_head():
    model = model_of(MASK2FORMER)
    model.relation_head = {"type": "RelationHead"}
    words = "MMDetPanopticSegmentor got an unexpected keyword argument 'relation_head'"
    with pytest.raises(ConfigError, match=words), explained_build_errors():
        build(model)


def test_a_fusion_head_without_the_instances_it_needs_is_refused():
    model = model_of(DEEPLAB)
    model.instance_head = None
    with pytest.raises(ConfigError, match=r"needs centres and offsets.*no instance head"):
        build(model)


def test_a_model_without_a_fusion_head_can_be_trained():
    model = model_of(FPN)
    model.fusion_head = None
    assert build(model).fusion_head is None


def test_instance_heads_need_thing_classes():
    cfg = resolve_config(get_config(SOLO), TABLES["no things"].to_metainfo())
    with pytest.raises(ConfigError, match=r"no thing classes.*DeepLabV3"):
        build(cfg.model)


def test_the_shipped_systems_fit():
    assert {DEEPLAB, COPS, SOLO, FPN, RAP, OCFUSION} <= list_configs().keys()
    for name in (DEEPLAB, COPS, SOLO, FPN, RAP, OCFUSION):
        build(model_of(name))
