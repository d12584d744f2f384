"""Sphinx configuration; build with ``make docs`` (a warning is an error)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from mmpanoptic.version import __version__

project = "mmpanoptic"
copyright = "mmpanoptic contributors"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = True
napoleon_use_ivar = True
nitpicky = False
