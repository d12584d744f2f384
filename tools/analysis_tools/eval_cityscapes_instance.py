#!/usr/bin/env python
"""Evaluate instance predictions by Cityscapes' rules: AP and AP50 of masks."""

from mmpanoptic.commands.analysis_tools.eval_cityscapes_instance import main

if __name__ == "__main__":
    raise SystemExit(main())
