#!/usr/bin/env python
"""How well the fitness in the supernet predicts the quality after retraining."""

from mmpanoptic.commands.search.rank_quality import main

if __name__ == "__main__":
    raise SystemExit(main())
