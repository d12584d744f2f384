import subprocess
import sys

import cv2
import numpy as np
import pytest
from mmdet.structures import DetDataSample

from mmpanoptic.datasets.shapes import SHAPES_TABLE, ShapesSettings, make_scene
from mmpanoptic.registry import VISUALIZERS, ConfigError
from mmpanoptic.structures import make_panoptic_data
from mmpanoptic.utils.panoptic_png import encode_panoptic_png
from mmpanoptic.visualization.panoptic_visualizer import (
    PanopticVisualizer,
    ground_truth_of,
    index_of_ids,
    prediction_of,
    write_picture,
)

SCENE = make_scene(ShapesSettings(96, 64), "train", 3)
IMAGE = np.ascontiguousarray(SCENE.image[..., ::-1])
SEGMENTS = [
    {**s, "label": label.index, "isthing": label.isthing, "score": 0.2 if label.isthing else 0.1}
    for s in SCENE.segments
    for label in [SHAPES_TABLE.by_dataset_id(s["category_id"])]
]
INDEX = index_of_ids(SCENE.ids, SEGMENTS)


@pytest.fixture
def visualizer():
    visualizer = PanopticVisualizer(min_side=0)
    visualizer.dataset_meta = SHAPES_TABLE.to_metainfo()
    return visualizer


@pytest.fixture
def sample():
    sample = DetDataSample()
    sample.pred_panoptic_seg = make_panoptic_data(INDEX, SEGMENTS)
    sample.gt_panoptic_seg = make_panoptic_data(INDEX, SEGMENTS)
    return sample


def test_ids_become_positions_and_unknown_ids_void():
    ids = np.array([[900, 5, 0], [5, 77, 900]], np.int32)
    index = index_of_ids(ids, [{"id": 900}, {"id": 5}])
    assert index.tolist() == [[1, 2, 0], [2, 0, 1]]
    assert index_of_ids(ids, []).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_ground_truth_is_drawn_beside_the_prediction(visualizer, sample):
    both = visualizer.draw_sample(IMAGE, sample)
    one = visualizer.draw_sample(IMAGE, sample, draw_gt=False)
    # Image, truth, prediction and difference, two and two since the image is wide.
    header = (both.shape[0] - 8) // 2 - 64
    assert both.shape[1] == 2 * 96 + 8
    assert one.shape == IMAGE.shape
    assert np.array_equal(both[header : header + 64, :96], IMAGE)
    assert np.array_equal(both[header : header + 64, -96:], one)
    assert np.array_equal(both[-64:, :96], one)
    difference = both[-64:, -96:]
    assert (difference == difference[..., :1]).all()  # nothing is wrong: grey


def test_backends_that_nobody_filled_in_are_explained():
    with pytest.raises(ConfigError, match=r"placeholder '\$vis_backends'.* Use PanopticRunner"):
        PanopticVisualizer(vis_backends="$vis_backends")


def test_the_palette_is_the_options(visualizer, sample):
    other = PanopticVisualizer(min_side=0, palette="colorblind")
    other.dataset_meta = SHAPES_TABLE.to_metainfo()
    drawn = [one.draw_sample(IMAGE, sample, draw_gt=False) for one in (visualizer, other)]
    assert not np.array_equal(*drawn)


def test_pictures_that_are_not_wide_stand_in_one_row(visualizer):
    sample = DetDataSample()
    index = INDEX[:, :64]
    sample.pred_panoptic_seg = make_panoptic_data(index, SEGMENTS)
    sample.gt_panoptic_seg = make_panoptic_data(index, SEGMENTS)
    row = visualizer.draw_sample(np.ascontiguousarray(IMAGE[:, :64]), sample)
    assert row.shape[1] == 4 * 64 + 3 * 8


def test_without_annotation_the_prediction_is_drawn_alone(visualizer, sample):
    del sample.gt_panoptic_seg
    assert visualizer.draw_sample(IMAGE, sample).shape == IMAGE.shape
    assert np.array_equal(visualizer.draw_sample(IMAGE, None), IMAGE)


def test_ground_truth_of_the_original_size_is_read_from_the_png(tmp_path, sample):
    (tmp_path / "a.png").write_bytes(encode_panoptic_png(SCENE.ids))
    sample.gt_panoptic_seg = make_panoptic_data(INDEX[:32, :48], SEGMENTS)
    sample.set_metainfo({"seg_map_path": str(tmp_path / "a.png"), "segments_info": SCENE.segments})
    index, segments = ground_truth_of(sample, IMAGE.shape[:2])
    assert np.array_equal(index, INDEX)
    assert segments == SCENE.segments
    assert ground_truth_of(sample, (32, 48))[0].shape == (32, 48)


def test_things_below_the_threshold_are_void_and_stuff_stays(sample):
    index, _ = prediction_of(sample, 0.5)
    stuff = np.array([False, *(not s["isthing"] for s in SEGMENTS)])[INDEX]
    assert np.array_equal(index > 0, stuff)


def test_backends_and_out_file_get_the_picture(tmp_path, sample):
    visualizer = VISUALIZERS.build(
        {
            "type": "PanopticVisualizer",
            "name": "test",
            "vis_backends": [{"type": "LocalVisBackend"}],
            "save_dir": str(tmp_path),
            "min_side": 128,
        }
    )
    visualizer.dataset_meta = SHAPES_TABLE.to_metainfo()
    visualizer.add_datasample("val_img", IMAGE, sample, step=7)
    (written,) = tmp_path.rglob("val_img_7.png")
    assert cv2.imread(str(written)).shape[1] == 2 * 192 + 8
    visualizer.add_datasample("x", IMAGE, sample, out_file=str(tmp_path / "a b" / "x.jpg"))
    assert cv2.imread(str(tmp_path / "a b" / "x.jpg")) is not None
    assert len(list(tmp_path.rglob("*.png"))) == 1


def test_the_mmengine_drawing_methods_still_work(visualizer):
    visualizer.set_image(IMAGE)
    visualizer.draw_bboxes(np.array([[5, 5, 40, 40]]), edge_colors="r")
    assert (visualizer.get_image() != IMAGE).any()


def test_a_missing_label_table_is_named(sample):
    with pytest.raises(ValueError, match="dataset_meta"):
        PanopticVisualizer().draw_sample(IMAGE, sample)


def test_an_unknown_picture_format_is_named(tmp_path):
    for name in ("a", "a.xyz"):
        with pytest.raises(ValueError, match="unknown image format"):
            write_picture(tmp_path / name, IMAGE)


def test_drawing_imports_no_plotting_and_no_model_library(tmp_path):
    code = """
import sys, numpy as np
from mmpanoptic.structures import LabelTable, make_panoptic_data
from mmpanoptic.registry import VISUALIZERS, ConfigError
from mmengine.structures import BaseDataElement
table = LabelTable.from_categories([{"id": 4, "name": "a", "isthing": 1}])
visualizer = VISUALIZERS.build(dict(type="PanopticVisualizer", name="x", save_dir=sys.argv[1],
                                    vis_backends=[dict(type="LocalVisBackend")]))
visualizer.dataset_meta = table.to_metainfo()
sample = BaseDataElement()
sample.pred_panoptic_seg = make_panoptic_data(np.ones((8, 8), int), [dict(label=0, isthing=True)])
visualizer.add_datasample("x", np.zeros((8, 8, 3), np.uint8), sample)
bad = ["matplotlib", "mmseg", "mmdet", "pycocotools"]
found = [name for name in sys.modules if name.split(".")[0] in bad]
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_the_colours_can_cover_the_image_or_leave_it_alone(sample):
    pictures = {}
    for alpha in (0.0, 0.5, 1.0):
        visualizer = PanopticVisualizer(min_side=0, alpha=alpha)
        visualizer.dataset_meta = SHAPES_TABLE.to_metainfo()
        pictures[alpha] = visualizer.draw_sample(IMAGE, sample, draw_gt=False).astype(int)
    mix = (pictures[0.0] + pictures[1.0]) / 2
    things = np.array([False, *(s["isthing"] for s in SEGMENTS)])[INDEX]
    inside = np.abs(pictures[0.5] - mix).max(2)[things] <= 1
    assert inside.mean() > 0.5, "all but outlines and names"
    stuff = pictures[1.0][~things & (INDEX > 0)]
    assert len(np.unique(stuff, axis=0)) < 0.1 * len(stuff), "the image is covered"
    assert (np.abs(pictures[0.0] - IMAGE).max(2) == 0).mean() > 0.5
