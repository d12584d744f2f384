#!/usr/bin/env python
"""Time other packages and mmpanoptic in turn, on the same files, and compare their results."""

from mmpanoptic.commands.analysis_tools.benchmark_peers import main

if __name__ == "__main__":
    raise SystemExit(main())
