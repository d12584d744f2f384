#!/usr/bin/env python
"""Make the COCO-panoptic files of KITTI panoptic (annotation of the EfficientPS authors)."""

from mmpanoptic.commands.dataset_converters.kitti import main

if __name__ == "__main__":
    raise SystemExit(main())
