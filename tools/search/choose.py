#!/usr/bin/env python
"""Choose networks from the evaluations of a search: for other limits, or a whole series of them."""

from mmpanoptic.commands.search.choose import main

if __name__ == "__main__":
    raise SystemExit(main())
