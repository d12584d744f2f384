#!/usr/bin/env python
"""Draw losses, learning rates and metrics of training runs, one panel for each name."""

from mmpanoptic.commands.analysis_tools.plot_curves import main

if __name__ == "__main__":
    raise SystemExit(main())
