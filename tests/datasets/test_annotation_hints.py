import shutil

import pytest

from mmpanoptic import datasets
from mmpanoptic.datasets import read_label_table
from mmpanoptic.utils.format_errors import PanopticFormatError

from .tiny_data import dataset_args, write_dataset

HINTS = {
    "PanopticDataset": "own_data.py",
    "CocoPanopticDataset": "panoptic_annotations_trainval2017.zip",
    "CityscapesPanopticDataset": "mmpanoptic convert cityscapes",
    "ADE20KPanopticDataset": "mmpanoptic convert ade20k",
    "MapillaryPanopticDataset": "mmpanoptic convert mapillary",
    "ShapesDataset": "mmpanoptic convert shapes",
}


@pytest.mark.parametrize(("name", "hint"), HINTS.items())
def test_a_missing_annotation_file_names_the_command_that_makes_it(tmp_path, name, hint):
    with pytest.raises(PanopticFormatError, match=r"nothing\.json") as caught:
        getattr(datasets, name)("nothing.json", data_root=str(tmp_path))
    assert caught.value.kind == "missing_file"
    assert hint in str(caught.value)


def test_an_unset_variable_in_front_of_the_root_is_explained(tmp_path):
    """--cfg-options data_root=$DETECTRON2_DATASETS/coco, without that variable."""
    with pytest.raises(
        PanopticFormatError, match=r"no folder /coco.*\$\{VARIABLE:-datasets\}/coco"
    ):
        datasets.CocoPanopticDataset("annotations/a.json", data_root="/coco")
    with pytest.raises(PanopticFormatError) as caught:
        datasets.CocoPanopticDataset("annotations/a.json", data_root=str(tmp_path / "coco"))
    assert "VARIABLE" not in str(caught.value)


def test_so_does_reading_the_classes_alone(tmp_path):
    config = {"type": "ADE20KPanopticDataset", "ann_file": str(tmp_path / "nothing.json")}
    with pytest.raises(PanopticFormatError, match="convert ade20k"):
        read_label_table(config)


def test_a_missing_folder_of_pngs_names_the_command_too(tmp_path):
    write_dataset(tmp_path)
    steps = [{"type": "LoadImage"}, {"type": "LoadPanopticAnnotations"}]
    data = datasets.ADE20KPanopticDataset(**dataset_args(tmp_path), pipeline=steps)
    (tmp_path / "maps" / "map_3.png").unlink()
    with pytest.raises(PanopticFormatError, match=r"map_3\.png") as caught:
        data[0]
    assert "convert ade20k" not in str(caught.value)
    shutil.rmtree(tmp_path / "maps")
    with pytest.raises(PanopticFormatError, match=r"no folder .*maps: make it.*convert ade20k"):
        data[0]


def test_a_folder_in_its_place_is_no_reason_for_the_hint(tmp_path):
    with pytest.raises(PanopticFormatError) as caught:
        datasets.ShapesDataset("", data_root=str(tmp_path), data_prefix={"img": "a"})
    assert "shapes.py" not in str(caught.value)
