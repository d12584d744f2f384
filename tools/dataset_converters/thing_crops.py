#!/usr/bin/env python
"""Cut the things of a panoptic set into one folder of images per class, to pretrain backbones."""

from mmpanoptic.commands.dataset_converters.thing_crops import main

if __name__ == "__main__":
    raise SystemExit(main())
