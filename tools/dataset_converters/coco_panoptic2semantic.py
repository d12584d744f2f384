#!/usr/bin/env python
"""Make semantic label maps (8-bit PNG) from a COCO-panoptic JSON and its PNGs."""

from mmpanoptic.commands.dataset_converters.coco_panoptic2semantic import main

if __name__ == "__main__":
    raise SystemExit(main())
