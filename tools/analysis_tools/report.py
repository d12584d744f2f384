#!/usr/bin/env python
"""Report the errors of panoptic predictions: a page to look at and all figures as JSON."""

from mmpanoptic.commands.analysis_tools.report import main

if __name__ == "__main__":
    raise SystemExit(main())
