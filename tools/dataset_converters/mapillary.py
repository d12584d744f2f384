#!/usr/bin/env python
"""Check a copy of Mapillary Vistas and say how to configure it; optionally write label maps."""

from mmpanoptic.commands.dataset_converters.mapillary import main

if __name__ == "__main__":
    raise SystemExit(main())
