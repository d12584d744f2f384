#!/usr/bin/env python
"""Convert a released COPS model (naming of its detectron2 fork) to ours, or back."""

from mmpanoptic.commands.model_converters.cops import main

if __name__ == "__main__":
    raise SystemExit(main())
