#!/usr/bin/env python
"""Export the network of a model to ONNX; post-processing stays in Python."""

from mmpanoptic.commands.export_onnx import main

if __name__ == "__main__":
    raise SystemExit(main())
