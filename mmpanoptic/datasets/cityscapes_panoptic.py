"""Cityscapes panoptic."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import Any

from mmpanoptic.registry import DATASETS
from mmpanoptic.structures import LabelTable

from .label_sets import CITYSCAPES
from .panoptic_dataset import PanopticDataset


@DATASETS.register_module()
class CityscapesPanopticDataset(PanopticDataset):
    """Cityscapes with its 19 evaluated classes: 11 stuff classes, then 8 things.

    Reads ``cityscapes_panoptic_{split}.json`` (label ids 7..33) and the ``_trainId`` variant
    (0..18); contiguous labels are the train ids with both.
    ``images[].file_name`` may be the path of the image below ``data_prefix["img"]``
    (``<city>/<id>_leftImg8bit.png``) or what the official converter writes
    (``<id>_gtFine_leftImg8bit.png``), which names no existing file.

    Args:
        *args (Any): See :class:`PanopticDataset`.
        image_name (str | None): Pattern of the images' paths below ``data_prefix["img"]``, with
            ``{id}`` and ``{city}``, for copies in another layout: "{id}.png" for that of the
            EfficientPS authors. None is the official layout.
        **kwargs (Any): See :class:`PanopticDataset`.

    Raises:
        ValueError: If the pattern does not contain ``{id}``.
    """

    METAINFO = {"name": "cityscapes_panoptic", **CITYSCAPES.to_metainfo()}
    ANN_FILE_HINT = "make it with: mmpanoptic convert cityscapes DATA_ROOT"

    def __init__(self, *args: Any, image_name: str | None = None, **kwargs: Any) -> None:
        if image_name is not None and "{id}" not in image_name:
            raise ValueError(
                f'image_name is a pattern with {{id}}, such as "{{id}}.png", got {image_name!r}'
            )
        self.image_name = image_name
        super().__init__(*args, **kwargs)

    def number_classes(self, table: LabelTable, categories: Any) -> LabelTable:
        """Take the train ids as ids if the JSON has no others.

        Args:
            table (LabelTable): The 19 classes.
            categories (list[dict]): Of the JSON, unchecked.

        Returns:
            LabelTable: The classes, numbered as in the JSON.
        """
        train_ids: dict[Any, int] = {label.name: label.index for label in CITYSCAPES}
        found = [(c.get("name"), c.get("id")) for c in categories if isinstance(c, dict)]
        if not found or any(train_ids.get(name) != number for name, number in found):
            return table
        return LabelTable(
            [
                replace(label, dataset_id=train_ids.get(label.name, label.dataset_id))
                for label in table
            ]
        )

    def image_file(self, file_name: str, img_id: int | str) -> str:
        """Find an image in the folder of its city.

        Args:
            file_name (str): ``images[].file_name``, either form.
            img_id (int | str): ``<city>_<sequence>_<frame>``.

        Returns:
            str: ``<city>/<id>_leftImg8bit.png``, with the folder that ``file_name`` has, or what
            ``image_name`` says.
        """
        city = str(img_id).split("_", 1)[0]
        if self.image_name is not None:
            return self.image_name.replace("{id}", str(img_id)).replace("{city}", city)
        folder, name = posixpath.split(file_name)
        name = name.replace("_gtFine_leftImg8bit", "_leftImg8bit")
        return posixpath.join(folder or city, name)
