"""Image classification data: one folder of images per class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset, Compose

from mmpanoptic.registry import DATASETS, TRANSFORMS
from mmpanoptic.structures import LabelTable

from .seeding import seed_sample

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


@DATASETS.register_module()
class ImageFolderDataset(BaseDataset):
    """Images in one folder per class: ``data_root/folder/<class>/*.jpg``.

    Classes are numbered in the alphabetical order of their folders. Augmentations follow from
    seed, epoch and image, so that a resumed run sees the same data.

    Args:
        data_root (str): Folder of the dataset.
        folder (str): Folder of the part (``train``, ``val``) in it.
        metainfo (Mapping | None): ``classes``: names of the folders, which are checked against
            the disk. Without it they are read from the disk.
        pipeline (Sequence[dict]): Transforms.
        seed (int): Seed of the augmentations.
        indices (int | Sequence[int] | None): As in mmengine: use a part of the images.

    Raises:
        FileNotFoundError: If a folder is missing or holds no image.
        ValueError: If the folders are not the classes.
    """

    METAINFO: dict[str, Any] = {}

    def __init__(
        self,
        data_root: str,
        folder: str,
        metainfo: Mapping[str, Any] | None = None,
        pipeline: Sequence[Mapping[str, Any] | Callable] = (),
        seed: int = 0,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        self.folder = folder
        self.seed = seed
        self.label_table = self.read_table(
            {"data_root": data_root, "folder": folder, "metainfo": metainfo}
        )
        super().__init__(
            metainfo=self.label_table.to_metainfo(),
            data_root=data_root,
            data_prefix={"img_path": folder},
            indices=indices,
            lazy_init=True,
        )
        self.pipeline = Compose([TRANSFORMS.build(step) for step in pipeline])
        self.full_init()

    @classmethod
    def read_table(cls, dataset_cfg: Mapping[str, Any]) -> LabelTable:
        """Read the classes that a config describes, without listing images.

        Args:
            dataset_cfg (Mapping): Config of the dataset.

        Returns:
            LabelTable: All classes count as things.
        """
        metainfo = {**cls.METAINFO, **(dataset_cfg.get("metainfo") or {})}
        names = metainfo.get("classes")
        if names is None:
            names = _folders(Path(dataset_cfg["data_root"]) / dataset_cfg["folder"])
        return LabelTable.from_categories(
            [{"id": i, "name": str(name), "isthing": 1} for i, name in enumerate(names)]
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images, sorted by class and name.

        Returns:
            list[dict]: ``img_path``, ``gt_label``, ``img_id`` (path from the part's folder).
        """
        root = Path(self.data_root) / self.folder
        folders = _folders(root)
        if len(folders) != len(self.label_table):
            raise ValueError(
                f"{root} has {len(folders)} folders, but the config names "
                f"{len(self.label_table)} classes; every class needs a folder of its own"
            )
        images = []
        for label, name in enumerate(folders):
            for path in sorted((root / name).iterdir()):
                if path.suffix.lower() in SUFFIXES:
                    image_id = f"{name}/{path.name}"
                    images.append({"img_path": str(path), "gt_label": label, "img_id": image_id})
        if not images:
            raise FileNotFoundError(f"the folders of {root} hold no images ({', '.join(SUFFIXES)})")
        return images

    def prepare_data(self, idx: int) -> Any:
        """Load and augment an image.

        Args:
            idx (int): Its number; a :class:`SampleIndex` tells the epoch, too.

        Returns:
            Any: What the pipeline returns.
        """
        with seed_sample(self.seed, getattr(idx, "epoch", 0), int(idx)):
            return self.pipeline(self.get_data_info(int(idx)))


@DATASETS.register_module()
class ImageNetDataset(ImageFolderDataset):
    """ImageNet-1k in one folder per class; the classes are numbered by their folders' order.

    The 1000 folders of ``train`` and of ``val`` carry the WordNet numbers (``n01440764``, ...).
    """

    METAINFO = {"classes": tuple(f"{number:03d}" for number in range(1000))}


def _folders(root: Path) -> list[str]:
    if not root.is_dir():
        raise FileNotFoundError(
            f"there is no folder {root}; image classification needs one folder of images per class "
            "there, see docs/datasets.md"
        )
    return sorted(path.name for path in root.iterdir() if path.is_dir())
