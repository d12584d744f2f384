#!/usr/bin/env python
"""Draw predictions next to the ground truth, from files in COCO-panoptic format."""

from mmpanoptic.commands.analysis_tools.browse_predictions import main

if __name__ == "__main__":
    raise SystemExit(main())
