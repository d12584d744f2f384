#!/usr/bin/env python
"""Convert a released Auto-Panoptic or DetNAS model to ours."""

from mmpanoptic.commands.model_converters.auto_panoptic import main

if __name__ == "__main__":
    raise SystemExit(main())
