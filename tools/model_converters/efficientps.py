#!/usr/bin/env python
"""Convert a checkpoint of the EfficientPS authors (Mask R-CNN head) to ours."""

from mmpanoptic.commands.model_converters.efficientps import main

if __name__ == "__main__":
    raise SystemExit(main())
