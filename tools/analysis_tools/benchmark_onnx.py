#!/usr/bin/env python
"""Compare an exported model with PyTorch: maps, scores and processor time of each image."""

from mmpanoptic.commands.analysis_tools.benchmark_onnx import main

if __name__ == "__main__":
    raise SystemExit(main())
