#!/usr/bin/env python
"""Make panoptic, instance and semantic annotations of ADE20K (ADEChallengeData2016)."""

from mmpanoptic.commands.dataset_converters.ade20k import main

if __name__ == "__main__":
    raise SystemExit(main())
