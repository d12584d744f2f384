#!/usr/bin/env python
"""Make a COCO instance JSON (run-length masks) from a COCO-panoptic JSON and its PNGs."""

from mmpanoptic.commands.dataset_converters.coco_panoptic2instances import main

if __name__ == "__main__":
    raise SystemExit(main())
