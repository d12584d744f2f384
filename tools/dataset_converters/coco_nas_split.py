#!/usr/bin/env python
"""Split COCO's training set for architecture search (Auto-Panoptic's nas folder)."""

from mmpanoptic.commands.dataset_converters.coco_nas_split import main

if __name__ == "__main__":
    raise SystemExit(main())
