#!/usr/bin/env python
"""Print architectures of a search space readably, with their cost; no model is built."""

from mmpanoptic.commands.search.describe import main

if __name__ == "__main__":
    raise SystemExit(main())
