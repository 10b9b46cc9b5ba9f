"""The people that no pre-training and no choice may read: written down once, for all.

A figure on people on whom something was chosen is too good. These are kept apart from every
pre-training (``omfa-zoo pretrain --hold-out benchmark``) and from every choice
(``omfa-zoo benchmark --split development``), and are tested once
(``omfa-zoo benchmark --split held-out``).
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch

from omfa.pipeline.errors import DataError
from omfa.pipeline.words import some

BENCHMARK = "benchmark"
"""The name that stands for all of ``HELD_OUT`` where people are left out."""

HELD_OUT: dict[str, tuple[str, ...]] = {
    "eegmmidb": tuple(f"sub-{number:03d}" for number in range(37, 61)),
    "ssvep": tuple(f"sub-{number:02d}" for number in range(9, 13)),
    "eegmat": tuple(f"sub-{number:02d}" for number in range(19, 36)),
}
"""By dataset, as stores name both."""


def held_out_names(known: Sequence[str] | None = None) -> list[str]:
    """Return the people held out, as ``"dataset/subject"``.

    Parameters
    ----------
    known : sequence of str, optional
        Give those of these alone.
    """
    every = [f"{dataset}/{subject}" for dataset, who in HELD_OUT.items() for subject in who]
    return every if known is None else [name for name in every if name in set(known)]


def left_out(known: Sequence[str], patterns: Sequence[str], *, doing: str) -> set[str]:
    """Return those of the known people that the patterns name.

    Parameters
    ----------
    known : sequence of str
        ``"dataset/subject"``.
    patterns : sequence of str
        ``"dataset/subject"`` with ``*`` and ``?`` as in file names, or ``BENCHMARK``.
    doing : str
        For the error.

    Raises
    ------
    DataError
        If a pattern names nobody; with ``BENCHMARK``, if no dataset has people who are held out.
    """
    found: set[str] = set()
    for pattern in patterns:
        if pattern == BENCHMARK:
            here = held_out_names(known)
            # A store without them was made so; one of another name would only seem to lack them.
            if any(name.partition("/")[0] in HELD_OUT for name in known):
                found.update(here)
                continue
            action = f"Ingest these with --name, as the benchmark does: {', '.join(HELD_OUT)}"
        else:
            here = [name for name in known if fnmatch(name, pattern)]
            action = "Write DATASET/SUBJECT; * stands for anything"
        if not here:
            raise DataError(doing, f"nobody is called {pattern!r}; there are {some(known)}", action)
        found.update(here)
    return found
