#!/usr/bin/env python
"""Try a model in the browser, or ask it by JSON: a small web server."""

from mmpanoptic.commands.serve import main

if __name__ == "__main__":
    raise SystemExit(main())
