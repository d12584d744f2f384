"""Label tables of the public datasets whose classes never change."""

from __future__ import annotations

from mmpanoptic.structures import Label, LabelTable
from mmpanoptic.utils.cityscapes_labels import CITYSCAPES_LABELS

# One class per line in contiguous order: category_id, kind, RGB colour, name.
_COCO_PANOPTIC = """
  1 thing dc143c person
  2 thing 770b20 bicycle
  3 thing 00008e car
  4 thing 0000e6 motorcycle
  5 thing 6a00e4 airplane
  6 thing 003c64 bus
  7 thing 005064 train
  8 thing 000046 truck
  9 thing 0000c0 boat
 10 thing faaa1e traffic light
 11 thing 64aa1e fire hydrant
 13 thing dcdc00 stop sign
 14 thing af74af parking meter
 15 thing fa001e bench
 16 thing a52a2a bird
 17 thing ff4dff cat
 18 thing 00e2fc dog
 19 thing b6b6ff horse
 20 thing 005200 sheep
 21 thing 78a69d cow
 22 thing 6e4c00 elephant
 23 thing ae39ff bear
 24 thing c76400 zebra
 25 thing 480076 giraffe
 27 thing ffb3f0 backpack
 28 thing 007d5c umbrella
 31 thing d10097 handbag
 32 thing bcd0b6 tie
 33 thing 00dcb0 suitcase
 34 thing ff63a4 frisbee
 35 thing 5c0049 skis
 36 thing 8581ff snowboard
 37 thing 4eb4ff sports ball
 38 thing 00e400 kite
 39 thing aefff3 baseball bat
 40 thing 2d59ff baseball glove
 41 thing 868667 skateboard
 42 thing 9194ae surfboard
 43 thing ffd0ba tennis racket
 44 thing c5e2ff bottle
 46 thing ab8601 wine glass
 47 thing 6d3f36 cup
 48 thing cf8aff fork
 49 thing 97005f knife
 50 thing 09503d spoon
 51 thing 546933 bowl
 52 thing 4a4169 banana
 53 thing a6c466 apple
 54 thing d0c3d2 sandwich
 55 thing ff6d41 orange
 56 thing 008f95 broccoli
 57 thing b300c2 carrot
 58 thing d1636a hot dog
 59 thing 057900 pizza
 60 thing e3ffcd donut
 61 thing 93bad0 cake
 62 thing 994501 chair
 63 thing 035fa1 couch
 64 thing a3ff00 potted plant
 65 thing 7700aa bed
 67 thing 00b6c7 dining table
 70 thing 00a578 toilet
 72 thing b78258 tv
 73 thing 5f2000 laptop
 74 thing 827287 mouse
 75 thing 6e8185 remote
 76 thing a64a76 keyboard
 77 thing db8eb9 cell phone
 78 thing 4fd272 microwave
 79 thing b25a3e oven
 80 thing 41460f toaster
 81 thing 7fa773 sink
 82 thing 3b696a refrigerator
 84 thing 8e6c2d book
 85 thing c4ac00 clock
 86 thing 5f3650 vase
 87 thing 804cff scissors
 88 thing c93901 teddy bear
 89 thing f6007a hair drier
 90 thing bfa2d0 toothbrush
 92 stuff ffff80 banner
 93 stuff 93d3cb blanket
 95 stuff 966464 bridge
100 stuff a8abac cardboard
107 stuff 9270c6 counter
109 stuff d2aa64 curtain
112 stuff 5c8859 door-stuff
118 stuff da58b8 floor-wood
119 stuff f18100 flower
122 stuff d911ff fruit
125 stuff 7c4ab5 gravel
128 stuff 464646 house
130 stuff ffe4ff light
133 stuff 9ad000 mirror-stuff
138 stuff c1005c net
141 stuff 4c5b71 pillow
144 stuff ffb4c3 platform
145 stuff 6a9ab0 playingfield
147 stuff e6968c railroad
148 stuff 3c8fff river
149 stuff 804080 road
151 stuff 5c5237 roof
154 stuff fed47c sand
155 stuff 494dae sea
156 stuff ffa062 shelf
159 stuff ffffff snow
161 stuff 68546d stairs
166 stuff a9a483 tent
168 stuff e1c7ff towel
171 stuff 89364a wall-brick
175 stuff 879edf wall-stone
176 stuff 07f6e7 wall-tile
177 stuff 6bffc8 wall-wood
178 stuff 3a2995 water-other
180 stuff b7798e window-blind
181 stuff ff4961 window-other
184 stuff 6b8e23 tree-merged
185 stuff be9999 fence-merged
186 stuff 928b8d ceiling-merged
187 stuff 4682b4 sky-other-merged
188 stuff 86c79c cabinet-merged
189 stuff d1e28c table-merged
190 stuff 60246c floor-other-merged
191 stuff 606060 pavement-merged
192 stuff 40aa40 mountain-merged
193 stuff 98fb98 grass-merged
194 stuff d0e5e4 dirt-merged
195 stuff cebaab paper-merged
196 stuff 98a140 food-other-merged
197 stuff 747000 building-other-merged
198 stuff 00728f rock-merged
199 stuff 66669c wall-other-merged
200 stuff fa8dff rug-merged
"""


def _parse(text: str) -> LabelTable:
    labels = []
    for index, line in enumerate(text.strip().splitlines()):
        dataset_id, kind, color, name = line.split(maxsplit=3)
        red, green, blue = bytes.fromhex(color)
        labels.append(Label(index, name, int(dataset_id), kind == "thing", (red, green, blue)))
    return LabelTable(labels)


CITYSCAPES = LabelTable(
    [
        Label(label.train_id, label.name, label.id, label.has_instances, label.color)
        for label in CITYSCAPES_LABELS
        if not label.ignored
    ]
)
"""The 19 evaluated classes in the order of the train ids: 11 stuff classes, then 8 things."""

COCO_PANOPTIC = _parse(_COCO_PANOPTIC)
"""The 133 classes of COCO panoptic 2017 in the order of their ids: 80 things, 53 stuff classes."""
