#!/usr/bin/env python
"""Time training steps and inference on made-up images: images per second by switch."""

from mmpanoptic.commands.analysis_tools.benchmark_train import main

if __name__ == "__main__":
    raise SystemExit(main())
