"""How windows are cut from stores and labelled, as a command line asks for it.

No torch and no Zarr here, so that a command line can show these settings at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Channels = Literal["union", "intersection", "native"]

Cache = Literal["auto", "memory", "memmap", "stream"]


@dataclass(frozen=True)
class WindowSettings:
    """Windows of stores with a label each; see ``open_dataset``.

    Attributes
    ----------
    target : str or None
        A label's column; a rule on a rating: 'valence>5', 'valence>=5', 'valence<4.5|>5.5'; classes
        of some values: 'event:left,right', 'event:left|right=fist,rest'; a rating in levels:
        'valence<=3.5<=6.5=low,middle,high'; one scale for several corpora: 'common:valence',
        'common:emotion'; or DATASET=TARGET,... By default the usual one of a dataset.
    window_seconds : float
        Length of a window.
    stride_seconds : float or None
        From one window's start to the next. By default windows do not overlap.
    channels : {"union", "intersection", "native"}
        Rows of a window: every channel of any recording, those that all recordings have, or each
        recording's own.
    mask_bad : bool
        Count channels that quality control marked as absent. Both stages do by default, which is
        our choice: docs/log.md has the measurement.
    allow_mixed : bool
        Join stores that were ingested with different bands, references or notches; a warning then
        names the differences.
    cache : {"auto", "memory", "memmap", "stream"}
        Where decoded signals lie: in memory, in a mapped file, or nowhere, so that each epoch
        decodes them again. ``auto`` takes the first of these that fits.
    """

    target: str | None = None
    window_seconds: float = 4.0
    stride_seconds: float | None = None
    channels: Channels = "union"
    mask_bad: bool = True
    allow_mixed: bool = False
    cache: Cache = "auto"
