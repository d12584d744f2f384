import pytest

from mmpanoptic.structures import LabelTable

CATEGORIES = [
    {"id": 92, "name": "sky", "isthing": 0},
    {"id": 7, "name": "car", "isthing": 1, "color": [1, 2, 3]},
    {"id": 0, "name": "road", "isthing": False},
]


def test_order_of_the_json_is_kept_and_ids_may_be_sparse_or_zero():
    table = LabelTable.from_categories(CATEGORIES)
    assert [label.name for label in table] == ["sky", "car", "road"]
    assert table.by_dataset_id(0).index == 2
    assert table.thing_labels == [1]
    assert table.stuff_labels == [0, 2]
    assert (table.num_things, table.num_stuff) == (1, 2)
    assert table[1].color == (1, 2, 3)


def test_metainfo_and_categories_are_round_trips():
    table = LabelTable.from_categories(CATEGORIES)
    assert LabelTable.from_metainfo(table.to_metainfo()) == table
    assert LabelTable.from_categories(table.to_categories()) == table


def test_ids_are_integers_not_their_text():
    table = LabelTable.from_categories(CATEGORIES)
    assert table.has_dataset_id(7)
    assert not table.has_dataset_id("7")
    assert not table.has_dataset_id(True)
    with pytest.raises(KeyError, match="unknown category_id 8; known: 0, 7, 92"):
        table.by_dataset_id(8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"isthing": None}, "isthing must be 0 or 1"),
        ({"id": "7"}, "id must be an integer"),
        ({"name": "sky"}, "repeat the name sky"),
        ({"id": 92}, "repeat the dataset_id 92"),
    ],
)
def test_broken_categories_are_named(change, message):
    broken = [CATEGORIES[0], {**CATEGORIES[1], **change}]
    with pytest.raises(ValueError, match=message):
        LabelTable.from_categories(broken)


def test_a_category_without_isthing_is_named():
    with pytest.raises(ValueError, match="lacks isthing"):
        LabelTable.from_categories([{"id": 1, "name": "cat"}])
