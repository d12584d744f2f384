"""A dataset of one's own; docs/tutorials/own_dataset.md walks through it."""

from __future__ import annotations

from mmpanoptic.datasets import PanopticDataset
from mmpanoptic.registry import DATASETS

THINGS = ("disk", "square", "triangle", "star", "ring", "cross")
STUFF = ("stripes", "checks", "dots", "grain", "plain")


@DATASETS.register_module()
class SitesDataset(PanopticDataset):
    """Images in a folder for each site, which the annotation file does not name.

    ``file_name`` in the JSON is ``SITE-NUMBER.jpg``; the image is ``SITE/NUMBER.jpg``.
    """

    # Written down, the classes are compared with those of every annotation file, and models are
    # built on machines without the data. Left out, they are read from the annotation file.
    METAINFO = {
        "name": "sites",
        "classes": (*THINGS, *STUFF),
        "dataset_ids": (1, 2, 4, 5, 7, 9, 21, 22, 24, 25, 28),
        "isthing": (True,) * len(THINGS) + (False,) * len(STUFF),
    }
    ANN_FILE_HINT = "ask the survey's office for it"

    def image_file(self, file_name: str, img_id: int | str) -> str:
        """Find the image below ``data_prefix["img"]``."""
        site, _, number = file_name.partition("-")
        return f"{site}/{number}"
