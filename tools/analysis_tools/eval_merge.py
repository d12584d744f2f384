#!/usr/bin/env python
"""Add parts of an evaluation."""

from mmpanoptic.commands.analysis_tools.eval_merge import main

if __name__ == "__main__":
    raise SystemExit(main())
