"""How Sphinx builds the site: ``make docs`` writes it to ``build/docs``."""

from __future__ import annotations

import os
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two tutorials run side by side
os.environ["MPLBACKEND"] = "Agg"

import omfa.models  # noqa: E402  makes braindecode importable where its torchaudio is not

omfa.models.OMFA  # noqa: B018

project = "omfa"
author = "The omfa developers"
copyright = author
release = metadata.version("omfa")
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx.ext.viewcode",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "commands",
]
# Headlines of scripts for the gallery, and what Sphinx has made of them, are no pages.
exclude_patterns = ["gallery/*.ipynb", "gallery/*.py", "gallery/*.json", "_*", "tutorials"]
templates_path = ["_templates"]
nitpicky = False  # types of NumPy, MNE and torch have their pages elsewhere

# Markdown
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["config.cache"]  # the sort key of the gallery is a class

# The reference, from docstrings
autosummary_generate = True
autodoc_typehints = "none"  # NumPy's form names the types in words
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# Tutorials: every script is run, and one that fails ends the build.
sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "gallery",
    "filename_pattern": "/plot_",
    "ignore_pattern": r"(lab|__init__)\.py",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("matplotlib", "figures.scrape"),
    "capture_repr": ("_repr_html_",),
    "download_all_examples": False,
    "show_signature": False,
    "copyfile_regex": r"lab\.py",
    "parallel": 2,
    "matplotlib_animations": False,
    "remove_config_comments": True,
}

# The look
html_theme = "pydata_sphinx_theme"
html_title = "omfa"
html_static_path = ["_static"]
html_css_files = ["omfa.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "omfa"},
    "header_links_before_dropdown": 7,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    # Not in the gallery, whose code is a hundred characters wide.
    "secondary_sidebar_items": {"[!g]*": ["page-toc"]},
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}

# Pages are written to be read in the repository, too: their links lead to its files.
PAGE_OF = {"../CONTRIBUTING.md": "contributing.md", "../CHANGELOG.md": "changelog.md"}
TUTORIAL = re.compile(r"\]\(tutorials/(plot_\w+)\.py\)")
OF_TESTS = re.compile(r"\[([^\]]*)\]\((?:\.\./)?tests/[^)]*\)")
INCLUDED = re.compile(r":::\{include\} \.\./(\w+\.md)\n:::\n")


def links_to_pages(app: Any, page: str, source: list[str]) -> None:
    """Lead links to files of the repository to the pages that are made of them."""
    text = source[0]
    if found := INCLUDED.fullmatch(text):
        file = HERE.parent / found[1]
        app.env.note_dependency(str(file))
        text = file.read_text(encoding="utf-8").replace("](docs/", "](")
        text = re.sub(r"\]\((?=[A-Z]+\.md)", "](../", text)
    text = OF_TESTS.sub(r"\1", text)
    text = TUTORIAL.sub(r"](gallery/\1.rst)", text)
    for file_name, name in PAGE_OF.items():
        text = text.replace(f"]({file_name}", f"]({name}")
    source[0] = text


def setup(app: Any) -> None:
    """Connect what Sphinx calls while it builds."""
    app.connect("source-read", links_to_pages)
