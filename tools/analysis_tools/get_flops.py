#!/usr/bin/env python
"""Count the operations and parameters of a model, part by part."""

from mmpanoptic.commands.analysis_tools.get_flops import main

if __name__ == "__main__":
    raise SystemExit(main())
