#!/usr/bin/env python
"""List, explain, fetch and verify published weights: what mmpanoptic://ID stands for."""

from mmpanoptic.commands.weights import main

if __name__ == "__main__":
    raise SystemExit(main())
