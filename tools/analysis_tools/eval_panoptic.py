#!/usr/bin/env python
"""Compute panoptic quality of result files in COCO-panoptic format."""

from mmpanoptic.commands.analysis_tools.eval_panoptic import main

if __name__ == "__main__":
    raise SystemExit(main())
