#!/usr/bin/env python
"""Make the COCO-panoptic files of IDD, the Indian Driving Dataset: 26 classes of level 3."""

from mmpanoptic.commands.dataset_converters.idd import main

if __name__ == "__main__":
    raise SystemExit(main())
