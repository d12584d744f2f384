"""The 150 classes of ADE20K's scene parsing and instance annotations, in their three numberings."""

from __future__ import annotations

from typing import Any, NamedTuple

from mmpanoptic.structures import LabelTable


class Ade20kClass(NamedTuple):
    """One class of ADE20K.

    Attributes:
        value (int): 1..150, value in the scene-parsing PNGs.
        isthing (bool): Whether instances are annotated.
        color (tuple[int, int, int]): RGB.
        name (str): Name with its synonyms.
        mmdet_id (int): Things 0..99 (instance class - 1), then stuff 100..149.
    """

    value: int
    isthing: bool
    color: tuple[int, int, int]
    name: str
    mmdet_id: int


# Value in the scene-parsing PNG, kind, RGB colour, name.
_CLASSES = """
  1 stuff 787878 wall
  2 stuff b47878 building
  3 stuff 06e6e6 sky
  4 stuff 503232 floor
  5 stuff 04c803 tree
  6 stuff 787850 ceiling
  7 stuff 8c8c8c road, route
  8 thing cc05ff bed
  9 thing e6e6e6 window
 10 stuff 04fa07 grass
 11 thing e005ff cabinet
 12 stuff ebff07 sidewalk, pavement
 13 thing 96053d person
 14 stuff 787846 earth, ground
 15 thing 08ff33 door
 16 thing ff0652 table
 17 stuff 8fff8c mountain, mount
 18 stuff ccff04 plant
 19 thing ff3307 curtain
 20 thing cc4603 chair
 21 thing 0066c8 car
 22 stuff 3de6fa water
 23 thing ff0633 painting, picture
 24 thing 0b66ff sofa
 25 thing ff0747 shelf
 26 stuff ff09e0 house
 27 stuff 0907e6 sea
 28 thing dcdcdc mirror
 29 stuff ff095c rug
 30 stuff 7009ff field
 31 thing 08ffd6 armchair
 32 thing 07ffe0 seat
 33 thing ffb806 fence
 34 thing 0aff47 desk
 35 stuff ff290a rock, stone
 36 thing 07ffff wardrobe, closet, press
 37 thing e0ff08 lamp
 38 thing 6608ff tub
 39 thing ff3d06 rail
 40 thing ffc207 cushion
 41 stuff ff7a08 base, pedestal, stand
 42 thing 00ff14 box
 43 thing ff0829 column, pillar
 44 thing ff0599 signboard, sign
 45 thing 0633ff chest of drawers, chest, bureau, dresser
 46 thing eb0cff counter
 47 stuff a09614 sand
 48 thing 00a3ff sink
 49 stuff 8c8cc8 skyscraper
 50 thing fa0a0f fireplace
 51 thing 14ff00 refrigerator, icebox
 52 stuff 1fff00 grandstand, covered stand
 53 stuff ff1f00 path
 54 thing ffe000 stairs
 55 stuff 99ff00 runway
 56 thing 0000ff case, display case, showcase, vitrine
 57 thing ff4700 pool table, billiard table, snooker table
 58 thing 00ebff pillow
 59 thing 00adff screen door, screen
 60 stuff 1f00ff stairway, staircase
 61 stuff 0bc8c8 river
 62 stuff ff5200 bridge, span
 63 thing 00fff5 bookcase
 64 stuff 003dff blind, screen
 65 thing 00ff70 coffee table
 66 thing 00ff85 toilet, can, commode, crapper, pot, potty, stool, throne
 67 thing ff0000 flower
 68 thing ffa300 book
 69 stuff ff6600 hill
 70 thing c2ff00 bench
 71 thing 008fff countertop
 72 thing 33ff00 stove
 73 thing 0052ff palm, palm tree
 74 thing 00ff29 kitchen island
 75 thing 00ffad computer
 76 thing 0a00ff swivel chair
 77 thing adff00 boat
 78 stuff 00ff99 bar
 79 thing ff5c00 arcade machine
 80 stuff ff00ff hovel, hut, hutch, shack, shanty
 81 thing ff00f5 bus
 82 thing ff0066 towel
 83 thing ffad00 light
 84 thing ff0014 truck
 85 stuff ffb8b8 tower
 86 thing 001fff chandelier
 87 thing 00ff3d awning, sunshade, sunblind
 88 thing 0047ff street lamp
 89 thing ff00cc booth
 90 thing 00ffc2 tv
 91 thing 00ff52 plane
 92 stuff 000aff dirt track
 93 thing 0070ff clothes
 94 thing 3300ff pole
 95 stuff 00c2ff land, ground, soil
 96 thing 007aff bannister, banister, balustrade, balusters, handrail
 97 stuff 00ffa3 escalator, moving staircase, moving stairway
 98 thing ff9900 ottoman, pouf, pouffe, puff, hassock
 99 thing 00ff0a bottle
100 stuff ff7000 buffet, counter, sideboard
101 stuff 8fff00 poster, posting, placard, notice, bill, card
102 stuff 5200ff stage
103 thing a3ff00 van
104 thing ffeb00 ship
105 thing 08b8aa fountain
106 stuff 8500ff conveyer belt, conveyor belt, conveyer, conveyor, transporter
107 stuff 00ff5c canopy
108 thing b800ff washer, automatic washer, washing machine
109 thing ff001f plaything, toy
110 stuff 00b8ff pool
111 thing 00d6ff stool
112 thing ff0070 barrel, cask
113 thing 5cff00 basket, handbasket
114 stuff 00e0ff falls
115 stuff 70e0ff tent
116 thing 46b8a0 bag
117 thing a300ff minibike, motorbike
118 stuff 9900ff cradle
119 thing 47ff00 oven
120 thing ff00a3 ball
121 thing ffcc00 food, solid food
122 thing ff008f step, stair
123 stuff 00ffeb tank, storage tank
124 thing 85ff00 trade name
125 thing ff00eb microwave
126 thing f500ff pot
127 thing ff007a animal
128 thing fff500 bicycle
129 stuff 0abed4 lake
130 thing d6ff00 dishwasher
131 thing 00ccff screen
132 stuff 1400ff blanket, cover
133 thing ffff00 sculpture
134 thing 0099ff hood, exhaust hood
135 thing 0029ff sconce
136 thing 00ffcc vase
137 thing 2900ff traffic light
138 thing 29ff00 tray
139 thing ad00ff trash can
140 thing 00f5ff fan
141 stuff 4700ff pier
142 stuff 7a00ff crt screen
143 thing 00ffb8 plate
144 thing 005cff monitor
145 thing b8ff00 bulletin board
146 stuff 0085ff shower
147 thing ffd600 radiator
148 thing 19c2c2 glass, drinking glass
149 thing 66ff00 clock
150 thing 5c00ff flag
"""

FLAVOURS = ("mmdet", "mask2former", "scenic")
"""Numberings of the panoptic JSON: things first from 0; value - 1; value."""


def _parse(text: str) -> tuple[Ade20kClass, ...]:
    classes, counts = [], {"thing": 0, "stuff": 100}
    for line in text.strip().splitlines():
        value, kind, color, name = line.split(maxsplit=3)
        red, green, blue = bytes.fromhex(color)
        rgb = (red, green, blue)
        classes.append(Ade20kClass(int(value), kind == "thing", rgb, name, counts[kind]))
        counts[kind] += 1
    return tuple(classes)


ADE20K_CLASSES = _parse(_CLASSES)
"""All classes in the order of their values."""


def category_id(entry: Ade20kClass, flavour: str) -> int:
    """Return the ``category_id`` of a class.

    Args:
        entry: The class.
        flavour: Of :data:`FLAVOURS`.

    Returns:
        int: The id.

    Raises:
        ValueError: If the flavour is unknown.
    """
    ids = {"mmdet": entry.mmdet_id, "mask2former": entry.value - 1, "scenic": entry.value}
    if flavour not in ids:
        raise ValueError(f"unknown flavour {flavour!r}; known: {', '.join(FLAVOURS)}")
    return ids[flavour]


def ade20k_categories(flavour: str = "mmdet") -> list[dict[str, Any]]:
    """Return the categories of the panoptic JSON, by ascending id.

    Args:
        flavour: Of :data:`FLAVOURS`; mmdet says ``airplane`` for ``plane``.

    Returns:
        list[dict]: With ``id``, ``name``, ``supercategory``, ``isthing``, ``color``.
    """
    categories = []
    for entry in ADE20K_CLASSES:
        name = "airplane" if flavour == "mmdet" and entry.name == "plane" else entry.name
        categories.append(
            {
                "id": category_id(entry, flavour),
                "name": name,
                "supercategory": name,
                "isthing": int(entry.isthing),
                "color": list(entry.color),
            }
        )
    return sorted(categories, key=lambda category: category["id"])


def ade20k_table(flavour: str = "mmdet") -> LabelTable:
    """Return the label table of a flavour: contiguous labels by ascending id."""
    return LabelTable.from_categories(ade20k_categories(flavour))
