#!/usr/bin/env python
"""Fuse saved instances with a semantic model and print the tables of the config's metrics."""

from mmpanoptic.commands.fuse_saved_instances import main

if __name__ == "__main__":
    raise SystemExit(main())
