"""Annotations as events: which are trials, spans to leave out, or interruptions."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.opening import EDF_SUFFIXES, lower_case, open_raw, suffix
from omfa.pipeline.readers.whole import brainvision_markers, edf_annotations
from omfa.pipeline.recording import Key
from omfa.pipeline.words import nearest, some

if TYPE_CHECKING:
    import mne


# Where recorders and MNE's readers mark that the samples before and after were not recorded in one
# go: MNE where it joins files, EEGLAB by text, BrainVision by the type of a marker.
_INTERRUPTION = re.compile(
    r"(?:(?:BAD|EDGE)[ _]boundary|boundary|New Segment(?:/.*)?)", re.IGNORECASE
)

# The same by number: EEGLAB where all types are numbers, GDF's start of a new segment (0x7ffe).
_INTERRUPTION_CODES = {".set": "-99", ".gdf": "32766"}

# Spans to leave out: MNE's own convention, which it also writes to other formats, and a type of
# BrainVision's markers. Only in MNE's own files does "bad" in any spelling begin such a span.
_BAD = re.compile(r"BAD_|Bad Interval/")

_BAD_IN_FIF = re.compile(r"bad", re.IGNORECASE)


def annotation_events(
    raw: mne.io.BaseRaw,
    *,
    where: str,
    events: Mapping[str, str] | None = None,
    duration: float | None = None,
    path: Path | None = None,
    encoding: str | None = None,
    notes: list[str] | None = None,
) -> pd.DataFrame:
    """Return a recording's annotations as events, for ``to_recording``.

    An annotation without a duration lasts to the next one that is later, of any kind, or to the
    end. BAD spans and interruptions are no events, nor is what reaches beyond the recording's ends.

    Parameters
    ----------
    raw : mne.io.BaseRaw
    where : str
        The reader and the recording, for the error.
    events : mapping or None
        The descriptions to take, each with the label to give it; None takes every one as it is.
        Blanks around a description are no part of it.
    duration : float or None
        Seconds, in place of the annotations' own.
    path, encoding
        As ``open_raw`` was given them; no path where there is no file to ask again.
    notes : list of str or None
        Where to say which annotations were left out.

    Returns
    -------
    DataFrame
        ``onset``, ``duration``, ``stimulus`` (the description) and ``event`` (its label).

    Raises
    ------
    DataError
        If no annotation is taken.
    """
    asked = {name.strip(): label for name, label in dict(events or {}).items()}
    notes = [] if notes is None else notes
    sfreq, end = raw.info["sfreq"], raw.n_times / raw.info["sfreq"]
    kind = kind_of(raw)
    table = _annotations(raw, path, encoding)
    event = np.array(
        [
            is_event(name, asked, of_mne=kind in MNE_KINDS) and not interrupts(name, kind)
            for name in table["stimulus"]
        ],
        dtype=bool,
    )
    # rounding may put an end a sample late; markers at the very end are for `to_recording`
    onset, ends = table["onset"].to_numpy(), (table["onset"] + table["duration"]).to_numpy()
    inside = (onset > -0.5 / sfreq) & (onset <= end) & (ends < end + 1.5 / sfreq)
    wanted = event & (table["stimulus"].isin(asked).to_numpy() if asked else True)
    if (out := wanted & ~inside).any():
        notes.append(
            f"{where}: {out.sum()} annotations reach outside the recording, which has {end:g} s, "
            f"and are left out: {_listed(table[out])}."
        )
    bad = [is_bad(n, True) and not (is_bad(n, False) or interrupts(n)) for n in table["stimulus"]]
    if (spans := np.array(bad, dtype=bool) & ~event).any():
        notes.append(
            f"{where}: {spans.sum()} annotations begin with 'bad', by which MNE marks spans to "
            f"leave out, and are no trials: {_listed(table[spans])}. Take them by --events."
        )
    known = sorted(set(table.loc[event, "stimulus"]))
    table = table[event & inside].reset_index(drop=True)
    # markers last a sample, or nothing
    table["duration"] = table["duration"].where(
        (table["duration"] > 1.5 / sfreq) | (table["duration"] < 0)
    )
    table = last_until_next(table, end=end, duration=duration, where=where, notes=notes)
    table["event"] = table["stimulus"].map(asked if asked else {n: n for n in known})
    table = table.dropna(subset="event").reset_index(drop=True)
    if table.empty:
        lacking = f"none of {', '.join(asked)}" if asked else "no annotation"
        raise DataError(
            where,
            f"{lacking} is among its events ({', '.join(known) or 'none'})",
            "Name its annotations by --events NAME=LABEL, or leave the file out by --pattern",
        )
    return table


def events_nowhere(
    asked: Mapping[str, str],
    stored: Iterable[tuple[Key, pd.DataFrame]],
    *,
    name: str,
    by: Literal["stimulus", "event"],
    known: Callable[[Key], Collection[str]] = lambda key: (),
) -> Iterator[str]:
    """Say of each event that was asked for and is a trial nowhere, for a reader's ``review``.

    Parameters
    ----------
    asked : mapping
        The events, each with its label.
    stored : iterable of (Key, DataFrame)
        Read no further than until every event was found.
    name : str
        The reader's.
    by : {"stimulus", "event"}
        The column of the trials that tells the events apart: of their names, or of their labels.
    known : callable
        Returns the names of the events in a recording's own file; asked of one recording only.
    """
    lacking = {event.strip(): label for event, label in asked.items()}
    first = None
    n_looked = 0
    for key, trials in stored if lacking else ():
        first, n_looked = first or key, n_looked + 1
        seen = set(trials[by]) if by in trials else set()
        lacking = {
            event: label
            for event, label in lacking.items()
            if (event if by == "stimulus" else label) not in seen
        }
        if not lacking:
            return
    if first is None:  # nothing was stored, and every recording has an error of its own
        return
    names = sorted(known(first))
    has = f"; {first.recording} has {some(names, 8)}" if names else ""
    for event in lacking:
        yield (
            f"{name} reader: the event {event!r} of --events{nearest(event, names)} is a trial in "
            f"none of the {n_looked} stored recordings{has}. Correct its name, or leave it "
            "out."
        )


def annotation_names(path: Path, *, where: str, encoding: str | None = None) -> tuple[str, ...]:
    """Return the names of the annotations in a file, interruptions aside; none if unreadable."""
    try:
        raw = open_raw(path, where=where, encoding=encoding)
        found = {str(name) for name in _annotations(raw, path, encoding)["stimulus"]}
    except Exception:  # only words in a note depend on it
        return ()
    return tuple(sorted(name for name in found if not interrupts(name, suffix(path))))


def _annotations(raw: mne.io.BaseRaw, path: Path | None, encoding: str | None) -> pd.DataFrame:
    """Return a recording's annotations as its file has them, where the file can be asked.

    MNE leaves out of a ``Raw`` what lies beyond its ends, and cuts what reaches there.
    """
    import mne

    own = _table(raw.annotations, raw.first_time)
    try:
        with mne.utils.use_log_level("error"):
            found = _annotations_in(path, raw.info["sfreq"], encoding) if path else None
    except Exception:  # a format whose annotations MNE reads with the signal only
        found = None
    if found is None:
        return own
    late = 0.0  # how much later than the first sample the annotations' zero is
    if found.orig_time is not None and raw.info["meas_date"] is not None:
        late = (found.orig_time - raw.info["meas_date"]).total_seconds() - raw.first_time
    whole = _table(found, -late)
    return whole if len(whole) >= len(own) else own


def _annotations_in(path: Path, sfreq: float, encoding: str | None) -> mne.Annotations | None:
    import mne

    if suffix(path) in (".vhdr", ".ahdr"):
        markers = brainvision_markers(path)
        if markers is None:
            return None
        with lower_case(markers) as marks:
            # Otherwise MNE looks for a header of the markers' name.
            return mne.read_annotations(marks, sfreq=sfreq)
    if suffix(path) in EDF_SUFFIXES:
        # MNE looks for annotations in all that a file holds, and finds some in its signals.
        with tempfile.TemporaryDirectory() as folder:
            alone = Path(folder, f"annotations{suffix(path)}")
            alone.write_bytes(edf_annotations(path))
            return _in_either_encoding(alone, encoding)
    with lower_case(path) as file:
        if suffix(path) == ".gdf":
            return _in_either_encoding(file, encoding)
        return mne.read_annotations(file)


def _in_either_encoding(path: Path, encoding: str | None) -> mne.Annotations:
    import mne

    try:
        return mne.read_annotations(path, encoding=encoding or "utf8")
    except Exception:
        return mne.read_annotations(path, encoding="latin1")


def _table(annotations: mne.Annotations, zero: float) -> pd.DataFrame:
    """Return annotations as events, their onsets counted from ``zero`` seconds."""
    text = [str(name).strip() for name in annotations.description]
    return pd.DataFrame(
        {
            "onset": np.asarray(annotations.onset, float) - zero,
            "duration": np.asarray(annotations.duration, float),
            "stimulus": pd.Series(text, dtype=object),
        }
    )


def _listed(events: pd.DataFrame) -> str:
    """Return events in words: ``'happy' from 28 to 32 s``."""
    return some(
        [
            f"{name!r} from {onset:g} to {onset + max(lasting, 0):g} s"
            for onset, lasting, name in zip(
                events["onset"], events["duration"].fillna(0), events["stimulus"], strict=True
            )
        ],
        4,
    )


def is_event(description: str, asked: Container[str] = (), *, of_mne: bool = False) -> bool:
    """Return whether an annotation is of an event, and not of a BAD span or an interruption.

    An annotation that is asked for by name is of an event whatever it begins with.

    Parameters
    ----------
    description : str
    asked : container of str
    of_mne : bool
        Whether MNE's own convention holds, by which "bad" in any spelling begins a span.
    """
    return description in asked or not (is_bad(description, of_mne) or interrupts(description))


def is_bad(description: str, of_mne: bool) -> bool:
    """Return whether an annotation marks a span to leave out."""
    return bool((_BAD_IN_FIF if of_mne else _BAD).match(description))


def interrupts(description: str, kind: str = "") -> bool:
    """Return whether an annotation marks where recording went on after a pause.

    Parameters
    ----------
    description : str
    kind : str
        The file's suffix: some formats have a number for it.
    """
    text = description.strip()
    return bool(_INTERRUPTION.fullmatch(text)) or text == _INTERRUPTION_CODES.get(kind)


def last_until_next(
    table: pd.DataFrame,
    *,
    end: float,
    duration: float | None = None,
    where: str = "",
    notes: list[str] | None = None,
) -> pd.DataFrame:
    """Return events in order, those without a duration lasting to the next later one.

    Parameters
    ----------
    table : DataFrame
        ``onset`` and ``duration``, seconds; a duration of 0 or NaN is none.
    end : float
        Where the recording ends, seconds.
    duration : float or None
        Seconds, in place of every event's own.
    where : str
        The reader and the recording, for the notes.
    notes : list of str or None
        Where to say that a duration is negative, and stands for none.
    """
    table = table.sort_values("onset", kind="stable").reset_index(drop=True)
    onset = table["onset"].to_numpy(float)
    later = np.searchsorted(onset, onset, side="right")
    # A difference of seconds is rounded to what they can be known to.
    until_next = np.round(np.append(onset, end)[later] - onset, 9)
    own = table["duration"].to_numpy(float)
    if notes is not None and duration is None and (own < 0).any():
        at = ", ".join(f"{when:g} s" for when in onset[own < 0][:4])
        notes.append(
            f"{where}: {(own < 0).sum()} events have a negative duration ({at}) and are taken to "
            "last to the next one."
        )
    given = own if duration is None else np.full(len(own), duration)
    return table.assign(duration=np.where(given > 0, given, until_next))


def kind_of(raw: mne.io.BaseRaw) -> str:
    """Return the suffix of the file that a recording was opened from; "" if there is none."""
    return suffix(Path(raw.filenames[0] or ""))


# Annotations are MNE's own in its files, and in what other programs hand over opened by MNE.
MNE_KINDS = (".fif", ".gz", "")


def interruptions_of(raw: mne.io.BaseRaw) -> list[float]:
    """Return when recording went on after a pause, seconds from the first sample."""
    onset = raw.annotations.onset - raw.first_time
    found, kind = zip(onset, raw.annotations.description, strict=True), kind_of(raw)
    return sorted({float(at) for at, name in found if interrupts(str(name), kind) and at > 0})
