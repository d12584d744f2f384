#!/usr/bin/env python
"""Draw who lies in front of whom: the relation graph of images, annotated or predicted."""

from mmpanoptic.commands.analysis_tools.browse_relations import main

if __name__ == "__main__":
    raise SystemExit(main())
