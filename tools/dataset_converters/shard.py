#!/usr/bin/env python
"""Pack a panoptic set into tar shards, to train from one file per thousand images."""

from mmpanoptic.commands.dataset_converters.shard import main

if __name__ == "__main__":
    raise SystemExit(main())
