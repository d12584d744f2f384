#!/usr/bin/env python
"""Print a whole config and where each value comes from; or what two configs differ in."""

from mmpanoptic.commands.analysis_tools.print_config import main

if __name__ == "__main__":
    raise SystemExit(main())
