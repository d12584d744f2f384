#!/usr/bin/env python
"""Make a panoptic JSON whose category ids are positions in its category list."""

from mmpanoptic.commands.dataset_converters.panoptic2trainid import main

if __name__ == "__main__":
    raise SystemExit(main())
