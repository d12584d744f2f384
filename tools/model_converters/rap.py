#!/usr/bin/env python
"""Convert released Panoptic FPN, RAP and OCFusion models, or the weights they start from."""

from mmpanoptic.commands.model_converters.rap import main

if __name__ == "__main__":
    raise SystemExit(main())
