import json

import numpy as np
import pytest

from mmpanoptic.datasets.object_sizes import (
    SIZE_SETTINGS,
    USUAL_SETTINGS,
    ObjectSizes,
    measure_object_sizes,
)
from mmpanoptic.utils.format_errors import PanopticFormatError


def write(path, images, areas, stuff=()):
    """Write a JSON with the same things and stuff in each image."""
    segments = [
        {"id": i, "category_id": 7, "area": area, "iscrowd": 0} for i, area in enumerate(areas)
    ]
    segments += [{"id": 9000 + i, "category_id": 2, "area": area} for i, area in enumerate(stuff)]
    content = {
        "images": [{"id": i, "height": h, "width": w} for i, (h, w) in enumerate(images)],
        "annotations": [{"image_id": i, "segments_info": segments} for i in range(len(images))],
        "categories": [
            {"id": 7, "name": "cell", "isthing": 1},
            {"id": 2, "name": "back", "isthing": 0},
        ],
    }
    path.write_text(json.dumps(content))
    return path


def sizes_of(short_edge, lower, **others):
    values = {"small": lower * 0.8, "median": lower * 1.5, "most": 10, "stuff_area": 1e5, **others}
    return ObjectSizes("a.json", 100, float(short_edge), lower=lower, **values)


def test_quantiles_of_diameters_and_short_edges_are_measured(tmp_path):
    areas = [np.pi / 4 * d**2 for d in range(1, 102)]
    file = write(tmp_path / "a.json", [(100, 200), (300, 150), (400, 400)], areas, [500])
    sizes = measure_object_sizes(file)
    assert (sizes.things, sizes.short_edge, sizes.most, sizes.stuff_area) == (303, 150, 101, 500)
    assert (sizes.small, sizes.lower, sizes.median) == pytest.approx((11, 26, 51), rel=1e-3)


def test_crowds_and_what_is_malformed_are_left_out(tmp_path):
    file = write(tmp_path / "a.json", [(100, 200)], [100, 100])
    content = json.loads(file.read_text())
    content["annotations"][0]["segments_info"] += [
        {"id": 50, "category_id": 7, "area": 4, "iscrowd": 1},
        {"id": 51, "category_id": 99, "area": 4},
        {"id": 52, "category_id": 7, "area": "4"},
        {"id": 53, "category_id": 7},
        None,
    ]
    content["images"].append({"id": 3, "height": "many"})
    file.write_text(json.dumps(content))
    sizes = measure_object_sizes(file)
    assert (sizes.things, sizes.most, sizes.short_edge) == (2, 2, 100)


def test_a_file_without_images_asks_for_the_usual_sizes(tmp_path):
    (tmp_path / "a.json").write_text('{"images": [], "annotations": []}')
    settings = measure_object_sizes(tmp_path / "a.json").settings()
    assert settings == {**USUAL_SETTINGS, "size_stuff_area": 1024}


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_broken_file_is_refused(tmp_path, text):
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(PanopticFormatError, match="corrupt_json"):
        measure_object_sizes(file)


@pytest.mark.parametrize(
    ("short_edge", "lower", "expected"),
    [
        (256, 10.7, 512),  # small objects: twice the size, and no more
        (480, 15.9, 736),  # as much as six cells need
        (1080, 10.0, 1024),  # the limit
        (480, 100.0, 480),  # large objects: as they are
        (2160, 400.0, 512),  # large objects in large images
        (64, 40.0, 64),
        (5, 4.0, 32),
        (3000, 20.0, 1024),
    ],
)
def test_images_get_the_size_that_the_objects_need(short_edge, lower, expected):
    settings = sizes_of(short_edge, lower).settings()
    assert settings["size_short_edge"] == expected
    assert settings["size_max_size"] == 2 * expected
    assert settings["size_crop_size"] == (expected, expected)


def test_heatmaps_of_small_objects_are_sharper_and_windows_narrower():
    nuclei = sizes_of(256, 10.7, small=8.0).settings()
    things = sizes_of(480, 90.0, small=60.0).settings()
    assert (nuclei["size_sigma"], nuclei["size_nms_kernel"]) == (5.5, 9)
    assert (things["size_sigma"], things["size_nms_kernel"]) == (8.0, 17)
    assert nuclei["size_small_area"] < things["size_small_area"] == 4096


def test_a_few_small_things_do_not_narrow_the_window_between_large_ones():
    photographs = sizes_of(427, 21.8, small=11.4)
    assert photographs.settings()["size_nms_kernel"] == 15  # as far as 8 pixels of the input reach
    assert photographs.settings(192)["size_nms_kernel"] == 17


def test_anchors_begin_with_the_small_things_and_follow_the_input():
    sizes = sizes_of(256, 10.7, small=8.2)
    assert sizes.settings(256)["size_anchors"] == (8, 16, 32, 64, 128)
    assert sizes.settings(512)["size_anchors"] == (16, 32, 64, 128, 256)
    assert sizes_of(480, 90.0, small=60.0).settings()["size_anchors"][0] == 32  # the usual one


def test_another_input_size_takes_sigma_along_but_not_the_window_in_the_original():
    sizes = sizes_of(256, 10.7, small=8.0)
    whole, half = sizes.settings(), sizes.settings(256)
    assert half["size_short_edge"] == whole["size_short_edge"]  # still the suggestion
    assert half["size_crop_size"] == (256, 256)
    assert half["size_sigma"] == 2.5
    assert half["size_nms_kernel"] == whole["size_nms_kernel"] == 9
    assert half["size_small_area"] == pytest.approx(whole["size_small_area"] / 4, abs=1)


def test_every_window_is_odd_and_every_setting_is_there():
    for edge in (32, 100, 480, 5000):
        for lower in (1.0, 7.0, 33.0, 900.0):
            settings = sizes_of(edge, lower).settings()
            assert tuple(settings) == SIZE_SETTINGS == tuple(USUAL_SETTINGS)
            assert settings["size_nms_kernel"] % 2 == 1
            assert settings["size_nms_kernel"] >= 3
            assert 2 <= settings["size_sigma"] <= 8


def test_full_images_get_more_centres_and_rare_small_stuff_stays():
    settings = sizes_of(256, 20.0, most=150, stuff_area=90.0).settings()
    assert (settings["size_top_k"], settings["size_stuff_area"]) == (300, 45)
    assert sizes_of(256, 20.0, stuff_area=float("inf")).settings()["size_stuff_area"] == 1024


def test_data_without_things_get_settings_as_well(tmp_path):
    sizes = measure_object_sizes(write(tmp_path / "a.json", [(300, 400)], [], [5000]))
    assert sizes.settings()["size_short_edge"] == 288
    assert sizes.settings()["size_sigma"] == 8.0
    assert not sizes.is_fine()
    assert "0 things" in sizes.describe()


def test_finer_cells_are_advised_for_small_objects_only():
    assert sizes_of(256, 10.7).is_fine()
    assert not sizes_of(480, 40.0).is_fine()
    assert sizes_of(4000, 40.0).is_fine()  # five pixels at the usual size
