import numpy as np
import pytest
import torch

from mmpanoptic.models.instance_heads import AffinityOutputs, AffinityTargets
from mmpanoptic.models.instance_heads.affinity import CostScaling
from mmpanoptic.models.losses import HardEdgeMiningLoss, MulticutLoss
from mmpanoptic.models.losses.panoptic_quality_loss import panoptic_quality_loss
from mmpanoptic.models.losses.segment_matching import NO_SEGMENT, match_segments
from mmpanoptic.models.multicut import gradient
from mmpanoptic.models.multicut.grid_edges import map_edges
from mmpanoptic.models.multicut.layer import CutSegments, segments_of_cut
from tests.data.golden.cops import synthetic_scenes

CLASSES, THINGS, DISTANCES = 6, (3, 4, 5), (1, 4)
DIVISOR = 1000


def make_loss(**options) -> MulticutLoss:
    settings = {"label_divisor": DIVISOR, "stuff_area": 64, "instance_area": 32, "num_threads": 1}
    return MulticutLoss(CLASSES, THINGS, DISTANCES, **{**settings, **options})


def make_batch(
    images: int = 2,
    height: int = 16,
    width: int = 24,
    truth=None,
    noise=1.0,
    classes=CLASSES,
    things=THINGS,
    distances=DISTANCES,
):
    nodes, edges, codes = [], [], []
    for seed in range(images):
        node, parts, truth_classes, segments = synthetic_scenes.scene(
            seed,
            height,
            width,
            classes,
            things,
            distances,
            num_things=4,
            margin=2.0,
            noise=noise,
            aff_noise=noise,
        )
        nodes.append(torch.from_numpy(node))
        edges.append([torch.from_numpy(part) for part in parts])
        number = np.where(segments >= 1000, segments - 999, 0)
        codes.append(torch.from_numpy(truth_classes * DIVISOR + number))
    panoptic = torch.stack(codes) if truth is None else truth
    weight = torch.ones(panoptic.shape)
    edge_weights = tuple(
        map_edges(weight, distance, lambda a, b: torch.ones_like(a)) for distance in distances
    )
    outputs = AffinityOutputs(
        (),
        torch.stack(nodes).requires_grad_(),
        tuple(torch.stack(parts).requires_grad_() for parts in zip(*edges, strict=True)),
    )
    return outputs, AffinityTargets(panoptic, weight, (), edge_weights)


def test_descent_on_the_costs_alone_raises_the_quality():
    torch.manual_seed(0)
    outputs, targets = make_batch(noise=3.0)
    costs = [outputs.node_costs, *outputs.edge_costs]
    optimizer = torch.optim.Adam(costs, lr=0.02)
    loss = make_loss()
    qualities = []
    for _ in range(40):
        losses = loss(outputs, targets)
        optimizer.zero_grad()
        losses["loss_multicut"].backward()
        optimizer.step()
        qualities.append(losses["soft_pq"].item())
    assert np.mean(qualities[-5:]) > qualities[0] + 0.15


def test_steps_follow_the_seed_and_differ_between_images_and_iterations():
    loss = make_loss(step_range=(10, 20), num_steps=4)
    torch.manual_seed(3)
    first, second = loss.draw_steps(2), loss.draw_steps(2)
    torch.manual_seed(3)
    np.testing.assert_array_equal(loss.draw_steps(2), first)
    values = np.concatenate([first, second]).ravel()
    assert len(set(values.tolist())) == values.size
    assert ((values >= 10) & (values <= 20)).all()


def test_threads_do_not_change_the_gradient():
    gradients = []
    for threads in (1, 3):
        outputs, targets = make_batch()
        torch.manual_seed(0)
        make_loss(num_threads=threads)(outputs, targets)["loss_multicut"].backward()
        gradients.append(
            torch.cat(
                [
                    outputs.node_costs.grad.flatten(),
                    *(costs.grad.flatten() for costs in outputs.edge_costs),
                ]
            )
        )
    assert gradients[0].any()
    assert torch.equal(*gradients)


def test_solving_images_in_groups_does_not_change_the_gradient(monkeypatch):
    gradients = []
    for limit in (1 << 27, 1):
        monkeypatch.setattr(gradient, "MAX_ELEMENTS", limit)
        outputs, targets = make_batch(images=3)
        torch.manual_seed(0)
        make_loss()(outputs, targets)["loss_multicut"].backward()
        gradients.append(outputs.node_costs.grad)
    assert gradients[0].any()
    assert torch.equal(*gradients)


def test_a_loss_scaler_scales_the_gradient_and_not_the_perturbation():
    gradients = []
    for scale in (1.0, 1024.0):
        outputs, targets = make_batch()
        torch.manual_seed(0)
        (make_loss()(outputs, targets)["loss_multicut"] * scale).backward()
        gradients.append(outputs.node_costs.grad / scale)
    torch.testing.assert_close(*gradients)


def test_the_gradient_keeps_its_precision_under_autocast():
    gradients = []
    for enabled in (False, True):
        outputs, targets = make_batch()
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = make_loss()(outputs, targets)["loss_multicut"]
        loss.backward()
        gradients.append(outputs.edge_costs[0].grad)
    assert gradients[0].any()
    assert torch.equal(*gradients)


def test_cells_without_weight_get_no_gradient():
    outputs, targets = make_batch()
    targets.weight[:, :, :8] = 0
    for weights in targets.edge_weights:
        weights[:, 1] = 0
    make_loss()(outputs, targets)["loss_multicut"].backward()
    assert not outputs.node_costs.grad[..., :8].any()
    assert not any(costs.grad[:, 1].any() for costs in outputs.edge_costs)


def test_void_alone_and_validation_are_possible():
    outputs, targets = make_batch(truth=torch.full((2, 16, 24), -1))
    losses = make_loss()(outputs, targets)
    losses["loss_multicut"].backward()
    assert losses["loss_multicut"].isfinite()
    with torch.no_grad():
        assert not make_loss()(outputs, targets)["loss_multicut"].requires_grad


def test_tiny_things_form_no_segment_and_stuff_always_does():
    labels = torch.tensor([[0, 0, 3, 3], [3, 1, 3, 0]])
    components = torch.tensor([[0, 0, 1, 1], [2, 3, 1, 4]])
    isthing = torch.tensor([c in THINGS for c in range(CLASSES)])
    segments = segments_of_cut(labels, components, isthing, 3)
    assert segments.label.tolist() == [0, 1, 3]
    assert segments.cells.tolist() == [3, 1, 3]
    assert segments.index.tolist() == [[0, 0, 2, 2], [-1, 1, 2, 0]]
    none = segments_of_cut(labels * 0 + 4, components * 0, isthing, 100)
    assert not len(none.label)
    assert (none.index == -1).all()


def test_matching_maximises_the_sum_of_overlaps_and_appends_what_was_missed():
    truth = torch.tensor([[3001, 3001, 3002, 3002, 1000, -1]])
    index = torch.tensor([[0, 1, 1, 1, -1, 2]])
    segments = CutSegments(index, torch.tensor([3, 3, 4]), torch.tensor([1, 3, 1]))
    flags = [c in THINGS for c in range(CLASSES)]
    found = match_segments(segments, truth, torch.ones(1, 6), flags, DIVISOR)
    assert found.label.tolist() == [3, 3, 4, 1]
    assert found.truth.tolist() == [3001, 3002, NO_SEGMENT, 1000]


def test_more_things_than_the_published_codes_hold_can_be_matched():
    divisor = 1 << 16
    truth = (3 * divisor + 1 + torch.arange(1500)).view(30, 50)
    index = torch.arange(1500).view(30, 50)
    segments = CutSegments(index, torch.full((1500,), 3), torch.ones(1500))
    flags = [c in THINGS for c in range(CLASSES)]
    found = match_segments(segments, truth, torch.ones(30, 50), flags, divisor)
    assert torch.equal(found.truth, truth.flatten())


def test_perfect_masks_have_full_quality_and_no_classes_no_loss():
    truth = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    truth[0, 0, :2] = truth[0, 1, 2:] = True
    label, ones = torch.tensor([[0, 3]]), torch.ones(1, 2)
    weight = torch.ones(1, 4, 4)
    perfect = panoptic_quality_loss(truth.float(), truth, weight, label, ones, CLASSES)
    assert perfect.loss.item() == pytest.approx(0, abs=1e-6)
    empty = panoptic_quality_loss(truth.float(), truth, weight, label * 0 - 1, ones, CLASSES)
    assert empty.loss.item() == 0


def test_dropout_drops_whole_cells_and_single_edges_in_training_only():
    scaling = CostScaling(1, 0.5, True)
    logits, edges = torch.ones(2, 3, 20, 20), [torch.ones(2, 2, 20, 20)]
    node, (edge,) = scaling(logits, edges)
    assert set(node.unique().tolist()) == {-1.0, 0.0}
    assert (node == node[:, :1]).all()
    assert (edge[:, 0] != edge[:, 1]).any()
    node, (edge,) = scaling.eval()(logits, edges)
    assert (node == -1).all()
    assert (edge == -1).all()


@pytest.mark.parametrize(
    "options", [{"step_range": (0, 5)}, {"step_range": (5, 1)}, {"num_steps": 0}]
)
def test_steps_that_cannot_be_drawn_are_refused(options):
    with pytest.raises(ValueError, match="step_range"):
        make_loss(**options)


@pytest.mark.parametrize("top_k", [0, 1.5])
def test_a_share_of_edges_outside_its_range_is_refused(top_k):
    with pytest.raises(ValueError, match="share"):
        HardEdgeMiningLoss(top_k=top_k)
