#!/usr/bin/env python
"""Export a model to ONNX: its network alone, or from the image to the panoptic map."""

from mmpanoptic.commands.export_onnx import main

if __name__ == "__main__":
    raise SystemExit(main())
