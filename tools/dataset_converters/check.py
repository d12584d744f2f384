#!/usr/bin/env python
"""Check a dataset in COCO-panoptic format: list every problem and what the dataset holds."""

from mmpanoptic.commands.dataset_converters.check import main

if __name__ == "__main__":
    raise SystemExit(main())
