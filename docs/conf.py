"""Sphinx configuration; build with ``make docs`` (a warning is an error)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent / "extensions"))

from mmpanoptic.version import __version__

project = "mmpanoptic"
copyright = "mmpanoptic contributors"
release = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "registered",
    "model_zoo",
]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "extensions"]
html_theme = "furo"
html_title = f"mmpanoptic {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_js_files = ["zoo.js"]
html_copy_source = False
html_show_sourcelink = False
copybutton_exclude = ".linenos, .gp, .go"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_use_ivar = True
nitpicky = False
