#!/usr/bin/env python
"""Compute COCO's box and mask AP of a result file."""

from mmpanoptic.commands.analysis_tools.eval_coco_ap import main

if __name__ == "__main__":
    raise SystemExit(main())
