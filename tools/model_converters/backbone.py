#!/usr/bin/env python
"""Convert ImageNet weights to the backbone of a config."""

from mmpanoptic.commands.model_converters.backbone import main

if __name__ == "__main__":
    raise SystemExit(main())
