#!/usr/bin/env python
"""Evaluate semantic predictions by Cityscapes' rules: IoU and iIoU per class and per category."""

from mmpanoptic.commands.analysis_tools.eval_cityscapes_pixel import main

if __name__ == "__main__":
    raise SystemExit(main())
