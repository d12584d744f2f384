"""The walks of docs/map.md name the files that run, and no others."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import mmpanoptic
from mmpanoptic.apis import PanopticInferencer

PACKAGE = Path(mmpanoptic.__file__).resolve().parent
PAGE = (PACKAGE.parent / "docs" / "map.md").read_text(encoding="utf-8")
WALKS = re.findall(r"^### (.+?)\n\n`([\w.-]+)`(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
SHOW_ALL = {
    "efficientps-maskrcnn_b0-tiny_1xb8-600_shapes": {"model.fusion_head.score_thr": 0.0},
    "rap_r18-tiny_relation-finetune_1xb8-2k_shapes": {"model.fusion_head.score_thr": 0.0},
    "auto-panoptic_tiny_1xb8-500_shapes": {"model.fusion_head.score_thr": 0.0},
}
"""Random weights find nothing of sufficient score; with these options instances are fused."""
LONGEST = {
    "Panoptic-DeepLab": 16,
    "COPS": 20,
    "EfficientPS with SOLOv2": 22,
    "EfficientPS with Mask R-CNN": 25,
    "RAP": 27,
    "Auto-Panoptic": 30,
}
"""Files that a reader must open to follow one image; a longer walk needs a reason."""


def files_of(text):
    """Files in the second column of a table."""
    return set(re.findall(r"^\|[^|]*\| `([\w/]+\.py)` \|", text, re.MULTILINE))


def files_that_run(config):
    """Files of the package of which a function is called for the second image."""
    torch.manual_seed(0)
    inferencer = PanopticInferencer(config, device="cpu", cfg_options=SHOW_ALL.get(config))
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    inferencer(image)
    found = set()

    def notice(frame, event, _):
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            found.add(path.relative_to(PACKAGE).as_posix())

    sys.setprofile(notice)
    try:
        inferencer(image)
    finally:
        sys.setprofile(None)
    return found


@pytest.mark.parametrize(("title", "config", "table"), WALKS, ids=[walk[0] for walk in WALKS])
def test_a_walk_names_the_files_that_run(title, config, table):
    common = PAGE[PAGE.index("## The way of one image") : PAGE.index("### ")]
    named, run = files_of(common) | files_of(table), files_that_run(config)
    assert sorted(run - named) == [], "the page omits files that run"
    assert sorted(named - run) == [], "the page names files that do not run"
    assert len(run) <= LONGEST[title]


def test_there_is_a_walk_for_each_system():
    assert {title for title, *_ in WALKS} == set(LONGEST)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([\w/]+\.py)`", PAGE))))
def test_the_page_names_files_that_exist(name):
    folders = (PACKAGE.parent, PACKAGE, PACKAGE / "models")
    assert any((folder / name).is_file() for folder in folders)


ROOMS = re.findall(r"^\| (`[^|]+) \|", PAGE[: PAGE.index("## The way")], re.MULTILINE)


@pytest.mark.parametrize(
    "folder",
    sorted(p.parent.relative_to(PACKAGE).as_posix() for p in PACKAGE.glob("*/__init__.py")),
)
def test_every_room_stands_in_the_table(folder):
    assert folder == "models" or any(f"`{folder}/`" in rooms for rooms in ROOMS)
