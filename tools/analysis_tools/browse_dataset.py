#!/usr/bin/env python
"""Draw what a model is trained on: images and ground truth after augmentation."""

from mmpanoptic.commands.analysis_tools.browse_dataset import main

if __name__ == "__main__":
    raise SystemExit(main())
