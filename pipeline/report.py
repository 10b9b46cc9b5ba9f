"""One HTML file that shows what is in stores and how good it is, and its tables as CSV files.

The numbers and pictures are computed here; ``templates/quality.html`` and ``dataset.html`` put them
into words. The file holds its pictures and loads nothing. It carries no date and no path, so the
same stores give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from omfa.pipeline import report_csv as csv
from omfa.pipeline import report_figures as figures
from omfa.pipeline import report_page as page
from omfa.pipeline import report_survey as surveys
from omfa.pipeline.channels import UCS
from omfa.pipeline.errors import DataError
from omfa.pipeline.progress import bar
from omfa.pipeline.quality import FREQUENCIES
from omfa.pipeline.report_advice import Advice, advise
from omfa.pipeline.report_labels import (
    Balance,
    Label,
    class_balance,
    labels,
    one,
    valence_by_arousal,
)
from omfa.pipeline.report_methods import Methods, methods
from omfa.pipeline.report_quality import (
    MEASURES,
    ChannelQuality,
    RecordingQuality,
    channel_quality,
    recording_quality,
)
from omfa.pipeline.report_recordings import RecordingPage, recording_pages
from omfa.pipeline.report_survey import Survey, amplitudes
from omfa.pipeline.report_times import StoreTimes, TimeMap, n_timed, read_times, time_map
from omfa.pipeline.store import Store, StoredRecording
from omfa.pipeline.words import size

MOST_FAILURES = 100
"""Rows of a table of what failed."""

TRACE_SECONDS = 6.0
LEAD_SECONDS = 1.5
"""The part of a trace before the trial's onset, where the signal is contiguous there."""

MOST_TRACES = 14

# ------------------------------------------------------------------------------- all stores


@dataclass(frozen=True)
class _Dataset:
    """A section of the report, and its row of the overview.

    Attributes
    ----------
    anchor, title : str
    simulated : bool
    counts : list of str
        The cells of the overview after the name.
    failures : list of (str, str)
        Recordings that could not be stored and why, at most ``MOST_FAILURES`` of ``n_failures``.
    unreadable : list of (str, str)
        Stored recordings that could not be read and why, at most as many of ``n_unreadable``.
    content : _Content or None
        None where nothing is stored.
    how : mapping
        Settings, source facts, software and digest.
    """

    anchor: str
    title: str
    simulated: bool
    counts: list[str]
    failures: list[tuple[str, str]]
    n_failures: int
    unreadable: list[tuple[str, str]]
    n_unreadable: int
    content: _Content | None
    how: Mapping[str, Any]


@dataclass(frozen=True)
class _Channels:
    """Which store has which channel, or why no union can be made."""

    error: str = ""
    n_union: int = 0
    n_common: int = 0
    montages: bytes = b""
    holders: Sequence[tuple[str, str, str]] = ()


def _counts(survey: Survey) -> list[str]:
    table = survey.table
    failed = f"{len(survey.store.failures):,}"
    if not len(table):
        return [*["0"] * 6, size(0), "–", "–", failed]
    return [
        f"{len(table):,}",
        f"{table['subject'].nunique():,}",
        f"{len(table.groupby(['subject', 'session'])):,}",
        f"{len(survey.store.channels)}",
        f"{table['n_trials'].sum():,}",
        _hours(table),
        size(survey.store.nbytes),
        page.span(table["sfreq"], " Hz"),
        _bad_percent(table),
        failed,
    ]


def _hours(table: pd.DataFrame) -> str:
    return f"{float((table['n_times'] / table['sfreq']).sum()) / 3600:,.2f}"


def _bad_percent(table: pd.DataFrame) -> str:
    return f"{table['n_bad'].sum() / table['n_chans'].sum():.1%}"


def _channels(stored: Sequence[Survey]) -> _Channels:
    try:
        union = UCS.union(s.store for s in stored)
        common = UCS.intersection(s.store for s in stored)
    except DataError as error:
        return _Channels(error=str(error))
    held: dict[tuple[str, ...], list[str]] = {}
    for name in union:
        holders = tuple(s.title for s in stored if name in s.store.channels)
        held.setdefault(holders, []).append(name)
    montages = [(s.title, s.store.channels, s.store.common_channels) for s in stored]
    return _Channels(
        n_union=len(union),
        n_common=len(common),
        montages=figures.montages(montages, union),
        holders=[
            (", ".join(who), str(len(names)), " ".join(names))
            for who, names in sorted(held.items(), key=lambda item: -len(item[0]))
        ],
    )


def _together(stored: Sequence[Survey]) -> bytes:
    """Draw all datasets on the same axes; nothing where none has a spectrum."""
    rows = [
        figures.Together(
            s.title,
            s.after,
            amplitudes(s.after),
            np.concatenate([*s.lengths.values()]) if s.lengths else np.empty(0),
        )
        for s in stored
    ]
    known = [row for row in rows if np.isfinite(row.spectra).any()]
    return figures.together(FREQUENCIES, known) if known else b""


# ------------------------------------------------------------------------------- one store


@dataclass(frozen=True)
class _Content:
    """What is stored, and how good it is.

    Attributes
    ----------
    facts : list of (str, str, str)
        Name, value and remark.
    n_sampled, n_recordings : int
    channels : ChannelQuality
    recordings : RecordingQuality
    times : TimeMap
    spectra : _Spectra or None
        None where no recording is long enough.
    traces : list of _Trace
    labels : list of Label
    balance : Balance or None
        At the dataset's usual target; None where it has none.
    scatter : bytes
        Valence by arousal; empty where a trial has not both.
    advice : list of Advice
    pages : list of RecordingPage
    methods : Methods
    """

    facts: list[tuple[str, str, str]]
    n_sampled: int
    n_recordings: int
    channels: ChannelQuality
    recordings: RecordingQuality
    times: TimeMap
    spectra: _Spectra | None
    traces: list[_Trace]
    labels: list[Label]
    balance: Balance | None
    scatter: bytes
    advice: list[Advice]
    pages: list[RecordingPage]
    methods: Methods


def _dataset(survey: Survey, times: StoreTimes) -> _Dataset:
    failures, unreadable = list(survey.store.failures.items()), list(survey.unreadable.items())
    return _Dataset(
        anchor=survey.anchor,
        title=survey.title,
        simulated=survey.simulated,
        counts=_counts(survey),
        failures=failures[:MOST_FAILURES],
        n_failures=len(failures),
        unreadable=unreadable[:MOST_FAILURES],
        n_unreadable=len(unreadable),
        content=_content(survey, times) if len(survey.table) else None,
        how=_how_made(survey),
    )


def _content(survey: Survey, times: StoreTimes) -> _Content:
    balance = class_balance(survey)
    return _Content(
        facts=_facts(survey),
        n_sampled=len(survey.sampled),
        n_recordings=len(survey.table),
        channels=channel_quality(survey),
        recordings=recording_quality(survey),
        times=time_map(survey, times),
        spectra=_spectra(survey),
        traces=_traces(survey),
        labels=labels(survey),
        balance=balance,
        scatter=valence_by_arousal(survey),
        advice=advise(survey, balance, times),
        pages=recording_pages(survey, times),
        methods=methods(survey),
    )


def _facts(survey: Survey) -> list[tuple[str, str, str]]:
    table, store = survey.table, survey.store
    settings = store.settings.get("preprocessing", {})
    sources = [json.loads(facts) for facts in survey.sources]
    recordings, subjects, sessions, _, trials, hours, size, rate, bad, _ = _counts(survey)
    read = f"{len(survey.sampled) - len(survey.unreadable)} that were read"
    repaired = "interpolated" if settings.get("interpolate") else "marked, not repaired"
    return [
        ("recordings", recordings, ""),
        ("subjects", subjects, ""),
        ("sessions", sessions, ""),
        ("channels", *_channel_count(store)),
        ("trials", trials, page.span(table["n_trials"], " a recording")),
        ("hours", hours, ""),
        ("size", size, ""),
        ("rate", rate, ""),
        ("band", _band(settings.get("band")), _of_source(sources, "band", _band)),
        ("reference", *_reference(settings, sources)),
        *([("whitened", "yes", "each recording, to 10 µV")] if settings.get("whiten") else []),
        ("stored as", ", ".join(sorted(survey.dtypes)) or "–", ""),
        ("round-trip error", f"{survey.round_trip:.2g} µV", "RMS, the worst channel"),
        ("bad channels", bad, repaired),
        *(
            [
                (
                    "without checksums",
                    f"{survey.unchecked} of {read}",
                    "of an earlier omfa; the ingest command with --rewrite adds them to the chunks",
                )
            ]
            if survey.unchecked
            else []
        ),
    ]


def _channel_count(store: Store) -> tuple[str, str]:
    some, every = len(store.channels), len(store.common_channels)
    return str(some), "" if some == every else f"{every} in all recordings"


def _band(edges: Sequence[float | None] | None) -> str:
    low, high = edges or (None, None)
    if low and high:
        return f"{low:g}–{high:g} Hz"
    if high:
        return f"up to {high:g} Hz"
    return f"from {low:g} Hz" if low else "as recorded"


def _of_source(sources: Iterable[Mapping[str, Any]], name: str, show: Callable[[Any], str]) -> str:
    found = sorted({show(facts[name]) for facts in sources if facts.get(name) is not None})
    return f"source: {', '.join(found)}" if found else ""


def _reference(settings: Mapping[str, Any], sources: list[dict[str, Any]]) -> tuple[str, str]:
    chosen = settings.get("reference", "source")
    if chosen == "source":
        return "as in the source", _of_source(sources, "reference", str)
    return chosen if isinstance(chosen, str) else ", ".join(chosen), ""


def _how_made(survey: Survey) -> dict[str, Any]:
    settings = survey.store.settings
    left_out = ("failures", "software", "settings_digest")
    return {
        "settings": {name: value for name, value in settings.items() if name not in left_out},
        "sources": [
            {"recordings": count, **json.loads(facts)}
            for facts, count in survey.sources.most_common(10)
        ],
        "software": settings.get("software", {}),
        "digest": settings.get("settings_digest"),
    }


# ------------------------------------------------------------------------------- signal


@dataclass(frozen=True)
class _Spectra:
    """The picture of the spectra before and after, and what it is the median of."""

    png: bytes
    n_rows: int
    n_recordings: int
    notches: list[str]


def _spectra(survey: Survey) -> _Spectra | None:
    if not np.isfinite(survey.before).any():
        return None
    settings = survey.store.settings.get("preprocessing", {})
    band = tuple(settings.get("band") or (None, None))
    return _Spectra(
        png=figures.spectra(FREQUENCIES, survey.before, survey.after, band),
        n_rows=len(survey.before),
        n_recordings=len(survey.reasons),
        notches=[f"{frequency:g}" for frequency in settings.get("notch") or ()],
    )


@dataclass(frozen=True)
class _Trace:
    """A few seconds of a recording, or the error that came of reading it.

    Attributes
    ----------
    recording, error : str
    png : bytes
    trial, n_trials : int
        Which trial it is, from 1.
    facts : list of str
        The trial's stimulus and labels.
    n_bad, n_chans, n_shown : int
    interpolated : bool
        Whether the bad channels are.
    """

    recording: str
    error: str = ""
    png: bytes = b""
    trial: int = 0
    n_trials: int = 0
    facts: Sequence[str] = ()
    n_bad: int = 0
    n_chans: int = 0
    n_shown: int = 0
    interpolated: bool = False


def _traces(survey: Survey) -> list[_Trace]:
    table = survey.table
    readable = table[(table["n_trials"] > 0) & ~table.index.isin(list(survey.unreadable))]
    if not len(readable):
        return []
    order = readable.sort_values(["n_bad", "recording"])
    # The best recording, and the worst that still has a good channel to compare with.
    chosen = [order.index[0]]
    if (partly := order[(order["n_bad"] > 0) & (order["n_bad"] < order["n_chans"])]).size:
        chosen += [name for name in partly.index[-1:] if name != chosen[0]]
    return [_trace(survey.store[name]) for name in chosen]


def _trace(recording: StoredRecording) -> _Trace:
    """Show a few seconds around the onset of a recording's middle trial."""
    try:
        surveys.check(recording, set(recording.group.array_keys()))
        trials = recording.trials
        number = len(trials) // 2
        onset = int(trials["onset"].iloc[number])
        start, stop = _trace_span(recording, onset)
        signal = recording.signal(start, stop).astype(float)
    except Exception as error:  # one damaged recording must not cost the report
        return _Trace(recording.recording, error=surveys.reason(error))
    channels, bad = recording.channels, recording.bad_channels
    rows = _trace_rows(channels, bad)
    png = figures.traces(
        signal[rows],
        recording.sfreq,
        [channels[i] for i in rows],
        bad,
        start=(start - onset) / recording.sfreq,
    )
    return _Trace(
        recording.recording,
        png=png,
        trial=number + 1,
        n_trials=len(trials),
        facts=_trial_facts(trials.iloc[number], recording.labels),
        n_bad=len(bad),
        n_chans=len(channels),
        n_shown=len(rows),
        interpolated=bool(bad and recording.attrs.get("interpolated")),
    )


def _trial_facts(trial: pd.Series[Any], labels: Sequence[str]) -> list[str]:
    stimulus = [f"stimulus {trial['stimulus']}"] if str(trial["stimulus"]) else []
    return stimulus + [f"{label} {one(trial[label])}" for label in labels]


def _trace_span(recording: StoredRecording, onset: int) -> tuple[int, int]:
    """Return the first sample to show and the one after the last, within the trial's segment."""
    onsets, lengths = recording.array("segment_onset"), recording.array("segment_length")
    segment = int(np.searchsorted(onsets, onset, side="right")) - 1
    start = max(onset - round(LEAD_SECONDS * recording.sfreq), int(onsets[segment]))
    end = int(onsets[segment] + lengths[segment])
    return start, min(start + round(TRACE_SECONDS * recording.sfreq), end)


def _trace_rows(channels: Sequence[str], bad: Sequence[str]) -> list[int]:
    """Choose rows: up to half of them bad, the others spread evenly over the good ones."""
    bad_rows = [i for i, name in enumerate(channels) if name in bad][: MOST_TRACES // 2]
    good = [i for i, name in enumerate(channels) if name not in bad]
    room = min(MOST_TRACES - len(bad_rows), len(good))
    # Evenly: channels in UCS order run from front to back.
    spread = np.linspace(0, len(good) - 1, room).round().astype(int)
    return sorted(bad_rows + [good[i] for i in spread])


# ------------------------------------------------------------------------------- the report


def write_report(
    stores: Sequence[Store], out: str | Path, *, progress: bool | None = None
) -> Path | str:
    """Write one self-contained HTML file about stores.

    Parameters
    ----------
    stores : sequence of Store
        A section each, after an overview of all.
    out : path or str
        The file to write; it appears whole or not at all and replaces an earlier one. An fsspec URL
        is written with what the first store was opened with. Beside it are three CSV files of its
        name, which hold all of its tables: of ``quality.html`` ``quality-recordings.csv``,
        ``quality-channels.csv`` and ``quality-missing.csv``.
    progress : bool, optional
        Whether to show a progress bar; by default on a terminal only.

    Returns
    -------
    Path or str
        The file, or its URL.

    Raises
    ------
    DataError
        If there is no store to report, or the file cannot be written.

    Examples
    --------
    >>> from omfa.pipeline import open_store, write_report
    >>> path = write_report([open_store("dreamer.zarr")], "quality.html")
    """
    return write_and_tell(stores, out, progress=progress)[0]


def write_and_tell(
    stores: Sequence[Store], out: str | Path, *, progress: bool | None = None
) -> tuple[Path | str, list[dict[str, str]]]:
    """Write a report as ``write_report`` does, and say what could not be read for it.

    Returns
    -------
    Path or str
        The file, or its URL.
    list of dict of str to str
        Of each store the damaged recordings that were come upon, and what was found.
    """
    if not page.is_address(out):
        out = Path(out)
    if not stores:
        raise DataError(f"Writing the report {out}", "no store was given", "Name at least one")
    if isinstance(out, Path):
        page.check_writable(out)
    total = sum(surveys.sample_size(store) + n_timed(store) for store in stores)
    with bar(total=total, what="Report", unit="rec", shown=progress) as counted:
        found = [
            surveys.survey(store, title, f"dataset-{i}", counted)
            for i, (store, title) in enumerate(zip(stores, surveys.titles(stores), strict=True), 1)
        ]
        times = [read_times(survey, counted) for survey in found]
        stored = [survey for survey in found if len(survey.table)]
        values = {
            "title": f"EEG quality: {', '.join(s.title for s in found)}",
            "sections": {"overview": "Overview"} | {s.anchor: s.title for s in found},
            "channels": _channels(stored) if stored else None,
            "together": _together(stored),
            "measures": list(MEASURES.values()),
            "datasets": list(map(_dataset, found, times)),
            "files": csv.names(out),
        }
    options = dict(getattr(stores[0].location, "options", ()))
    written = csv.tables(list(zip(found, times, strict=True)))
    files = {name: written[table] for table, name in csv.names(out).items()}
    # The page comes last: it names the others.
    page.write_beside(out, files, storage_options=options)
    page.write(out, "quality.html", values, storage_options=options)
    return out, [dict(t.unreadable) | s.unreadable for s, t in zip(found, times, strict=True)]
