"""How messages, tables and reports write durations, sizes and long lists."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it: ``"0.4 s"``, ``"75 s"``, ``"1.6 min"``, ``"2.0 h"``.

    What takes less than a tenth of a second counts as a tenth, so that nothing takes no time.
    """
    for size_of, unit in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * size_of:  # "75 s" is read more easily than "1.2 min"
            return f"{seconds / size_of:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{max(seconds, 0.1):.1f} s"


def size(n_bytes: float) -> str:
    """Return a size in decimal units, as disks are sold: ``"12.3 MB"``, ``"1.25 GB"``."""
    return f"{n_bytes / 1e9:,.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.1f} MB"


def some(items: Iterable[object], most: int = 3) -> str:
    """Return the first of the items, and how many more there are: ``"a, b, c and 4 more"``.

    Parameters
    ----------
    items : iterable
        Written by ``str``, in their order.
    most : int
        How many are written out.
    """
    names = [str(item) for item in items]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def nearest(name: str, known: Iterable[str], meaning: Mapping[str, str] | None = None) -> str:
    """Return ``" (nearest: a, b)"`` for a name that is not known, and ``""`` if none is near.

    Parameters
    ----------
    name : str
        Upper and lower case count as the same.
    known : iterable of str
        The names to choose among.
    meaning : mapping of str to str, optional
        What to write in place of each known name, such as what an alias stands for.
    """
    folded = {word.casefold(): meaning[word] if meaning else word for word in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=3)
    return f" (nearest: {', '.join(folded[word] for word in near)})" if near else ""
