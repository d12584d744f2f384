import pytest

from mmpanoptic.datasets import ADE20KPanopticDataset
from mmpanoptic.datasets.converters.ade20k import make_panoptic
from mmpanoptic.datasets.label_sets_ade20k import FLAVOURS
from tests.golden import golden_files

ROOT = golden_files("evaluation", "ade20k*/annotations")[0].parent


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_numbering_is_read(tmp_path, flavour):
    make_panoptic(ROOT, tmp_path, "validation", flavour)
    data = ADE20KPanopticDataset(
        "ade20k_panoptic_val.json",
        data_root=str(tmp_path),
        data_prefix={"img": f"{ROOT}/images/validation", "seg": "ade20k_panoptic_val"},
        pipeline=[{"type": "LoadImage"}, {"type": "LoadPanopticAnnotations"}],
    )
    assert (data.label_table.num_things, data.label_table.num_stuff) == (100, 50)
    assert data.metainfo["name"] == "ade20k_panoptic"
    for k in range(len(data)):
        item = data[k]
        present = set(item["gt_seg_map"].ravel().tolist()) - {0}
        assert present == set(range(1, len(item["segments_info"]) + 1))
        assert item["img"].shape[:2] == item["gt_seg_map"].shape
