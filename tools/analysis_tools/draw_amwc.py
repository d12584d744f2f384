#!/usr/bin/env python
"""Draw a multiway cut: class costs, edge costs, cut edges and the resulting segments."""

from mmpanoptic.commands.analysis_tools.draw_amwc import main

if __name__ == "__main__":
    raise SystemExit(main())
