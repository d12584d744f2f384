import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmpanoptic.models.instance_heads.solov2 import SOLOv2Head
from mmpanoptic.models.instance_heads.solov2_targets import GridLevels, make_solov2_targets
from tests.reference import solov2 as reference

GRIDS = (12, 10, 8, 6, 4)
RANGES = ((1, 24), (12, 48), (24, 96), (48, 192), (96, 512))
LEVELS = GridLevels(GRIDS, RANGES, 0.2)
SIZE = (64, 96)
FEAT_SIZE = (SIZE[0] // 4, SIZE[1] // 4)
CLASSES = 3


def small_head(**options):
    torch.manual_seed(0)
    head = SOLOv2Head(
        CLASSES,
        options.pop("thing_labels", range(CLASSES)),
        in_channels=8,
        feat_channels=16,
        stacked_convs=options.pop("stacked_convs", 1),
        mask_channels=8,
        kernel_channels=8,
        num_grids=GRIDS,
        scale_ranges=RANGES,
        norm_cfg={"type": "GN", "num_groups": 4},
        **options,
    )
    head.init_weights()
    return head


def pyramid(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = [(SIZE[0] // s, SIZE[1] // s) for s in (4, 8, 16, 32, 64)]
    return [torch.randn(count, 8, *size, generator=generator) for size in sizes]


def random_instances(seed, count=6, size=SIZE):
    """Overlapping rectangles, one of them empty, one a single pixel."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(count, *size, dtype=torch.uint8)
    boxes = torch.zeros(count, 4)
    for k in range(count):
        x = torch.randint(0, size[1], (2,), generator=generator).sort().values
        y = torch.randint(0, size[0], (2,), generator=generator).sort().values
        boxes[k] = torch.stack([x[0], y[0], x[1] + 1, y[1] + 1])
        masks[k, y[0] : y[1] + 1, x[0] : x[1] + 1] = 1
        masks[k, :: k + 2] = 0  # centres of mass off the boxes' centres
    masks[0] = 0
    masks[1], boxes[1] = 0, torch.tensor([5.0, 7.0, 6.0, 8.0])
    masks[1, 7, 5] = 1
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    return InstanceData(bboxes=boxes, labels=labels, masks=masks)


def sample(instances):
    found = DetDataSample()
    found.gt_instances = instances
    return found


def no_instances():
    masks = torch.zeros(0, *SIZE, dtype=torch.uint8)
    labels = torch.zeros(0, dtype=torch.int64)
    return InstanceData(bboxes=torch.zeros(0, 4), labels=labels, masks=masks)


@pytest.mark.parametrize("seed", range(6))
def test_targets_of_a_batch_are_those_of_loops_over_instances(seed):
    size = SIZE if seed % 2 else (SIZE[0] - 3, SIZE[1] - 5)  # padded to SIZE in the batch
    batch = [random_instances(seed, size=size), no_instances(), random_instances(seed + 99)]
    targets = make_solov2_targets(batch, LEVELS, CLASSES, FEAT_SIZE)
    for image, one in enumerate(batch):
        masks = torch.zeros(len(one.labels), *SIZE, dtype=torch.uint8)
        masks[:, : one.masks.shape[1], : one.masks.shape[2]] = one.masks
        arguments = (one.bboxes, one.labels, masks, CLASSES, FEAT_SIZE, GRIDS, RANGES)
        start = 0
        for level, grid in zip(reference.make_targets(*arguments), GRIDS, strict=True):
            cells = slice(start, start + grid * grid)
            assert torch.equal(targets.labels[image, cells].view(grid, grid), level.labels)
            inside = (targets.cell >= start) & (targets.cell < cells.stop)
            inside &= targets.image == image
            assert (targets.cell[inside] - start).tolist() == level.cells
            assert torch.equal(targets.masks[targets.mask[inside]], level.masks)
            start = cells.stop


def test_bitmap_masks_and_tensors_give_the_same_targets():
    from mmdet.structures.mask import BitmapMasks  # needs mmcv.ops, which mmpanoptic provides

    one = random_instances(3)
    bitmap = InstanceData(
        bboxes=one.bboxes, labels=one.labels, masks=BitmapMasks(one.masks.numpy(), *SIZE)
    )
    first, second = (
        make_solov2_targets([found], LEVELS, CLASSES, FEAT_SIZE) for found in (one, bitmap)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("width", [SIZE[1], SIZE[1] - 3])
@pytest.mark.parametrize("counts", [(0,), (0, 4), (4, 0), (0, 0)])
def test_images_without_instances_are_background_however_numpy_lays_out_nothing(counts, width):
    size = (SIZE[0], width)
    batch = [random_instances(1, n, size) if n else no_instances() for n in counts]
    for one in batch:
        if not len(one.labels):  # the strides that NumPy gives an array made of no masks
            nothing = np.lib.stride_tricks.as_strided(np.zeros(0, np.uint8), (0, *size), (0, 0, 0))
            one.masks = torch.from_numpy(nothing)
            assert one.masks.stride() == (0, 0, 0)
    targets = make_solov2_targets(batch, LEVELS, CLASSES, FEAT_SIZE)
    assert targets.masks.shape == (sum(counts), *FEAT_SIZE)
    for labels, count in zip(targets.labels, counts, strict=True):
        assert bool((labels == CLASSES).all()) is (count == 0)


def test_masks_larger_than_the_images_are_refused():
    with pytest.raises(ValueError, match="crop images and masks alike"):
        make_solov2_targets([random_instances(0)], LEVELS, CLASSES, (8, 8))


@pytest.mark.parametrize("counts", [(6, 0), (0, 0)])
def test_images_without_instances_train_every_parameter(counts):
    head = small_head()
    samples = [sample(random_instances(n, n) if n else no_instances()) for n in counts]
    losses = head.loss_by_feat(head(pyramid(2)), samples)
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    assert [name for name, value in head.named_parameters() if value.grad is None] == []
    if not any(counts):
        assert losses["loss_mask"] == 0


def test_mean_over_cells_is_larger_where_a_cell_has_several_masks():
    one = random_instances(0, 2)
    masks = torch.zeros(2, *SIZE, dtype=torch.uint8)
    masks[:, 20:40, 20:40] = 1
    masks[1, 25:35, 25:35] = 0  # the same centre
    boxes = torch.tensor([[20.0, 20, 40, 40]]).repeat(2, 1)
    twins = sample(InstanceData(bboxes=boxes, labels=one.labels, masks=masks))
    by_pairs, by_cells = (
        (head := small_head(avg=avg)).loss_by_feat(head(pyramid(1)), [twins])["loss_mask"]
        for avg in ("pairs", "cells")
    )
    assert torch.isclose(by_cells, 2 * by_pairs)


def test_chunks_change_neither_the_loss_nor_the_gradients():
    found = []
    for limit in (1 << 25, 3 * FEAT_SIZE[0] * FEAT_SIZE[1]):
        head = small_head(max_pair_pixels=limit)
        loss = head.loss_by_feat(head(pyramid(1)), [sample(random_instances(5))])["loss_mask"]
        loss.backward()
        grads = [value.grad for value in head.parameters() if value.grad is not None]
        found.append([loss.detach(), *grads])
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


def test_losses_are_float32_under_autocast():
    head = small_head()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = head(pyramid(1))
        assert outputs.mask_feats.dtype == torch.bfloat16
        losses = head.loss_by_feat(outputs, [sample(random_instances(1))])
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_labels_of_things_become_the_heads_classes():
    head = small_head(thing_labels=(4, 2, 7))
    one = random_instances(1)
    plain = small_head().loss_by_feat(head(pyramid(1)), [sample(one)])
    one.labels = torch.tensor([4, 2, 7])[one.labels]
    losses = head.loss_by_feat(head(pyramid(1)), [sample(one)])
    assert all(torch.equal(losses[name], plain[name]) for name in losses)


@pytest.mark.parametrize("label", [3, 99])
def test_an_instance_of_stuff_is_an_error(label):
    head = small_head(thing_labels=(4, 2, 7))
    one = random_instances(1)
    one.labels = torch.full_like(one.labels, label)
    with pytest.raises(ValueError, match=rf"labels \[{label}\]"):
        head.loss_by_feat(head(pyramid(1)), [sample(one)])


def test_samples_without_instances_name_the_option_that_adds_them():
    head = small_head()
    with pytest.raises(ValueError, match="with_instances=True"):
        head.loss_by_feat(head(pyramid(1)), [DetDataSample()])


def test_wrong_options_are_errors():
    with pytest.raises(ValueError, match="avg must be one of"):
        small_head(avg="instances")
    with pytest.raises(ValueError, match="2 thing_labels"):
        SOLOv2Head(CLASSES, (1, 2))


@pytest.mark.parametrize(("every", "deformed"), [(True, 2), (False, 1)])
def test_towers_can_be_deformable_as_in_the_published_dcn_models(every, deformed):
    options = {"stacked_convs": 2, "dcn_cfg": {"type": "DCNv2"}, "dcn_apply_to_all_conv": every}
    head = small_head(**options)
    for tower in (head.cls_convs, head.kernel_convs):
        kinds = [type(layer.conv).__name__ for layer in tower]
        assert kinds.count("ModulatedDeformConv2dPack") == deformed
        assert kinds[-1] == "ModulatedDeformConv2dPack"
    assert head(pyramid(1))[0].shape[1] == CLASSES


@pytest.mark.parametrize("name", ["loss_cls", "loss_mask"])
def test_losses_are_options(name):
    from mmpanoptic.models.instance_heads import solov2

    default = {"loss_cls": solov2.default_category_loss, "loss_mask": solov2.default_mask_loss}
    cfg = default[name]()
    cfg["loss_weight"] = 2 * cfg.get("loss_weight", 1.0)
    sample = DetDataSample(metainfo={"img_shape": SIZE})
    sample.gt_instances = random_instances(0)
    plain, doubled = (
        head.loss_by_feat(head(pyramid(1)), [sample])
        for head in (small_head(), small_head(**{name: cfg}))
    )
    for key, value in plain.items():
        factor = 2 if key == name else 1
        torch.testing.assert_close(doubled[key], factor * value)
