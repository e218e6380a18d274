"""The settings of the documentation's site: ``nox -s docs`` builds it, strictly."""

from __future__ import annotations

import builtins
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
# The site shows this tree, whatever is installed; and its extension stands beside this file.
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import tofu_aio  # noqa: E402 - it has to be found first

project = "tofu_aio"
release = tofu_aio.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_click",
    "sphinx_copybutton",
    "site_extension",
]

# A reference that leads nowhere is a warning; with --fail-on-warning it ends the build.
nitpicky = True
# The names of Python and of anyio have no page here, nor have type variables.
nitpick_ignore_regex = [
    ("py:.*", "|".join(map(re.escape, dir(builtins)))),
    ("py:.*", rf"({'|'.join(sorted(sys.stdlib_module_names))}|anyio)\..*"),
    ("py:exc", "BusyResourceError|EndOfStream|WouldBlock"),  # of anyio
    ("py:class", r"(.*\.)?[FMPRT]|Args|tuple\[float"),  # type variables, and half of a pair
    ("py:class", r"tofu_aio\.reactor\.selector\.ReactorSelector"),  # for those who write a loop
    ("py:class", r"(prometheus_client|opentelemetry)\..*"),
    ("py:class", r"tofu_aio\.service\.metrics\.CountingEngine"),  # any engine
]

myst_enable_extensions = ["alert", "deflist"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
maximum_signature_line_length = 60
python_display_short_literal_types = True
toc_object_entries_show_parents = "hide"
default_role = "literal"  # what stands in single backticks is code, as in Markdown
smartquotes = False  # they would turn --help into a dash

html_theme = "furo"
html_title = f"tofu_aio {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
