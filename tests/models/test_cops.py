import pytest
import torch

from mmpanoptic.checkpoints.cops_keys import CopsKeyMap
from mmpanoptic.checkpoints.errors import CheckpointMismatchError
from mmpanoptic.registry import MODELS
from tests.models.builders import make_batch
from tests.models.cops_builders import DISTANCES, tiny_cops


def build(second_stage=False, **fusion):
    torch.manual_seed(0)
    model = MODELS.build(tiny_cops(second_stage, **fusion))
    model.init_weights()
    return model


def run(model, mode, *sizes):
    data = model.data_preprocessor(make_batch(*sizes), training=mode == "loss")
    return model(**data, mode=mode)


def test_the_first_stage_learns_from_the_losses_of_both_heads_without_solving():
    model = build().train()
    losses = run(model, "loss", (64, 96), (60, 90))
    directions = {f"loss_affinity_{d}_{way}" for d in DISTANCES for way in ("row", "column")}
    assert losses.keys() == directions | {"loss_semantic"}
    sum(losses.values()).backward()
    without = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert not without, "distributed training would wait for these"
    assert not any(p.requires_grad for p in model.instance_head.costs.parameters())


def test_the_second_stage_trains_heads_and_scalings_through_the_solver():
    model = build(second_stage=True).train()
    losses = run(model, "loss", (64, 96), (60, 90))
    assert losses.keys() == {"loss_multicut", "soft_pq"}
    losses["loss_multicut"].backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {name for name, p in model.named_parameters() if p.requires_grad}
    assert not any(name.startswith("backbone.") or ".decoder." in name for name in trained)
    assert not any(".bn." in name for name in trained)
    assert "instance_head.costs.edge.0" in trained
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_frozen_norm_layers_keep_their_statistics():
    model = build(second_stage=True).train()
    before = {n: b.clone() for n, b in model.named_buffers() if "running" in n}
    run(model, "loss", (64, 96), (60, 90))
    assert before
    assert all(torch.equal(b, before[n]) for n, b in model.named_buffers() if n in before)


def test_edge_logits_send_no_gradient_into_class_logits():
    model = build().train()
    data = model.data_preprocessor(make_batch((64, 64), (64, 64)), training=True)
    outputs = model.forward_heads(data["inputs"])
    sum(part.sum() for part in outputs.instance.logits).backward()
    assert all(p.grad is None for p in model.semantic_head.parameters())


@pytest.mark.parametrize("size", [(64, 96), (61, 35), (20, 24), (4, 4), (3, 120)])
def test_images_of_any_size_are_segmented(size):
    """Some have fewer cells than the largest distance."""
    model = build().eval()
    (sample,) = run(model, "predict", size)
    assert sample.pred_panoptic_seg.index_map.shape == (1, *size)
    assert sample.pred_sem_seg.sem_seg.shape == (1, *size)


def test_a_batch_gives_the_results_of_its_images():
    model = build().eval()
    together = run(model, "predict", (64, 96), (64, 96))
    batch = make_batch((64, 96), (64, 96))
    for number, expected in enumerate(together):
        one = {key: [values[number]] for key, values in batch.items()}
        (alone,) = model(**model.data_preprocessor(one), mode="predict")
        assert torch.equal(alone.pred_panoptic_seg.index_map, expected.pred_panoptic_seg.index_map)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_under_autocast_are_those_of_float32(dtype):
    model = build(second_stage=True).train()
    found = {}
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            found[enabled] = run(model, "loss", (64, 64), (64, 64))["loss_multicut"]
    found[True].backward()
    assert found[True].dtype == torch.float32
    assert found[True].item() == pytest.approx(found[False].item(), rel=0.05)
    assert model.semantic_head.predictor.weight.grad.isfinite().all()


def test_costs_and_cuts_are_kept_on_request():
    model = build(keep_outputs=True).eval()
    (sample,) = run(model, "predict", (61, 90))
    heads = sample.pred_heads
    assert heads.class_cost.shape == (7, 16, 23)
    assert heads.component.shape == (1, 16, 23)
    assert heads.cost_4.shape == heads.cut_4.shape == (2, 16, 23)


def test_a_stage_that_is_set_up_half_is_refused():
    config = tiny_cops(second_stage=True)
    config["instance_head"]["learn_costs"] = False
    with pytest.raises(ValueError, match="go together"):
        MODELS.build(config)


def test_an_unknown_part_cannot_be_frozen():
    config = {**tiny_cops(), "frozen": ("backbne",)}
    with pytest.raises(ValueError, match="backbne"):
        MODELS.build(config)


def test_names_of_the_published_checkpoints_are_strict():
    model = build()
    key_map = CopsKeyMap(model)
    state = model.state_dict()
    published = key_map.to_published(state)
    assert "amwc_layer.edge_costs_weights.5" in published
    assert "AFF_EMBED_head.classifiers.1.2.bias" in published
    published["amwc_layer.training_per_class_areas"] = torch.zeros(7)
    frozen = {n: v for n, v in published.items() if not n.endswith("num_batches_tracked")}
    assert key_map.to_ours(frozen).keys() == state.keys()
    fresh = key_map.to_ours(published, new_classes=True).keys()
    assert state.keys() - fresh == {
        "semantic_head.predictor.weight",
        "semantic_head.predictor.bias",
        "instance_head.head.0.conv.weight",
    }
    with pytest.raises(CheckpointMismatchError, match="1 are unexpected"):
        key_map.to_ours({**published, "amwc_layer.other": torch.zeros(1)})


def targets_of(*sizes, **options):
    """Targets of the affinity head of a batch, with other options than by default."""
    config = tiny_cops()
    config["instance_head"].update(options)
    model = MODELS.build(config)
    data = model.data_preprocessor(make_batch(*sizes), training=True)
    for sample in data["data_samples"]:
        thing = next(s for s in sample.gt_panoptic_seg.segments_info if s["isthing"])
        thing["iscrowd"] = True
    return model.instance_head.make_targets(data["data_samples"])


def test_crowds_can_be_left_out_of_the_panoptic_target():
    counted, left_out = (targets_of((64, 96), ignore_crowd=flag) for flag in (False, True))
    lost = counted.weight > left_out.weight
    assert lost.any()
    assert (counted.panoptic[lost] == -1).all(), "only cells of the crowd lose their weight"


def test_edges_of_stuff_and_of_the_padding_can_be_left_out():
    sizes = ((64, 96), (48, 80))
    every = targets_of(*sizes)
    no_stuff = targets_of(*sizes, stuff_edges=False)
    no_padding = targets_of(*sizes, padding_edges=False)
    for part, stuff, padding in zip(
        every.edge_weights, no_stuff.edge_weights, no_padding.edge_weights, strict=True
    ):
        assert (stuff <= part).all()
        assert stuff.sum() < part.sum()
        assert torch.equal(padding[0], part[0])  # the largest image has no padding
        assert padding[1].sum() < part[1].sum()


def test_edges_can_be_kept_at_every_second_cell_only():
    config = tiny_cops(second_stage=True)
    for part in ("instance_head", "fusion_head", "multicut_loss"):
        config[part]["intervals"] = (1, 2, 2)
    torch.manual_seed(0)
    model = MODELS.build(config)
    data = model.data_preprocessor(make_batch((64, 96)), training=True)
    shapes = [tuple(part.shape) for part in model.forward_heads(data["inputs"]).instance.logits]
    assert shapes == [(1, 2, 16, 24), (1, 2, 8, 12), (1, 2, 8, 12)]
    model.train()(**data, mode="loss")["loss_multicut"].backward()
    (sample,) = run(model.eval(), "predict", (64, 96))
    assert sample.pred_panoptic_seg.index_map.shape == (1, 64, 96)
