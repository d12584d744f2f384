#!/usr/bin/env python
"""Tell how often a relation or occlusion head orders overlapping instances rightly."""

from mmpanoptic.commands.analysis_tools.relation_accuracy import main

if __name__ == "__main__":
    raise SystemExit(main())
