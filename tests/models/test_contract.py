"""Every system trains and predicts on whatever an image or a list of classes may lack."""

from functools import cache

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope

from mmpanoptic.apis import get_config
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.registry import MODELS, TRANSFORMS, ConfigError
from mmpanoptic.structures import LabelTable

SYSTEMS = [
    "panoptic-deeplab_r18-tiny_1xb8-500_shapes",
    "deeplabv3plus_r18-tiny_1xb8-1k_shapes",
    "cops_r18-tiny_e2e_1xb8-200_shapes",
    "efficientps-solov2_b0-tiny_1xb8-600_shapes",
    "efficientps-maskrcnn_b0-tiny_1xb8-600_shapes",
    "solov2_r18-tiny_1xb8-1k_shapes",
    "panoptic-fpn_r18-tiny_1xb8-1k_shapes",
    "panoptic-fpn-modern_r18-tiny_1xb8-1k_shapes",
    "rap_r18-tiny_relation-finetune_1xb8-2k_shapes",
    "rap_r18-tiny_ocfusion-finetune_1xb8-2k_shapes",
    "auto-panoptic_tiny_1xb8-500_shapes",
]
WITHOUT_THINGS = ("panoptic-deeplab", "deeplabv3plus", "cops")
"""Systems that work without thing classes; the others say that they predict things."""
SIZE = (64, 96)
THINGS, STUFF = ("car", "dog"), ("sky", "road")


def table_of(things=THINGS, stuff=STUFF):
    names = [(name, 0) for name in stuff[:1]] + [(name, 1) for name in things]
    names += [(name, 0) for name in stuff[1:]]  # things stand in the middle
    return LabelTable.from_categories(
        [{"id": 7 * k, "name": name, "isthing": kind} for k, (name, kind) in enumerate(names, 1)]
    )


def stuff_map(table, size=SIZE):
    """Halves of stuff; one class fills all, none leaves void."""
    index_map, segments = np.zeros(size, np.uint16), []
    for number, label in enumerate(table.stuff_labels, 1):
        index_map[:, (number - 1) * size[1] // 2 :] = number
        segments.append({"id": number, "label": label, "isthing": False, "iscrowd": 0})
    return index_map, segments


def add_things(table, index_map, segments, boxes, crowd=False):
    for place, (y, x, height, width) in enumerate(boxes):
        if not table.thing_labels:
            break
        label = table.thing_labels[place % table.num_things]
        number = len(segments) + 1
        index_map[y : y + height, x : x + width] = number
        segments.append({"id": number, "label": label, "isthing": True, "iscrowd": int(crowd)})
    return index_map, segments


def usual(table):
    return add_things(table, *stuff_map(table), [(4, 6, 20, 24), (30, 40, 30, 40)])


def without_things(table):
    return stuff_map(table)


def without_stuff(table):
    empty = np.zeros(SIZE, np.uint16), []
    return add_things(table, *empty, [(4, 6, 20, 24), (30, 40, 30, 40)])


def void_only(table):
    return np.zeros(SIZE, np.uint16), []


def one_pixel(table):
    index_map, segments = np.zeros(SIZE, np.uint16), []
    add_things(table, index_map, segments, [(63, 95, 1, 1)])
    index_map[0, 0] = len(segments) + 1
    label = (table.stuff_labels or table.thing_labels)[0]
    facts = {"isthing": label in table.thing_labels, "iscrowd": 0}
    return index_map, [*segments, {"id": 99, "label": label, **facts}]


def image_of_one_pixel(table):
    return np.ones((1, 1), np.uint16), [usual(table)[1][-1]]


def crowd_only(table):
    return add_things(table, *stuff_map(table), [(4, 6, 20, 24)], crowd=True)


def three_hundred(table):
    boxes = [(3 * (k // 24), 4 * (k % 24), 3, 4) for k in range(300)]
    return add_things(table, *stuff_map(table), boxes)


SCENES = [
    usual,
    without_things,
    without_stuff,
    void_only,
    one_pixel,
    image_of_one_pixel,
    crowd_only,
    three_hundred,
]
TABLES = {
    "usual": table_of(),
    "no stuff": table_of(stuff=()),
    "no things": table_of(things=()),
    "one thing class": table_of(things=("car",), stuff=()),
    "one stuff class": table_of(things=(), stuff=("sky",)),
}


@cache
def model_of(system, table_name):
    init_default_scope("mmpanoptic")
    torch.manual_seed(0)
    cfg = resolve_config(get_config(system), TABLES[table_name].to_metainfo())
    cfg.model.pop("init_cfg", None)
    return MODELS.build(cfg.model)


def packed(scene, table):
    index_map, segments = scene(table)
    image = np.random.default_rng(len(segments)).integers(0, 256, (*index_map.shape, 3), np.uint8)
    results = {
        "img": image,
        "gt_seg_map": index_map,
        "segments_info": segments,
        "img_id": scene.__name__,
        "img_shape": index_map.shape,
        "ori_shape": index_map.shape,
    }
    sample = TRANSFORMS.build({"type": "PackPanopticInputs", "with_instances": True})(results)
    instances = sample["data_samples"].gt_instances
    # Relation and occlusion heads learn who lies in front of whom: here, the later one.
    instances.occluders = torch.ones(len(instances), len(instances), dtype=torch.bool).triu(1)
    instances.instance_index = torch.arange(len(instances))
    return sample


def losses_of(model, scenes, table):
    batch = [packed(scene, table) for scene in scenes]
    data = {name: [one[name] for one in batch] for name in ("inputs", "data_samples")}
    model.train()
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), 1e-9))
    losses = model.train_step(data, optimizer)
    return {name: float(value) for name, value in losses.items()}


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_trains_and_predicts_on_every_image(system, scene):
    check(system, "usual", scene)


@pytest.mark.parametrize("table_name", [name for name in TABLES if name != "usual"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_takes_every_list_of_classes(system, table_name):
    if not TABLES[table_name].num_things and not system.startswith(WITHOUT_THINGS):
        with pytest.raises(ConfigError, match="no thing classes"):
            model_of(system, table_name)
        return
    for scene in (usual, void_only):
        check(system, table_name, scene)


def check(system, table_name, scene):
    table = TABLES[table_name]
    model = model_of(system, table_name)
    for scenes in ([scene, scene], [scene, usual]):
        losses = losses_of(model, scenes, table)
        assert np.isfinite(list(losses.values())).all(), losses
    assert all(torch.isfinite(value).all() for value in model.parameters())
    sample = packed(scene, table)
    model.eval()
    with torch.no_grad():
        (result,) = model.test_step(
            {"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}
        )
    if "pred_panoptic_seg" in result:
        assert result.pred_panoptic_seg.index_map.shape[-2:] == sample["inputs"].shape[-2:]
        assert all(
            segment["label"] < len(table) for segment in result.pred_panoptic_seg.segments_info
        )
