#!/usr/bin/env python
"""Segment images, folders, videos or what a camera sees: panoptic PNGs, COCO JSON, overlays."""

from mmpanoptic.commands.infer import main

if __name__ == "__main__":
    raise SystemExit(main())
