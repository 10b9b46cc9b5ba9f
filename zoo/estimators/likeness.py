"""Whether signals are like those that a model learned from: their amplitude and spectrum.

A card holds, for a few figures of a window, the range in which nearly all windows of the training
lay. A recording whose typical window is outside of one is answered too, and a warning says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from omfa.models.front_end import BANDS
from omfa.zoo.protocols.windows import Windows

N_WINDOWS = 512
"""Windows, spread evenly, that the ranges are taken from."""

INSIDE = (1.0, 99.0)
"""Percentiles of the training's windows that end a range; our choice."""


def figures(
    X: npt.NDArray[np.floating], present: npt.NDArray[np.bool_], sfreq: float
) -> dict[str, npt.NDArray[np.float64]]:
    """Measure windows: the median over their channels of each figure.

    Parameters
    ----------
    X : ndarray of float, shape (n_windows, n_chans, n_times)
        Microvolts.
    present : ndarray of bool, shape (n_windows, n_chans)
    sfreq : float
        Hz.

    Returns
    -------
    dict of ndarray of float64, shape (n_windows,)
        ``amplitude``, microvolts RMS, and the share of each of ``BANDS`` in the power from 1 to
        46 Hz; NaN where a window has no channel.
    """
    centred = np.where(present[..., None], X, 0.0).astype(np.float64)
    centred -= centred.mean(axis=-1, keepdims=True)
    hann = np.hanning(X.shape[-1])
    power = np.abs(np.fft.rfft(centred * hann, axis=-1)) ** 2
    at = np.fft.rfftfreq(X.shape[-1], 1 / sfreq)
    parts = {
        name: power[..., (at >= low) & (at < high)].sum(axis=-1)
        for name, (low, high) in BANDS.items()
    }
    whole = np.maximum(sum(parts.values()), np.finfo(float).tiny)
    values = {"amplitude": centred.std(axis=-1)} | {k: v / whole for k, v in parts.items()}
    return {name: _median(value, present) for name, value in values.items()}


def _median(
    values: npt.NDArray[np.float64], present: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    here = present.any(axis=1)
    out = np.full(len(values), np.nan)
    out[here] = np.nanmedian(np.where(present, values, np.nan)[here], axis=1)
    return out


def ranges(windows: Windows) -> dict[str, list[float]]:
    """Return the range of each figure over windows, as a card's ``input["typical"]`` has it."""
    rows = np.unique(np.linspace(0, len(windows) - 1, min(len(windows), N_WINDOWS)).astype(int))
    X, present = windows.take(rows)
    return {
        name: [float(f"{edge:.4g}") for edge in np.nanpercentile(values, INSIDE)]
        for name, values in figures(X, present, windows.sfreq).items()
        if np.isfinite(values).any()
    }


def unlike(
    typical: Mapping[str, Any],
    found: Mapping[str, npt.NDArray[np.float64]],
) -> list[str]:
    """Say in which figures the median window is outside of the training's range.

    Parameters
    ----------
    typical : mapping
        What ``ranges`` returned of the training; empty in cards of earlier versions.
    found : mapping
        What ``figures`` returned of a recording.

    Returns
    -------
    list of str
        A sentence each.
    """
    said = []
    for name, (low, high) in typical.items():
        values = found.get(name, np.zeros(0))
        values = values[np.isfinite(values)]
        if not len(values) or low <= (here := float(np.median(values))) <= high:
            continue
        what = "amplitude in uV RMS" if name == "amplitude" else f"share of {name} in its power"
        said.append(
            f"The {what} is {here:.3g}, and 98 % of the windows that the model learned from have "
            f"{low:.3g} to {high:.3g}."
        )
    return said
