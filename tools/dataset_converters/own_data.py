#!/usr/bin/env python
"""Make a COCO-panoptic dataset from your own annotations."""

from mmpanoptic.commands.dataset_converters.own_data import main

if __name__ == "__main__":
    raise SystemExit(main())
