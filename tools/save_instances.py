#!/usr/bin/env python
"""Save SOLOv2's instances (masks, classes, scores, mask logits), one file per image."""

from mmpanoptic.commands.save_instances import main

if __name__ == "__main__":
    raise SystemExit(main())
