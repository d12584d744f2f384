#!/usr/bin/env python
"""Convert a released SOLOv2 model (WXinlong/SOLO or mmdetection) to ours, or back."""

from mmpanoptic.commands.model_converters.solov2 import main

if __name__ == "__main__":
    raise SystemExit(main())
