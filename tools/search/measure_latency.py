#!/usr/bin/env python
"""Measure the latency of every choice of a supernet on this machine, to constrain a search."""

from mmpanoptic.commands.search.measure_latency import main

if __name__ == "__main__":
    raise SystemExit(main())
