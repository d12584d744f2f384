"""Guests of the transformers package compute what the library computes, on our samples."""

import copy

import pytest
import torch
from mmengine.runner.checkpoint import load_state_dict

from mmpanoptic.models.layers.mask_targets import collate_masks
from mmpanoptic.models.segmentors import transformers_segmentor as guest
from mmpanoptic.models.segmentors.transformers_weights import resample_patches
from mmpanoptic.registry import ConfigError
from tests.models.mask_transformer_builders import NETWORKS, build, images, sample

FAMILIES = sorted(NETWORKS)
each_family = pytest.mark.parametrize("family", FAMILIES)


def call_library(model, inputs, **targets):
    """Call the network as the library's users do."""
    if model.family == "oneformer":
        task = torch.zeros(len(inputs), 77)
        task[:, :7] = torch.tensor([49406, 518, 10549, 533, 1072, 24755, 49407])
        targets["task_inputs"] = task
    if model.family == "maskformer":
        targets["output_hidden_states"] = True
    return model.network(pixel_values=inputs, **targets)


@each_family
def test_logits_and_losses_are_the_librarys(family):
    model = build(family).train()
    samples, inputs = [sample(), sample(empty=True)], images()
    masks, labels = collate_masks(samples)
    torch.manual_seed(3)
    expected = call_library(model, inputs, mask_labels=masks, class_labels=labels).loss
    torch.manual_seed(3)
    losses = model(inputs, samples, mode="loss")
    assert sum(losses.values()).item() == pytest.approx(expected.item(), rel=1e-5)
    assert {"loss_mask", "loss_dice", "loss_cross_entropy", "loss_auxiliary"} == losses.keys()
    model.eval()
    with torch.no_grad():
        heads = model(inputs)
        outputs = call_library(model, inputs)
    torch.testing.assert_close(heads.semantic, outputs.class_queries_logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(heads.instance, outputs.masks_queries_logits, atol=1e-5, rtol=1e-5)


@each_family
def test_every_trained_parameter_gets_a_gradient_and_predictions_are_maps(family):
    model = build(family).train()
    samples = [sample(), sample(empty=True)]
    sum(model(images(), samples, mode="loss").values()).backward()
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    assert not [name for name, one in trained.items() if one.grad is None]
    model.eval()
    model.fusion_head.rules = model.fusion_head.rules._replace(score_thr=0.0, overlap_thr=0.0)
    with torch.no_grad():
        for one in model(images(), samples, mode="predict"):
            panoptic = one.pred_panoptic_seg
            found = set(panoptic.index_map.unique().tolist()) - {0}
            assert found == {segment["id"] for segment in panoptic.segments_info}


@each_family
def test_images_without_any_segment_can_be_learnt_from(family):
    model = build(family).train()
    losses = model(images(1), [sample(empty=True)], mode="loss")
    assert torch.isfinite(sum(losses.values()))


def test_targets_leave_crowds_out_and_merge_stuff():
    (masks, empty), (labels, none) = collate_masks([sample(), sample(empty=True)])
    assert labels.tolist() == [0, 1], "the car without pixels and the crowd are no masks"
    assert masks.sum((1, 2)).tolist() == [24 * 64, 300]
    assert masks.dtype == torch.float32
    assert empty.shape == (0, 64, 64)
    assert none.dtype == torch.int64


def test_half_precision_and_recomputed_activations_train_alike():
    model = build("eomt").train()
    twin = build("eomt", activation_checkpointing=True).train()
    gradients = []
    for one in (model, twin):
        torch.manual_seed(5)
        sum(one(images(), [sample(), sample()], mode="loss").values()).backward()
        gradients.append(one.network.layers[0].mlp.fc1.weight.grad)
    torch.testing.assert_close(*gradients)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(images(), [sample(), sample()], mode="loss")
    assert torch.isfinite(sum(losses.values()))


def test_shares_of_masked_queries_live_in_the_state_and_round_in_evaluation():
    model = build("eomt")
    state = model.state_dict()
    assert state["attn_mask_probs"].tolist() == [1, 1]
    state["attn_mask_probs"] = torch.tensor([0.4, 0.9])
    model.train().load_state_dict(state)
    assert model.network.attn_mask_probs == pytest.approx([0.4, 0.9])
    assert model.eval().network.attn_mask_probs == [0, 1]
    with torch.no_grad():
        first, second = model(images()), model(images())
    assert torch.equal(first.instance, second.instance), "evaluation draws nothing"
    assert copy.deepcopy(model).train().network.attn_mask_probs == pytest.approx([0.4, 0.9])


def test_wrong_sizes_and_configs_are_told_in_one_line():
    with pytest.raises(ValueError, match=r"pad_size=\(64, 64\)"):
        build("eomt")(images(size=(64, 96)))
    with pytest.raises(ConfigError, match=r"has no field num_querys .*did you mean num_queries"):
        build("eomt", network={"num_querys": 8})
    with pytest.raises(ConfigError, match="classes come from the dataset"):
        build("eomt", network={"num_labels": 8})
    with pytest.raises(ConfigError, match="model_type must be one of eomt"):
        build("eomt", network={"model_type": "segformer"})
    with pytest.raises(ConfigError, match="CLIP tokenizer"):
        build("oneformer", network={"is_training": True})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights as the library writes them."""
    model = build("eomt")
    out = tmp_path_factory.mktemp("eomt")
    network = model.network
    shares = network.__dict__.pop("attn_mask_probs")
    network.register_buffer("attn_mask_probs", torch.tensor(shares) * 0)
    network.save_pretrained(out)
    return out, network.state_dict()


def test_a_folder_of_the_library_loads_at_the_start_of_a_training(folder):
    path, state = folder
    model = build("eomt", pretrained=path)
    torch.nn.init.zeros_(model.network.query.weight)
    model.init_weights()
    assert torch.equal(model.network.query.weight, state["query.weight"])
    assert torch.equal(model.network.class_predictor.weight, state["class_predictor.weight"])
    assert model.attn_mask_probs.tolist() == [0, 0]


def test_a_folder_alone_is_a_model(folder):
    path, state = folder
    model = _from(path)
    assert torch.equal(model.network.query.weight, state["query.weight"])


def _from(path, names=("sky", "car", "road"), **options):
    return guest.TransformersPanopticSegmentor(names, (1,), pretrained=path, **options)


def test_other_classes_start_anew_and_other_sizes_are_resampled(folder):
    path, state = folder
    model = build("eomt", names=("a", "b"), pretrained=path, network={"image_size": 96})
    model.init_weights()
    assert model.network.class_predictor.weight.shape[0] == 3
    assert torch.equal(model.network.query.weight, state["query.weight"])
    assert model.network.embeddings.position_embeddings.weight.shape == (36, 32)
    assert model.network.criterion.empty_weight.tolist() == pytest.approx([1, 1, 0.1])
    with torch.no_grad():
        assert model.eval()(images(size=(96, 96))).semantic.shape == (2, 8, 3)


def test_a_checkpoint_of_another_image_size_keeps_its_positions():
    small, large = build("eomt"), build("eomt", network={"image_size": 128})
    plane = torch.linspace(0, 1, 4)[:, None] + torch.linspace(0, 2, 4)[None]
    table = small.network.embeddings.position_embeddings.weight
    with torch.no_grad():
        table.copy_(plane.reshape(-1, 1).expand(-1, table.shape[1]))
    load_state_dict(large, small.state_dict(), strict=True)
    found = large.network.embeddings.position_embeddings.weight
    assert found.shape == (64, 32)
    grid = found[:, 0].view(8, 8)
    assert (grid.diff(dim=0) > 0).all()
    assert (grid.diff(dim=1) > 0).all()
    # The mean of a plane stays; bicubic weights at the border move it by less than a hundredth.
    assert grid.mean().item() == pytest.approx(1.5, abs=1e-2)
    load_state_dict(small, small.state_dict(), strict=True)
    assert torch.equal(table.detach()[:, 0].view(4, 4), plane)


def test_weights_that_do_not_fit_are_refused(folder, tmp_path, monkeypatch):
    path, _ = folder
    with pytest.raises(ConfigError, match=r"query.weight has the shape \(8, 32\)"):
        build("eomt", pretrained=path, network={"num_queries": 9}).init_weights()
    with pytest.raises(ConfigError, match=r"have other names .*reset_classes=True"):
        _from(path, names=("cat", "dog", "cow"))
    assert _from(path, names=("cat", "dog", "cow"), reset_classes=True)
    with pytest.raises(ConfigError, match="is of the model_type eomt"):
        build("eomt_dinov3", pretrained=path).init_weights()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=r"config.json and model.safetensors"):
        _from(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="network, pretrained or both"):
        guest.TransformersPanopticSegmentor(["a"], [0])


def test_the_number_of_masks_is_at_least_one():
    labels = [torch.zeros(3), torch.zeros(0)]
    assert guest.mean_num_masks(labels, torch.device("cpu")).item() == 3
    assert guest.mean_num_masks(labels[1:], torch.device("cpu")).item() == 1


VIT = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
BACKBONE = {"dinov2": {}, "dinov2_with_registers": {"num_register_tokens": 1}}


def save_backbone(kind, out, **fields):
    library = pytest.importorskip("transformers", reason="pip install 'mmpanoptic[transformers]'")
    torch.manual_seed(7)
    made = library.AutoModel.from_config(library.AutoConfig.for_model(kind, **VIT, **fields))
    made.save_pretrained(out)
    return made.eval()


@pytest.mark.parametrize("kind", BACKBONE)
def test_eomt_begins_with_dinov2(kind, tmp_path):
    """Without queries its blocks compute what the backbone computes."""
    theirs = save_backbone(kind, tmp_path, image_size=56, patch_size=14, **BACKBONE[kind])
    network = {"image_size": 56, "patch_size": 14, "num_register_tokens": len(BACKBONE[kind])}
    model = build("eomt", backbone_pretrained=tmp_path, network=network)
    head = model.network.class_predictor.weight.clone()
    model.init_weights()
    assert torch.equal(model.network.class_predictor.weight, head)
    inputs = images(size=(56, 56))
    with torch.no_grad():
        states = model.eval().network.embeddings(inputs)
        for layer in model.network.layers:
            states = layer(states)
        found = model.network.layernorm(states)
        expected = theirs(inputs).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        assert model(inputs).semantic.shape == (2, 8, 4)


def test_eomt_of_dinov3_begins_with_dinov3(tmp_path):
    theirs = save_backbone("dinov3_vit", tmp_path, intermediate_size=64, num_register_tokens=1)
    model = build("eomt_dinov3", backbone_pretrained=tmp_path)
    model.init_weights()
    state = theirs.state_dict()
    for ours, name in {
        "layers.2.attention.o_proj.weight": "model.layer.2.attention.o_proj.weight",
        "layers.0.mlp.up_proj.bias": "model.layer.0.mlp.up_proj.bias",
        "layernorm.weight": "norm.weight",
        "embeddings.register_tokens": "embeddings.register_tokens",
        "embeddings.patch_embeddings.weight": "embeddings.patch_embeddings.weight",
    }.items():
        assert torch.equal(model.network.state_dict()[ours], state[name]), ours


def test_resampled_patches_give_the_values_that_they_gave():
    weight = torch.randn(5, 3, 14, 14, dtype=torch.float64)
    larger = resample_patches(weight, 16)
    patch = torch.randn(1, 3, 14, 14, dtype=torch.float64)
    grown = torch.nn.functional.interpolate(patch, (16, 16), mode="bicubic", antialias=True)
    expected, found = ((w * p).sum((1, 2, 3)) for w, p in ((weight, patch), (larger, grown)))
    torch.testing.assert_close(found, expected)


def test_backbones_that_do_not_fit_are_refused(tmp_path):
    save_backbone("dinov2", tmp_path, image_size=56, patch_size=14)
    with pytest.raises(ConfigError, match=r"register_tokens has the shape none, the network \(1,"):
        build("eomt", backbone_pretrained=tmp_path).init_weights()
    with pytest.raises(ConfigError, match="eomt_dinov3 begins with dinov3_vit"):
        build("eomt_dinov3", backbone_pretrained=tmp_path).init_weights()
    with pytest.raises(ConfigError, match="backbone_pretrained is for eomt and eomt_dinov3"):
        build("mask2former", backbone_pretrained=tmp_path).init_weights()
    with pytest.raises(ConfigError, match="both name weights to begin with"):
        build("eomt", backbone_pretrained=tmp_path, pretrained=tmp_path)
