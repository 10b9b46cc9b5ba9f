"""What the gallery shows of a script: the figures of pyplot, and those that omfa's objects return.

``recording.plot()`` gives a ``Figure`` that pyplot does not know, so that nothing pops up in a
user's own program.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

_shown: WeakSet[Figure] = WeakSet()


def scrape(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save the figures that a block of a script left in variables; return what shows them."""
    saved = []
    for value in list(block_vars["example_globals"].values()):
        if isinstance(value, Figure) and value.canvas.manager is None and value not in _shown:
            _shown.add(value)
            path = next(block_vars["image_path_iterator"])
            value.savefig(path, dpi=100)
            saved.append(path)
    return figure_rst(saved, gallery_conf["src_dir"])
