"""What the quality report reads of a store.

It is bounded however large a store is: the small arrays of at most ``MOST_RECORDINGS`` recordings,
each compared with its checksum first. Signals are not read here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline.encoding import sha256
from omfa.pipeline.errors import DataError
from omfa.pipeline.quality import EEG_BAND, FIGURES, FREQUENCIES
from omfa.pipeline.store import Store, StoredRecording

MOST_RECORDINGS = 200
"""Recordings of a store whose quality figures, spectra and labels are read, spread evenly."""

_ARRAYS = (
    "bad_reason",
    "trial_length",
    "psd_before",
    "psd_after",
    *(f"quality_{name}" for name in FIGURES),
)


@dataclass
class Survey:
    """What the report shows of one store.

    Attributes
    ----------
    store : Store
    title, anchor : str
    table : pandas.DataFrame
        ``store.recordings``, with the number of bad channels in ``n_bad``.
    sampled : list of str
        The recordings that were read: everything below describes these.
    quality : mapping of str to ndarray, shape (n_sampled, n_chans)
        Over ``store.channels``; NaN where a recording lacks the channel.
    before, after : ndarray, shape (n_rows, 64)
        Power spectral density, uV²/Hz; a row per channel of a recording.
    reasons : mapping
        By recording and channel, why it is bad; empty where it is good.
    spectra : mapping of str to (ndarray, ndarray), shapes (n_chans, 64)
        By recording, the power spectral densities before and after.
    labels : mapping of str to mapping of str to ndarray
        By label and recording, an array over its trials.
    lengths : mapping of str to ndarray
        By recording, the lengths of its trials in seconds.
    dtypes, sources : collections.Counter
        How many recordings have a stored type, and source facts (as JSON).
    round_trip : float
        The largest round-trip error, uV RMS.
    simulated : bool
        Whether any recording's signal is, as its store says.
    unchecked : int
        How many recordings have no checksum of their chunks.
    unreadable : mapping of str to str
        By recording, why it could not be read.
    """

    store: Store
    title: str
    anchor: str
    table: pd.DataFrame
    sampled: list[str]
    quality: dict[str, npt.NDArray[np.float64]]
    before: npt.NDArray[np.float64]
    after: npt.NDArray[np.float64]
    reasons: dict[str, dict[str, str]] = field(default_factory=dict)
    spectra: dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = field(
        default_factory=dict
    )
    labels: dict[str, dict[str, npt.NDArray[Any]]] = field(default_factory=dict)
    lengths: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    dtypes: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    round_trip: float = 0.0
    simulated: bool = False
    unchecked: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)


def sample_size(store: Store) -> int:
    """Return how many recordings of a store are read."""
    return min(MOST_RECORDINGS, len(store))


def survey(store: Store, title: str, anchor: str, bar: Any) -> Survey:
    """Read what the report shows of a store.

    Parameters
    ----------
    store : Store
    title, anchor : str
        What the report calls the store, and the name of its section.
    bar : tqdm.tqdm
        Is moved on by one for each recording.
    """
    table = store.recordings
    if len(table):
        table = table.assign(n_bad=table["bad_channels"].map(len))
    names = list(table.index)
    chosen = np.linspace(0, len(names) - 1, sample_size(store)).round().astype(int)
    sampled = [names[i] for i in chosen]
    column = {name: i for i, name in enumerate(store.channels)}
    shape = len(sampled), len(column)
    found = Survey(
        store=store,
        title=title,
        anchor=anchor,
        table=table,
        sampled=sampled,
        quality={name: np.full(shape, np.nan) for name in FIGURES},
        before=np.empty((0, len(FREQUENCIES))),
        after=np.empty((0, len(FREQUENCIES))),
    )
    before, after = [found.before], [found.after]
    for row, name in enumerate(sampled):
        try:
            spectra = _read(store[name], found, row, column)
            before.append(spectra[0])
            after.append(spectra[1])
            found.spectra[name] = spectra
        except Exception as error:  # one damaged recording must not cost the report
            found.unreadable[name] = reason(error)
        bar.update()
    found.before, found.after = np.concatenate(before), np.concatenate(after)
    return found


def _read(
    recording: StoredRecording, found: Survey, row: int, column: Mapping[str, int]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Add a recording's small arrays to the survey; return its spectra."""
    attrs = recording.attrs
    channels = recording.channels
    columns = [column[name] for name in channels]
    there = {*_ARRAYS, *recording.labels} & set(recording.group.array_keys())
    check(recording, there)
    for name, values in found.quality.items():
        if f"quality_{name}" in there:
            values[row, columns] = recording.array(f"quality_{name}")
    why = recording.array("bad_reason") if "bad_reason" in there else [""] * len(channels)
    found.reasons[recording.recording] = {
        name: str(words) for name, words in zip(channels, why, strict=True)
    }
    for name in recording.labels:
        found.labels.setdefault(name, {})[recording.recording] = recording.array(name)
    found.lengths[recording.recording] = recording.array("trial_length") / recording.sfreq
    found.dtypes[attrs["dtype"]] += 1
    found.sources[json.dumps(attrs.get("source", {}), sort_keys=True, ensure_ascii=False)] += 1
    found.simulated |= recording.simulated
    found.unchecked += not recording.checked_where_read
    found.round_trip = max(found.round_trip, attrs["round_trip_rms_uV"])
    nothing = np.empty((0, len(FREQUENCIES)))
    before, after = (
        recording.array(name).astype(float) if name in there else nothing
        for name in ("psd_before", "psd_after")
    )
    return before, after


def amplitudes(spectra: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the RMS within 1 to 40 Hz of each row of spectra, uV, shape (n_rows,).

    Of the spectra, so that no signal is read for it; NaN where one does not reach up to 40 Hz.
    """
    low, high = EEG_BAND
    inside = (low <= FREQUENCIES) & (high >= FREQUENCIES)
    # A value is the mean over 1 Hz: their sum is the power.
    root: npt.NDArray[np.float64] = np.sqrt(spectra[:, inside].sum(axis=1))
    return root


def check(recording: StoredRecording, arrays: Collection[str]) -> None:
    """Raise if a chunk of these arrays is not as it was written: some would decode all the same."""
    for file, expected in recording.attrs.get("checksums", {}).items():
        mine = file.rpartition("/c/")[0] in arrays
        if mine and sha256(recording.file(file)) != expected:
            raise DataError(
                f"Reading {recording.recording}",
                f"{file} does not match its checksum",
                "Run `omfa-ingest verify`, then the ingest command again",
            )


def reason(error: Exception) -> str:
    """Return the finding of an error; advice is given once, above all that could not be read."""
    return (
        str(error.args[1]) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
    )


def titles(stores: Sequence[Store]) -> list[str]:
    """Name stores by the last part of their address, or by all of it where two share that."""
    last = [store.path.rstrip("/").rpartition("/")[2].removesuffix(".zarr") for store in stores]
    return [
        name if last.count(name) == 1 else store.path
        for name, store in zip(last, stores, strict=True)
    ]


def reasons_of(recording: StoredRecording) -> dict[str, str]:
    """Return why channels are bad, by channel, in a recording that was not sampled."""
    try:
        check(recording, ["bad_reason"])
        found = map(str, recording.array("bad_reason"))
        return dict(zip(recording.channels, found, strict=True))
    except Exception:  # damaged: `verify` tells how, and the table only lacks its reasons
        return {}
