"""All labels of Cityscapes, also those that evaluation ignores."""

from __future__ import annotations

from typing import NamedTuple

VOID_TRAIN_ID = 255
"""Train id of labels that training ignores."""


class CityscapesLabel(NamedTuple):
    """One label.

    Attributes:
        id (int): Value in ``*_labelIds.png``.
        name (str): Name in the polygon files.
        train_id (int): Value in ``*_labelTrainIds.png``.
        category (str): Group of labels.
        has_instances (bool): Thing.
        ignored (bool): Left out of evaluation.
        color (tuple[int, int, int]): RGB.
    """

    id: int
    name: str
    train_id: int
    category: str
    has_instances: bool
    ignored: bool
    color: tuple[int, int, int]


# One label per line in the order of the ids: id, train id (- for none), category, kind, RGB
# colour, name.
_LABELS = """
 0   - void         stuff 000000 unlabeled
 1   - void         stuff 000000 ego vehicle
 2   - void         stuff 000000 rectification border
 3   - void         stuff 000000 out of roi
 4   - void         stuff 000000 static
 5   - void         stuff 6f4a00 dynamic
 6   - void         stuff 510051 ground
 7   0 flat         stuff 804080 road
 8   1 flat         stuff f423e8 sidewalk
 9   - flat         stuff faaaa0 parking
10   - flat         stuff e6968c rail track
11   2 construction stuff 464646 building
12   3 construction stuff 66669c wall
13   4 construction stuff be9999 fence
14   - construction stuff b4a5b4 guard rail
15   - construction stuff 966464 bridge
16   - construction stuff 96785a tunnel
17   5 object       stuff 999999 pole
18   - object       stuff 999999 polegroup
19   6 object       stuff faaa1e traffic light
20   7 object       stuff dcdc00 traffic sign
21   8 nature       stuff 6b8e23 vegetation
22   9 nature       stuff 98fb98 terrain
23  10 sky          stuff 4682b4 sky
24  11 human        thing dc143c person
25  12 human        thing ff0000 rider
26  13 vehicle      thing 00008e car
27  14 vehicle      thing 000046 truck
28  15 vehicle      thing 003c64 bus
29   - vehicle      thing 00005a caravan
30   - vehicle      thing 00006e trailer
31  16 vehicle      thing 005064 train
32  17 vehicle      thing 0000e6 motorcycle
33  18 vehicle      thing 770b20 bicycle
"""


def _parse(line: str) -> CityscapesLabel:
    number, train_id, category, kind, color, name = line.split(maxsplit=5)
    ignored = train_id == "-"
    red, green, blue = bytes.fromhex(color)
    return CityscapesLabel(
        int(number),
        name,
        VOID_TRAIN_ID if ignored else int(train_id),
        category,
        kind == "thing",
        ignored,
        (red, green, blue),
    )


CITYSCAPES_LABELS = tuple(_parse(line) for line in _LABELS.strip().splitlines())
"""The 34 drawable labels, position = id. License plates (-1) are in no map."""

INSTANCE_FACTOR = 1000
"""``*_instanceIds.png`` holds ``label id * 1000 + n``; smaller values are stuff or groups."""
