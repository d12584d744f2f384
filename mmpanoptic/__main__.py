"""``python -m mmpanoptic`` is ``mmpanoptic``."""

from mmpanoptic.commands import main

if __name__ == "__main__":
    raise SystemExit(main())
