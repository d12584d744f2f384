"""Where the two real photographs lie: MMPANOPTIC_REAL_MINI, or beside the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data" / "real_mini"
REAL_MINI = Path(os.environ.get("MMPANOPTIC_REAL_MINI") or _BESIDE)
needs_real_mini = pytest.mark.skipif(
    not REAL_MINI.exists(), reason="set MMPANOPTIC_REAL_MINI to the folder of the real images"
)
