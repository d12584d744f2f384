#!/usr/bin/env python
"""Make a COCO-panoptic set from two-channel PNGs: R = category id, G = instance number."""

from mmpanoptic.commands.dataset_converters.two_channel2panoptic import main

if __name__ == "__main__":
    raise SystemExit(main())
