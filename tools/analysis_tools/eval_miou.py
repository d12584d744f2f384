#!/usr/bin/env python
"""Compute the mean IoU of label maps."""

from mmpanoptic.commands.analysis_tools.eval_miou import main

if __name__ == "__main__":
    raise SystemExit(main())
