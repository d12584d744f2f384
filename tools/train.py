#!/usr/bin/env python
"""Train a model."""

from mmpanoptic.commands.train import main

if __name__ == "__main__":
    raise SystemExit(main())
