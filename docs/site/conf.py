"""Sphinx's settings. ``build.py`` makes the pages and calls Sphinx."""

from docstrings import as_rst

project = "filtersub"
author = copyright = "The filtersub developers"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline"]
# Bullets and indents inside a docstring may be less regular than reStructuredText asks; links are still checked.
# A language without a lexer, such as GitHub's mermaid diagrams, is shown as its text.
suppress_warnings = ["docutils", "misc.highlighting_failure"]
autodoc_typehints = "signature"
python_maximum_signature_line_length = 100
html_theme = "furo"
html_title = "filtersub"
html_copy_source = html_show_sourcelink = False
smartquotes = False
pygments_style = "default"
highlight_language = "none"


def setup(app):
    app.connect("autodoc-process-docstring", plain_docstring)


def plain_docstring(app, what, name, obj, options, lines):
    lines[:] = [*as_rst("\n".join(lines)).splitlines(), ""]
