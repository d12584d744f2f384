#!/usr/bin/env python
"""Test a checkpoint: print the tables of the config's metrics."""

from mmpanoptic.commands.test import main

if __name__ == "__main__":
    raise SystemExit(main())
