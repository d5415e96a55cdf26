"""Sphinx's settings: `sphinx-build -W --keep-going -b html docs build/docs` builds the documentation."""

import os
import sys
from pathlib import Path

import elman

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "extensions"))
# A lesson reads tiny-shakespeare: from the tests' data folder where there is one, so that nothing is fetched.
os.environ.setdefault("ELMAN_DATA_DIR", str(DOCS.parents[1] / "shared" / "data"))

project = "elman"
author = "The elman developers"
project_copyright = f"{author}, MIT licence"
version = release = elman.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # formulas without a network
    "modules",
    "repository",
]
exclude_patterns = ["**/.ipynb_checkpoints"]
highlight_language = "none"

# A lesson runs whenever the documentation is built, in a temporary folder. An error in it is a warning with its
# traceback, so that -W fails and says why (nb_execution_raise_on_error would only name the page).
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_show_tb = True
nb_execution_timeout = 600  # seconds a cell, on a busy machine
nb_merge_streams = True

myst_enable_extensions = ["amsmath", "attrs_inline", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = f"elman {release}"
html_static_path = ["static"]
html_css_files = ["elman.css"]
html_copy_source = False
html_show_sphinx = False
