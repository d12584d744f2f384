#!/usr/bin/env python
"""Time inference of one image after another, split into its stages."""

from mmpanoptic.commands.analysis_tools.benchmark import main

if __name__ == "__main__":
    raise SystemExit(main())
