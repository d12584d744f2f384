#!/usr/bin/env python
"""Add who lies in front of whom to a COCO instance JSON, for relation and occlusion heads."""

from mmpanoptic.commands.dataset_converters.coco_relations import main

if __name__ == "__main__":
    raise SystemExit(main())
