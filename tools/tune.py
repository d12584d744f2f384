#!/usr/bin/env python
"""Tune settings of a config: learning rate, loss weights, thresholds."""

from mmpanoptic.commands.tune import main

if __name__ == "__main__":
    raise SystemExit(main())
