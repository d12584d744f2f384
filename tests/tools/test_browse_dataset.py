import cv2
import numpy as np

from mmpanoptic.apis import find_config
from tests.apis.tiny_model import CONFIG

TOOL = "analysis_tools/browse_dataset.py"


def browse(run_tool, root, *options, **keywords):
    return run_tool(TOOL, CONFIG, *options, "--cfg-options", f"data_root={root}", **keywords)


def test_draws_augmented_items_and_says_where(run_tool, shapes_root):
    done = browse(run_tool, shapes_root, "--num", 2, "--repeat", 2, "--out-dir", "my pictures")
    assert "6 things, 5 stuff" in done.stdout
    folder = run_tool.folder / "my pictures"
    pictures = [cv2.imread(str(path)) for path in sorted((folder / "images").iterdir())]
    assert len(pictures) == 4
    assert not np.array_equal(pictures[0], pictures[1])
    assert "item 1, pass 1" in (folder / "index.html").read_text()


def test_validation_images_are_drawn_with_their_annotation(run_tool, shapes_root):
    browse(run_tool, shapes_root, "--split", "val", "--num", 0, "--no-image")
    folder = run_tool.folder / "browse"
    pictures = [cv2.imread(str(path)) for path in sorted((folder / "images").iterdir())]
    assert [picture.shape for picture in pictures] == [(384, 576, 3)] * 3
    plain = cv2.imread(str(shapes_root / "val" / "000001.jpg"))
    assert (pictures[0][::6, ::6] != plain).any()


def test_images_that_tests_resize_are_drawn_with_their_annotation(run_tool, shapes_root):
    config = run_tool.folder / "resized.py"
    steps = [{"type": "LoadImage"}, {"type": "ResizeShortestEdge", "short_edge": 80}]
    steps.append({"type": "PackPanopticInputs"})
    config.write_text(f"_base_ = {str(find_config(CONFIG))!r}\ntest_pipeline = {steps}\n")
    words = ("--split", "val", "--num", 1, "--cfg-options", f"data_root={shapes_root}")
    run_tool(TOOL, config, *words)
    picture = cv2.imread(str(run_tool.folder / "browse" / "images" / "0000.png"))
    assert picture.shape[0] >= 384  # as large as the annotation is drawn: 64 x 96, enlarged
    assert picture.shape[1] >= 2 * 576


def test_a_missing_dataset_is_named(run_tool, tmp_path):
    done = browse(run_tool, tmp_path / "nothing", status=1)
    assert "error:" in done.stderr
    assert "nothing" in done.stderr
