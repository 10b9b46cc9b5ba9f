"""Filter each trial of a continuous recording by itself, so that none hears its neighbours.

A filter weighs samples on both sides. In a continuous recording the ends of a trial therefore hold
some of what came before and after it, which may be a trial of another class
(``docs/signal-path.md`` has how much). Here a trial, with its own baseline where the two touch, is
cut out at the source's rate, continued by its mirror image over half a kernel, filtered, and put
onto the sampling grid of its segment. The price is at the ends of the trial, as in corpora that are
released in trials cut apart.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from omfa.pipeline.errors import DataError
from omfa.pipeline.preprocess import Float32, Preprocessing, kernel, preprocess, rate_ratio
from omfa.pipeline.recording import Segment

Unit = tuple[int, int, int, int]
"""First sample and end at the source's rate, first sample and end in the store."""


def units(source: pd.DataFrame, stored: pd.DataFrame, segment: int, *, where: str) -> list[Unit]:
    """Return the stretches of a segment that are filtered by themselves, in order.

    Parameters
    ----------
    source, stored : pandas.DataFrame
        The trial table in samples of the source, from their segment's start, and in samples of the
        store.
    segment : int
        Index of the segment.
    where : str
        The recording, for the error.

    Returns
    -------
    list of (int, int, int, int)

    Raises
    ------
    DataError
        If two trials overlap.
    """
    found: set[Unit] = set()
    for (_, old), (_, new) in zip(source.iterrows(), stored.iterrows(), strict=True):
        trial = _spans(old, new, "") if old["segment"] == segment else None
        baseline = _spans(old, new, "baseline_") if old["baseline_segment"] == segment else None
        if baseline and baseline[0] == baseline[1]:
            baseline = None
        if trial and baseline and baseline[1] == trial[0]:
            found.add((baseline[0], trial[1], baseline[2], trial[3]))
        else:
            found.update(span for span in (trial, baseline) if span)
    # A baseline that several trials share is with the one that it touches.
    alone = sorted(
        one
        for one in found
        if not any(o != one and o[0] <= one[0] and one[1] <= o[1] for o in found)
    )
    for before, after in pairwise(alone):
        if after[0] < before[1]:
            raise DataError(
                f"Filtering the trials of {where} by themselves",
                f"the one from sample {after[0]} on begins before sample {before[1]}, where the "
                "one before it ends",
                "Use filter_within='segments'",
            )
    return alone


def _spans(old: pd.Series, new: pd.Series, part: str) -> Unit:
    first, start = int(old[part + "onset"]), int(new[part + "onset"])
    return first, first + int(old[part + "length"]), start, start + int(new[part + "length"])


def preprocess_units(
    segment: Segment,
    sfreq: float,
    settings: Preprocessing,
    alone: list[Unit],
    *,
    origin: int,
    out: Float32,
    **known: Any,
) -> None:
    """Replace stretches of a preprocessed segment by what they are when filtered by themselves.

    A stored sample that two of them share is of the first, in whose time it lies.

    Parameters
    ----------
    segment : ndarray, shape (n_chans, n_times)
        Microvolts at ``sfreq``.
    sfreq : float
        Hz.
    settings : Preprocessing
    alone : list of (int, int, int, int)
        From ``units``.
    origin : int
        The stored sample at which the segment begins.
    out : ndarray of float32, shape (n_chans, n_out)
        The segment as it is stored, changed in place.
    **known
        ``channels``, ``positions`` and ``bad``, as ``preprocess`` takes them.
    """
    up, down = rate_ratio(sfreq, settings.sfreq).as_integer_ratio()
    half = len(kernel(settings, sfreq)) // 2
    free = 0
    for first, stop, start, end in alone:
        # As many samples before it as bring the new grid to where the segment's own has it.
        before = half + (first - half) % down
        piece = np.pad(segment[:, first:stop], ((0, 0), (before, half + down)), mode="symmetric")
        at = start - origin - (first - before) // down * up
        filtered = preprocess(piece, sfreq, settings, **known)[:, at : at + end - start]
        begin = max(start - origin, free)
        free = end - origin
        out[:, begin:free] = filtered[:, begin - (start - origin) :]
