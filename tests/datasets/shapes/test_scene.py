import numpy as np
import pytest

from mmpanoptic.datasets.shapes import SHAPES_TABLE, ShapesSettings, make_scene
from mmpanoptic.datasets.shapes.outlines import draw_outline
from mmpanoptic.datasets.shapes.sprites import draw_sprite

SCENES = [make_scene(ShapesSettings(), "train", index) for index in range(60)]
THINGS = [label.name for label in SHAPES_TABLE if label.isthing]


def test_table_has_enough_classes_and_sparse_ids():
    assert SHAPES_TABLE.num_things >= 6
    assert SHAPES_TABLE.num_stuff >= 4
    assert not np.array_equal(SHAPES_TABLE.dataset_ids, np.arange(1, len(SHAPES_TABLE) + 1))


def test_segments_agree_with_the_id_map_exactly():
    for scene in SCENES:
        assert set(np.unique(scene.ids)) - {0} == {segment["id"] for segment in scene.segments}
        for segment in scene.segments:
            y, x = np.nonzero(scene.ids == segment["id"])
            assert segment["area"] == len(x)
            box = [x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min()]
            assert segment["bbox"] == box


def test_a_stuff_class_is_one_segment_and_never_a_crowd():
    for scene in SCENES:
        stuff = [
            segment
            for segment in scene.segments
            if not SHAPES_TABLE.by_dataset_id(segment["category_id"]).isthing
        ]
        categories = [segment["category_id"] for segment in stuff]
        assert len(set(categories)) == len(categories) >= 1
        assert not any(segment["iscrowd"] for segment in stuff)


def test_a_thing_is_visible_where_no_nearer_one_lies():
    for scene in SCENES:
        nearer = np.zeros(scene.ids.shape, bool)
        for mask, segment in reversed(list(zip(scene.masks, scene.mask_segments, strict=True))):
            assert np.array_equal(mask & ~nearer, scene.ids == segment["id"])
            nearer |= mask


def test_things_stay_visible_and_some_hide_others():
    hidden = [
        1 - segment["area"] / mask.sum()
        for scene in SCENES
        for mask, segment in zip(scene.masks, scene.mask_segments, strict=True)
    ]
    assert max(hidden) <= 0.55
    assert np.mean(np.array(hidden) > 0.05) > 0.1


def test_all_classes_void_crowds_and_sizes_occur():
    segments = [segment for scene in SCENES for segment in scene.segments]
    assert {segment["category_id"] for segment in segments} == set(SHAPES_TABLE.dataset_ids)
    assert any(segment["iscrowd"] for segment in segments)
    with_void = sum(bool((scene.ids == 0).any()) for scene in SCENES)
    assert 0 < with_void < len(SCENES)
    things = [
        s["area"]
        for s in segments
        if SHAPES_TABLE.by_dataset_id(s["category_id"]).isthing and not s["iscrowd"]
    ]
    assert min(things) < 150
    assert max(things) > 1500


def test_a_scene_depends_on_seed_split_and_index():
    settings = ShapesSettings()
    again = make_scene(settings, "train", 7)
    assert np.array_equal(again.image, SCENES[7].image)
    assert np.array_equal(again.ids, SCENES[7].ids)
    assert again.segments == SCENES[7].segments
    others = [
        make_scene(settings, "train", 8),
        make_scene(settings, "val", 7),
        make_scene(ShapesSettings(seed=1), "train", 7),
    ]
    assert all(not np.array_equal(other.image, again.image) for other in others)


@pytest.mark.parametrize(("width", "height"), [(32, 32), (61, 47), (300, 90), (96, 512)])
def test_any_size_works(width, height):
    for index in range(8):
        scene = make_scene(ShapesSettings(width, height), "val", index)
        assert scene.image.shape == (height, width, 3)
        assert scene.image.dtype == np.uint8
        assert scene.ids.shape == (height, width)
        assert sum(s["area"] for s in scene.segments) == np.count_nonzero(scene.ids)


@pytest.mark.parametrize("name", THINGS)
def test_outlines_stay_inside_the_unit_circle(name):
    for seed in range(20):
        contours = draw_outline(name, np.random.default_rng(seed))
        assert np.concatenate(contours).shape[1] == 2
        assert np.hypot(*np.concatenate(contours).T).max() <= 1.15


def test_only_the_ring_has_a_hole():
    for name in THINGS:
        sprite = draw_sprite(name, np.random.default_rng(0), (50.0, 50.0), 30.0, (100, 100))
        centre = sprite.mask[50 - sprite.rows.start, 50 - sprite.columns.start]
        assert centre == (name != "ring")


def test_a_sprite_outside_of_the_image_is_empty():
    sprite = draw_sprite("disk", np.random.default_rng(0), (-90.0, 500.0), 20.0, (100, 100))
    assert sprite.mask.size == 0
    assert sprite.full_area > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"width": 8}, "width"), ({"height": 10**5}, "height"), ({"seed": -1}, "seed")],
)
def test_settings_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ShapesSettings(**arguments)
