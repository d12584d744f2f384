#!/usr/bin/env python
"""Make every derived annotation of Cityscapes from its gtFine folder."""

from mmpanoptic.commands.dataset_converters.cityscapes import main

if __name__ == "__main__":
    raise SystemExit(main())
