"""A stored recording as other libraries have it: MNE's Raw, xarray's array, a picture, a cell.

Functions of arrays and tables, which ``store`` calls: nothing here knows where a recording lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline.channels import UCS
from omfa.pipeline.errors import DataError

if TYPE_CHECKING:
    import mne
    import xarray
    from matplotlib.figure import Figure

_INCHES = 0.22
"""Height of a channel in a picture of traces: names of 8 points do not touch."""


def raw(
    signal: npt.NDArray[np.float32],
    channels: Sequence[str],
    sfreq: float,
    events: pd.DataFrame,
    *,
    bad: Sequence[str],
    description: str,
) -> mne.io.RawArray:
    """Return a signal as MNE's Raw.

    Parameters
    ----------
    signal : ndarray of float32, shape (n_chans, n_times)
        Microvolts.
    channels : sequence of str
        UCS names; their template positions become the montage.
    sfreq : float
        Hz.
    events : pandas.DataFrame
        Rows of ``onset`` and ``duration`` in seconds and ``stimulus``, which become annotations.
    bad : sequence of str
        The channels of ``info["bads"]``.
    description : str
        What the signal is, for ``info["description"]``.

    Returns
    -------
    mne.io.RawArray
        In volts, float64, as MNE computes.
    """
    import mne  # takes half a second

    info = mne.create_info(list(channels), sfreq, "eeg")
    made = mne.io.RawArray(signal.astype(np.float64) * 1e-6, info, verbose="error")
    places = dict(zip(channels, UCS.positions(channels), strict=True))
    made.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))
    made.info["bads"] = list(bad)
    made.info["description"] = description
    words = [str(word) or "trial" for word in events["stimulus"]]
    return made.set_annotations(
        mne.Annotations(events["onset"].to_numpy(), events["duration"].to_numpy(), words)
    )


def array(
    signal: npt.NDArray[np.float32], channels: Sequence[str], sfreq: float, *, name: str
) -> xarray.DataArray:
    """Return a signal as xarray's array, dimensions ``channel`` and ``time`` (seconds).

    Raises
    ------
    DataError
        If xarray is not installed.
    """
    try:
        import xarray
    except ImportError as error:
        raise DataError(
            f"Returning {name} as an xarray", "xarray is not installed", "Run: pip install xarray"
        ) from error
    seconds = np.arange(signal.shape[1]) / sfreq
    return xarray.DataArray(
        signal,
        dims=("channel", "time"),
        coords={"channel": list(channels), "time": seconds},
        name=name,
        attrs={"units": "uV", "sfreq": sfreq},
    )


def traces(
    signal: npt.NDArray[np.float32],
    channels: Sequence[str],
    sfreq: float,
    *,
    start: float,
    bad: Sequence[str],
    title: str,
) -> Figure:
    """Draw a stretch of signal, a line per channel, bad channels in red.

    Parameters
    ----------
    signal : ndarray of float32, shape (n_chans, n_times)
        Microvolts.
    channels : sequence of str
    sfreq : float
        Hz.
    start : float
        Seconds of the first sample, for the axis.
    bad : sequence of str
    title : str
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + _INCHES * len(channels)), layout="constrained")
    axes = figure.subplots()
    # Twice the typical channel's spread: lines that are as large as most do not cross.
    finite = np.where(np.isfinite(signal), signal, np.nan)
    spread = np.nanmedian(np.nanstd(finite, axis=1)) if signal.size else 1.0
    step = 4 * float(spread if np.isfinite(spread) and spread > 0 else 1.0)
    seconds = start + np.arange(signal.shape[1]) / sfreq
    for row, (name, values) in enumerate(zip(channels, finite, strict=True)):
        colour = "#d55e00" if name in bad else "#333333"
        axes.plot(seconds, values - np.nanmean(values) - row * step, color=colour, linewidth=0.6)
    axes.set_yticks([-row * step for row in range(len(channels))], channels, fontsize=8)
    axes.set(xlabel="time (s)", title=title)
    axes.margins(x=0, y=0.02)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.annotate(
        f"{step:.0f} µV between lines" + (", bad channels in orange" if bad else ""),
        (1, 0),
        xycoords="axes fraction",
        ha="right",
        va="bottom",
        fontsize=8,
    )
    return figure


def cell(title: str, rows: Mapping[str, object], table: pd.DataFrame | None = None) -> str:
    """Return a notebook's cell: a title, a table of facts, and a table that can be opened.

    Parameters
    ----------
    title : str
    rows : mapping of str to object
        Facts; those that are empty are left out.
    table : pandas.DataFrame, optional
        Shown when it is clicked on, at most twenty rows.
    """
    facts = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'>{escape(str(value))}</td></tr>"
        for name, value in rows.items()
        if value not in (None, "", 0)
    )
    more = ""
    if table is not None and len(table):
        shown = table.head(20).to_html(border=0, max_cols=12)
        rest = f"<p>and {len(table) - 20} more</p>" if len(table) > 20 else ""
        more = f"<details><summary>{len(table)} rows</summary>{shown}{rest}</details>"
    return f"<div><strong>{escape(title)}</strong><table>{facts}</table>{more}</div>"


def listed(names: Iterable[str], most: int = 12) -> str:
    """Return names with blanks between, and how many more there are."""
    every = list(names)
    rest = f" and {len(every) - most} more" if len(every) > most else ""
    return f"{len(every)}: {' '.join(every[:most])}{rest}" if every else ""
