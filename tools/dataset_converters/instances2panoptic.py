#!/usr/bin/env python
"""Make a COCO-panoptic set from COCO instance, stuff or detection files (masks)."""

from mmpanoptic.commands.dataset_converters.instances2panoptic import main

if __name__ == "__main__":
    raise SystemExit(main())
