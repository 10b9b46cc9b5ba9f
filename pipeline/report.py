"""One HTML file that shows what is in stores and how good it is.

The file holds its pictures and loads nothing. It is bounded however large a store is: quality
figures and spectra are read of at most ``MOST_RECORDINGS`` recordings, signals of two. It carries
no date and no path, so the same stores give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from omfa.pipeline import report_figures as figures
from omfa.pipeline import report_html as html
from omfa.pipeline.channels import UCS
from omfa.pipeline.quality import FREQUENCIES, QualityRules
from omfa.pipeline.recording import DataError
from omfa.pipeline.store import Store, StoredRecording

MOST_RECORDINGS = 200
"""Recordings of a store whose quality figures, spectra and labels are read, spread evenly."""

MOST_ROWS = 20
"""Rows of a table of the worst recordings."""

MOST_FAILURES = 100
MOST_NAMES = 20
"""Channels named in a cell of that table."""

TRACE_SECONDS = 6.0
LEAD_SECONDS = 1.5
"""Of a trace, before the trial's onset, where the signal is contiguous there."""

MOST_TRACES = 14

_SHOWN = ("bad_reason", "psd_before", "psd_after")

LEAST_MAPPED = 4
"""Channels, fewer of which make no scalp map."""

_RULES = QualityRules()


@dataclass(frozen=True)
class _Figure:
    """A quality figure as the report shows it.

    ``scale`` reaches from harmless to the limit of the quality rules, so that full red means the
    same in every store. Shares are averaged by the mean, which a rare fault still moves, and all
    others by the median.
    """

    title: str
    meaning: str
    limit: str
    scale: tuple[float, float]
    colours: str = "Reds"
    log: bool = False
    share: bool = False


_FIGURES = {
    "flat": _Figure(
        "flat (%)",
        "0.1 s blocks without any change",
        f"above {_RULES.flat:.0%}",
        (0, 100 * _RULES.flat),
        share=True,
    ),
    "clipped": _Figure(
        "clipped (%)",
        "samples held at the channel's highest or lowest value",
        f"above {_RULES.clipped:.1%}",
        (0, 100 * _RULES.clipped),
        share=True,
    ),
    "missing": _Figure(
        "missing (%)",
        "samples that are not finite",
        f"above {_RULES.missing:.0%}",
        (0, 100 * _RULES.missing),
        share=True,
    ),
    "variance_z": _Figure(
        "variance (robust z)",
        "log variance at 1–40 Hz against the recording's other channels",
        f"beyond ±{_RULES.variance_z:g}",
        (-_RULES.variance_z, _RULES.variance_z),
        "RdBu_r",
    ),
    "line_ratio": _Figure(
        "mains ratio",
        "power at 50 or 60 Hz, whichever stands out more, over that beside it",
        f"above {_RULES.line_ratio:g} and {_RULES.line_excess:g} × the median channel",
        (1, _RULES.line_ratio),
        log=True,
    ),
    "high_frequency_ratio": _Figure(
        "high-frequency ratio",
        "power above 30 Hz over that above 1 Hz, mains left out",
        f"above {_RULES.high_frequency_ratio:g} and {_RULES.high_frequency_excess:g} × the median "
        "channel",
        (0, _RULES.high_frequency_ratio),
    ),
    "neighbour_correlation": _Figure(
        "neighbour correlation",
        "correlation at 1–40 Hz with the most alike of the 4 nearest electrodes",
        f"below {_RULES.neighbour_correlation:g}",
        (_RULES.neighbour_correlation, 1),
        "Reds_r",
    ),
}


# ------------------------------------------------------------------------------- what is read


@dataclass
class _Survey:
    """What the report shows of one store.

    Attributes
    ----------
    store : Store
    title, anchor : str
    table : pandas.DataFrame
        ``store.recordings``, with the number of bad channels in ``n_bad``.
    sampled : list of str
        The recordings that everything below is of.
    quality : mapping of str to ndarray, shape (n_sampled, n_chans)
        Over ``store.channels``; NaN where a recording lacks the channel.
    before, after : ndarray, shape (n_rows, 64)
        uV²/Hz, a row per channel of a recording.
    reasons : mapping
        By recording and channel, why it is bad; empty where it is good.
    labels : mapping of str to list of ndarray
    dtypes, sources : collections.Counter
        How many recordings have a stored type, and source facts (as JSON).
    round_trip : float
        The largest, uV RMS.
    told_simulated : bool
        Whether a recording's source facts have the word in them.
    unreadable : mapping of str to str
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
    labels: dict[str, list[npt.NDArray[Any]]] = field(default_factory=dict)
    dtypes: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    round_trip: float = 0.0
    told_simulated: bool = False
    unreadable: dict[str, str] = field(default_factory=dict)

    @property
    def simulated(self) -> str:
        """What says that the data are simulated; empty where nothing does."""
        if self.told_simulated:
            return "the source's own files say so"
        return "the name says so" if "simulated" in self.store.path.lower() else ""


def _survey(store: Store, title: str, anchor: str, bar: tqdm[Any]) -> _Survey:
    table = store.recordings
    if len(table):
        table = table.assign(n_bad=table["bad_channels"].map(len))
    names = list(table.index)
    chosen = np.linspace(0, len(names) - 1, min(MOST_RECORDINGS, len(names))).round().astype(int)
    sampled = [names[i] for i in chosen]
    column = {name: i for i, name in enumerate(store.channels)}
    shape = len(sampled), len(column)
    survey = _Survey(
        store=store,
        title=title,
        anchor=anchor,
        table=table,
        sampled=sampled,
        quality={name: np.full(shape, np.nan) for name in (*_FIGURES, "line_frequency")},
        before=np.empty((0, len(FREQUENCIES))),
        after=np.empty((0, len(FREQUENCIES))),
    )
    before, after = [survey.before], [survey.after]
    for row, name in enumerate(sampled):
        try:
            spectra = _read(store[name], survey, row, column)
            before.append(spectra[0])
            after.append(spectra[1])
        except Exception as error:  # one damaged recording must not cost the report
            survey.unreadable[name] = _found(error)
        bar.update()
    survey.before, survey.after = np.concatenate(before), np.concatenate(after)
    return survey


def _read(
    recording: StoredRecording, survey: _Survey, row: int, column: Mapping[str, int]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Add a recording's small arrays to the survey; return its spectra."""
    attrs = recording.attrs
    channels = recording.channels
    columns = [column[name] for name in channels]
    shown = {*_SHOWN, *recording.labels, *(f"quality_{name}" for name in survey.quality)}
    there = shown & set(recording.group.array_keys())
    _check(recording, there)
    for name, values in survey.quality.items():
        if f"quality_{name}" in there:
            values[row, columns] = recording.array(f"quality_{name}")
    why = recording.array("bad_reason") if "bad_reason" in there else [""] * len(channels)
    survey.reasons[recording.recording] = {
        name: str(reason) for name, reason in zip(channels, why, strict=True)
    }
    for name in recording.labels:
        survey.labels.setdefault(name, []).append(recording.array(name))
    survey.dtypes[attrs["dtype"]] += 1
    survey.sources[json.dumps(attrs.get("source", {}), sort_keys=True, ensure_ascii=False)] += 1
    told = json.dumps([attrs.get(name) for name in ("source", "participant", "source_files")])
    survey.told_simulated |= "simulated" in told.lower()
    survey.round_trip = max(survey.round_trip, attrs["round_trip_rms_uV"])
    nothing = np.empty((0, len(FREQUENCIES)))
    before, after = (
        recording.array(name).astype(float) if name in there else nothing
        for name in ("psd_before", "psd_after")
    )
    return before, after


def _check(recording: StoredRecording, arrays: Collection[str]) -> None:
    """Raise if a chunk of these arrays is not as it was written: some would decode all the same."""
    for file, expected in recording.attrs.get("checksums", {}).items():
        array, _, chunk = file.partition("/")
        if array in arrays and chunk.startswith("c/"):
            content = recording.location.read(f"{recording.recording}/{file}")
            if hashlib.sha256(content).hexdigest() != expected:
                raise DataError(
                    f"Reading {recording.recording}",
                    f"{file} does not match its checksum",
                    "Run `omfa-ingest verify`, then the ingest command again",
                )


def _found(error: Exception) -> str:
    """Return what was found; what to do is said once, above all that could not be read."""
    return (
        str(error.args[1]) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
    )


def _titles(stores: Sequence[Store]) -> list[str]:
    """Name stores by the last part of their address, or by all of it where two share that."""
    last = [store.path.rstrip("/").rpartition("/")[2].removesuffix(".zarr") for store in stores]
    return [
        name if last.count(name) == 1 else store.path
        for name, store in zip(last, stores, strict=True)
    ]


def _hours(table: pd.DataFrame) -> str:
    return f"{float((table['n_times'] / table['sfreq']).sum()) / 3600:,.2f}"


# ------------------------------------------------------------------------------- all stores


def _overview(surveys: Sequence[_Survey]) -> str:
    head = ["dataset", "recordings", "subjects", "sessions", "channels", "trials", "hours"]
    head += ["size", "rate", "bad", "failed"]
    rows = [_overview_row(survey) for survey in surveys]
    stored = [survey for survey in surveys if len(survey.table)]
    return (
        '<h1 id="overview">EEG stores and their quality</h1>'
        '<p class="muted">Channels are judged by their raw signal and marked; none is repaired '
        "unless its store says so. <em>bad</em> is the share of bad ones among the channels of all "
        "recordings.</p>"
        + html.table(head, rows, numbers=head[1:])
        + (_channel_overview(stored) + _meanings() if stored else "")
    )


def _meanings() -> str:
    rows = [(escape(f.title), escape(f.meaning), escape(f.limit)) for f in _FIGURES.values()]
    return html.details(
        "What the quality figures mean", html.table(["figure", "what", "bad"], rows)
    )


def _overview_row(survey: _Survey) -> list[str]:
    table = survey.table
    tag = ' <span class="tag">simulated</span>' if survey.simulated else ""
    name = f'<a href="#{survey.anchor}">{escape(survey.title)}</a>{tag}'
    failed = f"{len(survey.store.failures):,}"
    if not len(table):
        return [name, *["0"] * 6, html.size(0), "–", "–", failed]
    return [
        name,
        f"{len(table):,}",
        f"{table['subject'].nunique():,}",
        f"{len(table.groupby(['subject', 'session'])):,}",
        f"{len(survey.store.channels)}",
        f"{table['n_trials'].sum():,}",
        _hours(table),
        html.size(survey.store.nbytes),
        html.span(table["sfreq"], " Hz"),
        f"{table['n_bad'].sum() / table['n_chans'].sum():.1%}",
        failed,
    ]


def _channel_overview(surveys: Sequence[_Survey]) -> str:
    try:
        union = UCS.union(s.store for s in surveys)
        common = UCS.intersection(s.store for s in surveys)
    except DataError as error:
        return f'<h3>Channels</h3><p class="failed">{escape(str(error))}</p>'
    held: dict[tuple[str, ...], list[str]] = {}
    for name in union:
        held.setdefault(tuple(s.title for s in surveys if name in s.store.channels), []).append(
            name
        )
    rows = [
        (escape(", ".join(who)), str(len(names)), escape(" ".join(names)))
        for who, names in sorted(held.items(), key=lambda item: -len(item[0]))
    ]
    held_by = html.table(["held by", "channels", "names"], rows, numbers=["channels"])
    montages = [(s.title, s.store.channels, s.store.common_channels) for s in surveys]
    return (
        f"<h3>Channels: {len(union)} in the union, {len(common)} in the intersection</h3>"
        + html.picture(
            figures.montages(montages, union),
            "Heads from above with the channels of each dataset",
            "Which dataset has which channel of the union, seen from above. Dark: in all its "
            "recordings. Light: in some. Empty: in none.",
        )
        + f'<div class="wrap">{held_by}</div>'
    )


# ------------------------------------------------------------------------------- one store


def _dataset(survey: _Survey) -> str:
    said = survey.simulated
    parts = [
        f'<section id="{survey.anchor}"><h2>{escape(survey.title)}</h2>',
        f'<p class="simulated"><strong>Simulated data</strong> ({said}): these signals were made '
        "by a program and are not recordings of people.</p>"
        if said
        else "",
        _failures(survey),
    ]
    if not len(survey.table):
        why = "every recording failed" if survey.store.failures else "no recording was ingested yet"
        parts.append(
            f"<p>Nothing is stored: {why}. Run the ingest command again; what is "
            "done already is kept.</p>"
        )
    else:
        parts += [
            _facts(survey),
            _sampling_note(survey),
            _channel_quality(survey),
            _recording_quality(survey),
            _spectra(survey),
            _traces(survey),
            _labels(survey),
        ]
    return "".join(parts) + _how_made(survey) + "</section>"


def _failures(survey: _Survey) -> str:
    failed = survey.store.failures
    parts = []
    if failed:
        rows = [(escape(name), escape(why)) for name, why in list(failed.items())[:MOST_FAILURES]]
        more = len(failed) - len(rows)
        parts.append(
            f'<p class="failed"><strong>{html.plural(len(failed), "recording")} could not be '
            "stored.</strong> The rest of this section is without them.</p>"
            + html.table(["recording", "why"], rows)
            + (f"<p>{more:,} more are listed by <code>omfa-ingest inspect</code>.</p>" * bool(more))
        )
    if survey.unreadable:
        rows = [(escape(name), escape(why)) for name, why in survey.unreadable.items()]
        parts.append(
            f'<p class="failed"><strong>{html.plural(len(rows), "stored recording")} could not be '
            "read</strong> and count in no figure below. Run <code>omfa-ingest verify</code>, then "
            "the ingest command again.</p>" + html.table(["recording", "why"], rows[:MOST_FAILURES])
        )
    return "".join(parts)


def _facts(survey: _Survey) -> str:
    table, store = survey.table, survey.store
    settings = store.settings.get("preprocessing", {})
    sources = [json.loads(facts) for facts in survey.sources]
    facts = [
        ("recordings", f"{len(table):,}", ""),
        ("subjects", f"{table['subject'].nunique():,}", ""),
        ("sessions", f"{len(table.groupby(['subject', 'session'])):,}", ""),
        ("channels", *_channel_count(store)),
        ("trials", f"{table['n_trials'].sum():,}", html.span(table["n_trials"], " a recording")),
        ("hours", _hours(table), ""),
        ("size", html.size(store.nbytes), ""),
        ("rate", html.span(table["sfreq"], " Hz"), ""),
        ("band", _band(settings.get("band")), _of_source(sources, "band", _band)),
        ("reference", *_reference(settings, sources)),
        ("stored as", ", ".join(sorted(survey.dtypes)) or "–", ""),
        ("round-trip error", f"{survey.round_trip:.2g} µV", "RMS, the worst channel"),
        (
            "bad channels",
            f"{table['n_bad'].sum() / table['n_chans'].sum():.1%}",
            "interpolated" if settings.get("interpolate") else "marked, not repaired",
        ),
    ]
    cards = "".join(
        f"<div><dt>{name}</dt><dd>{escape(value)}"
        + (f"<small>{escape(more)}</small>" if more else "")
        + "</dd></div>"
        for name, value, more in facts
    )
    return f"<dl>{cards}</dl>"


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


def _sampling_note(survey: _Survey) -> str:
    if len(survey.sampled) == len(survey.table):
        return ""
    return (
        f'<p class="muted">Quality figures, spectra, labels, the stored type and its error are of '
        f"{len(survey.sampled):,} of the {len(survey.table):,} recordings, spread evenly over "
        "their list; shares of bad channels are of all.</p>"
    )


# --- quality


def _over_recordings(values: npt.NDArray[np.float64], figure: _Figure) -> npt.NDArray[np.float64]:
    """Average each channel over the recordings that have an answer, shape (n_chans,)."""
    average = np.mean if figure.share else np.median
    columns = (column[np.isfinite(column)] for column in values.T)
    found = np.array([float(average(c)) if c.size else np.nan for c in columns])
    return 100 * found if figure.share else found


def _bad_shares(survey: _Survey) -> npt.NDArray[np.float64]:
    """Return the share of the recordings holding a channel in which it is bad, (n_chans,)."""
    bad = Counter(name for row in survey.table["bad_channels"] for name in row)
    held = Counter(name for row in survey.table["channels"] for name in row)
    return np.array([bad[name] / held[name] for name in survey.store.channels])


def _channel_quality(survey: _Survey) -> str:
    channels = survey.store.channels
    positions = survey.store.ucs.positions(channels)
    shares = _bad_shares(survey)
    picture = html.picture(
        figures.bad_share(channels, shares, positions),
        "Head from above with the share of recordings in which each channel is bad",
        "",
    )
    return (
        "<h3>Quality by channel</h3>"
        f'<div class="beside">{picture}{_often_bad(survey, shares)}</div>'
        + _figure_maps(survey, positions)
    )


def _often_bad(survey: _Survey, shares: npt.NDArray[np.float64]) -> str:
    """Return a table of the channels that are most often bad."""
    channels = survey.store.channels
    worst = [i for i in np.argsort(-shares, kind="stable")[:10] if shares[i] > 0]
    if not worst:
        return "<p>No channel is bad in any recording.</p>"
    why: dict[str, Counter[str]] = {channels[i]: Counter() for i in worst}
    for reasons in survey.reasons.values():
        for name in why.keys() & reasons.keys():
            why[name].update(reasons[name].split())
    rows = [
        (
            channels[i],
            f"{shares[i]:.1%}",
            ", ".join(_words(reason) for reason, _ in why[channels[i]].most_common(3)),
        )
        for i in worst
    ]
    return f"<div>{html.table(['channel', 'bad in', 'mostly for'], rows, numbers=['bad in'])}</div>"


def _words(reason: str) -> str:
    """Return what the report calls a reason for which a channel is bad."""
    return escape(_FIGURES[reason].title.partition(" (")[0] if reason in _FIGURES else reason)


def _figure_maps(survey: _Survey, positions: npt.NDArray[np.float64]) -> str:
    maps, rest = [], []
    for name, figure in _FIGURES.items():
        values = _over_recordings(survey.quality[name], figure)
        finite = values[np.isfinite(values)]
        if not finite.size:
            rest.append(f"{figure.title}: no answer")
        elif figure.share and finite.max() < 0.02 * figure.scale[1]:
            most = f"at most {finite.max():.1g}" if finite.max() else "0 everywhere"
            rest.append(f"{figure.title}: {most}")
        elif finite.size < LEAST_MAPPED:
            rest.append(f"{figure.title}: {html.span(float(f'{v:.2g}') for v in finite)}")
        else:
            maps.append(
                figures.Topography(figure.title, values, figure.scale, figure.colours, figure.log)
            )
    told = f" Not drawn, as there is little to see: {'; '.join(rest)}." if rest else ""
    if not maps:
        return f"<p>{told}</p>"
    return html.picture(
        figures.topographies(maps, positions),
        "Scalp maps of the quality figures",
        "Raw signal. Shares are means over recordings, the others medians. Full red, or full "
        f"blue, is the limit.{told}",
    ) + _mains(survey)


def _mains(survey: _Survey) -> str:
    frequency, ratio = survey.quality["line_frequency"], survey.quality["line_ratio"]
    standing_out = frequency[np.isfinite(frequency) & (ratio > 10)]
    if not standing_out.size:
        return "<p>Mains noise stands out in no channel (a ratio above 10).</p>"
    share = standing_out.size / max(np.isfinite(ratio).sum(), 1)
    mains = Counter(standing_out.tolist()).most_common(1)[0][0]
    return (
        f"<p>Mains noise stands out (a ratio above 10) in {share:.1%} of the channels of the "
        f"recordings, mostly at {mains:g} Hz.</p>"
    )


def _recording_quality(survey: _Survey) -> str:
    table = survey.table
    affected = table[table["n_bad"] > 0]
    title = "<h3>Quality by recording</h3>"
    if not len(affected):
        return f"{title}<p>No recording has a bad channel.</p>"
    worst = affected.sort_values(["n_bad", "recording"], ascending=[False, True])
    rows = [
        (
            escape(name),
            f"{len(bad)} of {n_chans}",
            _with_reasons(survey, name, bad),
        )
        for name, bad, n_chans in zip(
            worst.index[:MOST_ROWS], worst["bad_channels"], worst["n_chans"], strict=False
        )
    ]
    count = f"{len(affected):,} of {html.plural(len(table), 'recording')} have bad channels"
    which = f"{count}; the {MOST_ROWS} worst:" if len(affected) > MOST_ROWS else f"{count}:"
    first = {
        name: {channel: why.partition(" ")[0] for channel, why in channels.items()}
        for name, channels in survey.reasons.items()
    }
    return (
        title
        + html.picture(
            figures.bad_channels(
                list(first), survey.store.channels, first, words={n: _words(n) for n in _FIGURES}
            ),
            "Recordings by channels, coloured where a channel is bad",
            "A row per recording, a column per channel, coloured by the first reason that the "
            "channel is bad. White: the recording lacks the channel.",
        )
        + f"<p>{which}</p>"
        + html.table(["recording", "bad", "channels and reasons"], rows, numbers=["bad"])
    )


def _with_reasons(survey: _Survey, recording: str, bad: Sequence[str]) -> str:
    """Return bad channels grouped by reasons, as HTML."""
    why = survey.reasons.get(recording) or _reasons(survey.store[recording])
    groups: dict[str, list[str]] = {}
    for name in bad:
        reason = ", ".join(map(_words, why.get(name, "").split()))
        groups.setdefault(reason or "not told", []).append(name)
    return "; ".join(
        f"{escape(_some(names))} <span class='muted'>({reason})</span>"
        for reason, names in groups.items()
    )


def _some(names: Sequence[str]) -> str:
    """Return names, at most ``MOST_NAMES`` of them."""
    more = len(names) - MOST_NAMES
    return " ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _reasons(recording: StoredRecording) -> dict[str, str]:
    """Return why channels are bad, of a recording that was not sampled."""
    try:
        _check(recording, ["bad_reason"])
        found = map(str, recording.array("bad_reason"))
        return dict(zip(recording.channels, found, strict=True))
    except Exception:  # damaged: `verify` tells how, and the table only lacks its reasons
        return {}


# --- signal


def _spectra(survey: _Survey) -> str:
    if not np.isfinite(survey.before).any():
        return "<h3>Spectra</h3><p>No recording is long enough for a spectrum.</p>"
    band = survey.store.settings.get("preprocessing", {}).get("band") or (None, None)
    notch = survey.store.settings.get("preprocessing", {}).get("notch")
    taken = f" Notches at {', '.join(f'{f:g}' for f in notch)} Hz." if notch else ""
    return "<h3>Spectra before and after preprocessing</h3>" + html.picture(
        figures.spectra(FREQUENCIES, survey.before, survey.after, tuple(band)),
        "Power spectral density before and after preprocessing",
        f"Median and quartiles over {len(survey.before):,} channels of "
        f"{html.plural(len(survey.reasons), 'recording')}, bad ones included; each point is the "
        f"mean over 1 Hz. Dotted: mains. Shaded: the pass band.{taken}",
    )


def _traces(survey: _Survey) -> str:
    table = survey.table
    readable = table[(table["n_trials"] > 0) & ~table.index.isin(list(survey.unreadable))]
    if not len(readable):
        return ""
    order = readable.sort_values(["n_bad", "recording"])
    chosen = [order.index[0]]
    if (partly := order[(order["n_bad"] > 0) & (order["n_bad"] < order["n_chans"])]).size:
        chosen += [name for name in partly.index[-1:] if name != chosen[0]]
    return "<h3>Stored signal</h3>" + "".join(_trace(survey, name) for name in chosen)


def _trace(survey: _Survey, name: str) -> str:
    """Show a few seconds around the onset of a recording's middle trial."""
    recording = survey.store[name]
    try:
        _check(recording, set(recording.group.array_keys()))
        trials = recording.trials
        number = len(trials) // 2
        onset = int(trials["onset"].iloc[number])
        start, stop = _trace_span(recording, onset)
        signal = recording.signal(start, stop).astype(float)
    except Exception as error:  # one damaged recording must not cost the report
        return f'<p class="failed">{escape(name)} could not be read: {escape(_found(error))}.</p>'
    bad = recording.bad_channels
    rows = _trace_rows(recording.channels, bad)
    png = figures.traces(
        signal[rows],
        recording.sfreq,
        [recording.channels[i] for i in rows],
        bad,
        start=(start - onset) / recording.sfreq,
    )
    marked = f"{len(bad)} bad of {len(recording.channels)} channels{' (red)' if bad else ''}"
    if bad and recording.attrs.get("interpolated"):
        marked += ", shown as interpolated"
    return html.picture(
        png,
        f"Signal of {name}",
        f"<b>{escape(name)}</b>, trial {number + 1} of {len(trials)}"
        f"{escape(_told(trials.iloc[number], recording.labels))}; {marked}; {len(rows)} shown, cut "
        "off where they would cover others.",
    )


def _told(trial: pd.Series[Any], labels: Sequence[str]) -> str:
    """Return a trial's stimulus and labels in brackets."""
    told = [f"stimulus {trial['stimulus']}"] if str(trial["stimulus"]) else []
    told += [f"{label} {html.one(trial[label])}" for label in labels]
    return f" ({', '.join(told)})" if told else ""


def _trace_span(recording: StoredRecording, onset: int) -> tuple[int, int]:
    """Return the first and last sample to show, within the trial's segment."""
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
    spread = np.linspace(0, len(good) - 1, room).round().astype(int)
    return sorted(bad_rows + [good[i] for i in spread])


# --- labels


def _labels(survey: _Survey) -> str:
    if not survey.labels:
        return "<h3>Labels</h3><p>The trials carry no labels.</p>"
    charts = "".join(_label(name, pieces) for name, pieces in survey.labels.items())
    return f'<h3>Labels and ratings, over trials</h3><div class="labels">{charts}</div>'


def _label(name: str, pieces: list[npt.NDArray[Any]]) -> str:
    """Return counts of a label's values, or a histogram where they are many numbers."""
    numeric = all(piece.dtype.kind in "iuf" for piece in pieces)
    missing = 0
    if numeric:
        values = np.concatenate(pieces)
        missing = int((~np.isfinite(values)).sum())
        values = values[np.isfinite(values)]
    else:
        values = np.array([str(value) for piece in pieces for value in piece], object)
    different = np.unique(values)
    chart = html.histogram(values) if numeric and len(different) > 12 else html.bars(values)
    told = html.plural(len(values), "trial") + (f", {missing} without a value" if missing else "")
    if numeric and len(different) > 12:
        told += f", mean {values.mean():.3g}, SD {values.std():.3g}"
    return f"<div><h4>{escape(name)} <span>{told}</span></h4>{chart}</div>"


# --- provenance


def _how_made(survey: _Survey) -> str:
    settings = survey.store.settings
    software = settings.get("software", {})
    left_out = ("failures", "software", "settings_digest")
    chosen = {name: value for name, value in settings.items() if name not in left_out}
    sources = [
        {"recordings": count, **json.loads(facts)}
        for facts, count in survey.sources.most_common(10)
    ]
    body = (
        "<h4>Settings</h4>"
        + html.as_json(chosen)
        + "<h4>What the source tells of its signals</h4>"
        + html.as_json(sources)
        + "<h4>Software</h4>"
        + html.table(["package", "version"], [(escape(k), escape(v)) for k, v in software.items()])
        + f"<p class='muted'>Settings digest {escape(str(settings.get('settings_digest')))}</p>"
    )
    return html.details("How it was made: settings and software", body)


# ------------------------------------------------------------------------------- the report


def write_report(stores: Sequence[Store], out: str | Path, *, progress: bool | None = None) -> Path:
    """Write one self-contained HTML file about stores.

    Parameters
    ----------
    stores : sequence of Store
        A section each, after an overview of all.
    out : path
        The file to write; it appears whole or not at all and replaces an earlier one.
    progress : bool, optional
        Whether to show a progress bar; by default on a terminal only.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DataError
        If there is no store to report, or the file cannot be written.
    """
    out = Path(out)
    if not stores:
        raise DataError(f"Writing the report {out}", "no store was given", "Name at least one")
    html.check_writable(out)
    total = sum(min(MOST_RECORDINGS, len(store)) for store in stores)
    with tqdm(
        total=total,
        desc="Report",
        unit="rec",
        disable=None if progress is None else not progress,
    ) as bar:
        surveys = [
            _survey(store, title, f"dataset-{i}", bar)
            for i, (store, title) in enumerate(zip(stores, _titles(stores), strict=True), start=1)
        ]
        body = _overview(surveys) + "".join(map(_dataset, surveys))
    sections = {"overview": "Overview"} | {s.anchor: s.title for s in surveys}
    title = f"EEG quality: {', '.join(s.title for s in surveys)}"
    html.write(out, html.page(title, sections, body))
    return out
