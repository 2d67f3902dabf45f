"""Sphinx's configuration of the site. The pages come from docs/site/stage.py, this file from the command line."""
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
numbers = re.findall(r"#define LORAGA_VERSION_\w+ (\d+)", (ROOT / "include/loraga/version.hpp").read_text())

project = "loraga"
version = release = ".".join(numbers)
copyright = "the authors of loraga, Apache-2.0"
extensions = ["myst_parser", "sphinx_copybutton"]
myst_heading_anchors = 4  # as a repository's pages have them
myst_enable_extensions = ["deflist"]
suppress_warnings = ["misc.highlighting_failure", "myst.header"]

html_theme = "furo"
html_title = f"loraga {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style, pygments_dark_style = "friendly", "github-dark"
html_theme_options = {"navigation_with_keys": True}
highlight_language = "none"  # of blocks that do not say theirs
smartquotes = False  # two hyphens begin an option, not a dash
