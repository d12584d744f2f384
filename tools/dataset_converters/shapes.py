#!/usr/bin/env python
"""Generate the shapes dataset: textured regions and layered things, in COCO-panoptic format."""

from mmpanoptic.commands.dataset_converters.shapes import main

if __name__ == "__main__":
    raise SystemExit(main())
