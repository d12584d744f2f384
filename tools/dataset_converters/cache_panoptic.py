#!/usr/bin/env python
"""Cache the panoptic PNGs of a set as run lengths, in one file beside their folder."""

from mmpanoptic.commands.dataset_converters.cache_panoptic import main

if __name__ == "__main__":
    raise SystemExit(main())
