#!/usr/bin/env python
"""Convert a released Panoptic-DeepLab or DeepLabV3+ model (detectron2 naming) to ours, or back."""

from mmpanoptic.commands.model_converters.panoptic_deeplab import main

if __name__ == "__main__":
    raise SystemExit(main())
