"""What the quality report shows of time: where recordings lack signal, trials or labels.

A store keeps what the source held, so what is lost is not there to be seen: it shows as samples
that are NaN, as an end of one contiguous piece and the beginning of another, as fewer trials than
others have, or as trials without a label. Small arrays of at most ``MOST_TIMED`` recordings are
read for that, and the signals of at most ``MOST_DRAWN``: only of those that lack samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from omfa.pipeline import report_figures as figures
from omfa.pipeline import report_page as page
from omfa.pipeline import report_survey as surveys
from omfa.pipeline.report_labels import classes_of, one, ordered_classes, usual_rule
from omfa.pipeline.report_survey import Survey
from omfa.pipeline.store import Store, StoredRecording

Spans = npt.NDArray[np.int64]

MOST_TIMED = 2000
"""Recordings of a store whose times are read, 6 ms each; spread evenly over the list."""

MOST_DRAWN = 40
"""Rows of the map: names of more could not be read."""

MOST_ROWS = 20
"""Rows of the table of what was lost."""

MOST_NOTES = 20
"""Notes of readers that the page repeats."""

MOST_CLASSES = len(figures.COLOURS)
"""Values of a label beyond which they have no colours of their own."""

CUT_APART = 0.9
"""Share of the samples that trials and baselines hold in a source that was cut into trials. Pieces
of a recording that was interrupted hold what lies between trials too."""

_BLOCK = 2**18
"""Samples that are decoded at a time: a chunk of a store."""

_READERS = 8
"""Recordings of an object store that are waited for at the same time."""

_PARTS = ("segment", "trial", "baseline")


@dataclass(frozen=True)
class Gap:
    """A stretch of samples that are missing, of one recording.

    Attributes
    ----------
    start, stop : int
        In samples; the second is the first that is there again.
    channels : tuple of str
        Those that lack any of it.
    every : bool
        Whether no channel has a sample there.
    """

    start: int
    stop: int
    channels: tuple[str, ...]
    every: bool


@dataclass(frozen=True)
class Times:
    """The course of one recording.

    Attributes
    ----------
    recording : str
    sfreq : float
        Hz.
    n_times : int
    channels : list of str
    segments, trials, baselines : ndarray of int, shape (n, 2)
        Onset and length in samples.
    classes : list of str or None
        The class of each trial, empty where it has none; None where trials are told apart by
        nothing.
    missing : ndarray, shape (n_chans,)
        The share of its samples that each channel lacks in the source.
    notes : tuple of str
        What the reader left out or read otherwise.
    cut : bool
        Whether the source cut the signal into trials, so that nothing broke off.
    gaps : list of Gap or None
        Where samples are missing, but for channels that lack all; None where nobody looked.
    """

    recording: str
    sfreq: float
    n_times: int
    channels: list[str]
    segments: Spans
    trials: Spans
    baselines: Spans
    classes: list[str] | None
    missing: npt.NDArray[np.float64]
    notes: tuple[str, ...] = ()
    cut: bool = False
    gaps: list[Gap] | None = None

    @property
    def share(self) -> float:
        """The share of all samples that are missing."""
        return float(self.missing.mean())

    @property
    def empty(self) -> list[str]:
        """The channels without a sample."""
        return [n for n, share in zip(self.channels, self.missing, strict=True) if share == 1]

    @property
    def interruptions(self) -> int:
        """How many times the signal breaks off, where the source did not cut it into trials."""
        return 0 if self.cut else len(self.segments) - 1

    @property
    def unlabelled(self) -> int:
        """How many trials have no class."""
        return 0 if self.classes is None else self.classes.count("")

    @property
    def without_samples(self) -> int:
        """How many trials are stored empty."""
        return int((self.trials[:, 1] == 0).sum())

    @property
    def touched(self) -> list[int]:
        """The trials that lack samples, from 1."""
        gaps = np.array([(gap.start, gap.stop) for gap in self.gaps or ()]).reshape(-1, 2)
        start, length = self.trials.T
        inside = (gaps[:, 0] < (start + length)[:, None]) & (gaps[:, 1] > start[:, None])
        return [int(i) + 1 for i in np.flatnonzero(inside.any(axis=1))]


@dataclass(frozen=True)
class StoreTimes:
    """The courses of the recordings of a store.

    Attributes
    ----------
    label : str
        What the classes are of, as ``valence>5``; empty where trials are told apart by nothing.
    classes : list of str
    usual : int or None
        The number of trials that more than half of the recordings have.
    courses : dict of str to Times
        By recording.
    unreadable : dict of str to str
        By recording, why its course could not be read.
    """

    label: str = ""
    classes: list[str] = field(default_factory=list)
    usual: int | None = None
    courses: dict[str, Times] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    def fewer(self, course: Times) -> int:
        """Return how many trials a recording has less than is usual."""
        return max(0, (self.usual or 0) - len(course.trials))

    def lost(self) -> list[Times]:
        """Return the recordings that lack anything, those that lack the most first."""
        found = {
            course.recording: (
                course.share,
                self.fewer(course) + course.without_samples,
                course.interruptions,
                course.unlabelled,
            )
            for course in self.courses.values()
        }
        lacking = [name for name, own in found.items() if any(own)]
        lacking.sort(key=lambda name: [-n for n in found[name]])
        return [self.courses[name] for name in lacking]


# ------------------------------------------------------------------------------- reading


def n_timed(store: Store) -> int:
    """Return of how many recordings of a store the times are read."""
    return min(MOST_TIMED, len(store))


def read_times(survey: Survey, bar: Any) -> StoreTimes:
    """Read the courses of a store's recordings, and where those that lack samples lack them.

    Parameters
    ----------
    survey : Survey
    bar : tqdm.tqdm
        Is moved on by one for each recording.
    """
    store, names = survey.store, list(survey.table.index)
    chosen = np.linspace(0, len(names) - 1, n_timed(store)).round().astype(int)
    column, threshold, label = _told_apart_by(survey)

    def read(name: str) -> Times | str:
        try:
            return _read(store[name], column, threshold)
        except Exception as error:  # one damaged recording must not cost the report
            return surveys.reason(error)

    courses: dict[str, Times] = {}
    unreadable: dict[str, str] = {}
    # Threads wait for a network; for a disk they would only wait for one another.
    with ThreadPoolExecutor(_READERS if "://" in store.path else 1) as pool:
        wanted = [names[i] for i in chosen]
        for name, found in zip(wanted, pool.map(read, wanted), strict=True):
            if isinstance(found, Times):
                courses[name] = found
            else:
                unreadable[name] = found
            bar.update()
    counts = Counter(survey.table["n_trials"].tolist()) if len(survey.table) else Counter[int]()
    most = counts.most_common(1)[0] if counts else (0, 0)
    known = {name for own in courses.values() for name in own.classes or () if name}
    times = StoreTimes(
        label=label,
        classes=ordered_classes(known, threshold) if column else [],
        usual=int(most[0]) if most[1] > len(survey.table) / 2 else None,
        courses=courses,
        unreadable=unreadable,
    )
    lacking_samples = [course for course in times.lost() if course.share]
    for course in lacking_samples[:MOST_DRAWN]:
        try:
            courses[course.recording] = replace(course, gaps=list(_gaps(store, course)))
        except Exception as error:
            unreadable[course.recording] = surveys.reason(error)
    return times


def _told_apart_by(survey: Survey) -> tuple[str, float | None, str]:
    """Return the label that classes are of, its threshold, and both as a target."""
    column, threshold = usual_rule(survey.store.name)
    if column in survey.labels:
        return column, threshold, column if threshold is None else f"{column}>{threshold:g}"
    for name, own in survey.labels.items():
        if 1 < len({one(value) for values in own.values() for value in values}) <= MOST_CLASSES:
            return name, None, name
    return "", None, ""


def _read(recording: StoredRecording, column: str, threshold: float | None) -> Times:
    arrays = {f"{part}_{side}" for part in _PARTS for side in ("onset", "length")}
    arrays |= {"quality_missing", "stimulus", *([column] if column in recording.labels else [])}
    there = arrays & set(recording.group.array_keys())
    surveys.check(recording, there)
    segments, trials, baselines = (
        np.stack([recording.array(f"{part}_{side}") for side in ("onset", "length")], axis=1)
        for part in _PARTS
    )
    # A recording that lacks the label has trials without a value.
    values = recording.array(column) if column in there else np.full(len(trials), np.nan)
    channels = recording.channels
    lacking = recording.array("quality_missing") if "quality_missing" in there else np.zeros(0)
    n_times = int(recording.attrs["n_times"])
    held = int(trials[:, 1].sum() + baselines[:, 1].sum())
    # A recording without events is a trial as a whole, and names no stimulus.
    shown = "stimulus" in there and any(map(str, recording.array("stimulus")))
    return Times(
        recording=recording.recording,
        sfreq=recording.sfreq,
        n_times=n_times,
        channels=channels,
        segments=segments,
        trials=trials,
        baselines=baselines,
        classes=classes_of(values, threshold) if column else None,
        missing=lacking.astype(float) if lacking.size else np.zeros(len(channels)),
        notes=tuple(recording.attrs.get("source", {}).get("notes", ())),
        cut=bool(len(segments) > 1 and shown and held >= CUT_APART * n_times),
    )


def _gaps(store: Store, course: Times) -> Iterator[Gap]:
    """Find where samples are missing, leaving out channels that have none at all."""
    recording = store[course.recording]
    kept = course.missing < 1
    names = np.array(course.channels)[kept]
    last: Gap | None = None
    for start in range(0, course.n_times, _BLOCK):
        gone = np.isnan(recording.stored_signal(start, min(start + _BLOCK, course.n_times))[kept])
        lacking = gone.sum(axis=0)
        # 0: all channels are there; 1: some; 2: none.
        state = (lacking > 0).astype(int) + (lacking == len(names)) if len(names) else lacking
        bounds = [0, *(np.flatnonzero(np.diff(state)) + 1), len(state)]
        for low, high in pairwise(map(int, bounds)):
            if not state[low]:
                continue
            who = tuple(names[gone[:, low:high].any(axis=1)].tolist())
            gap = Gap(start + low, start + high, who, bool(state[low] == 2))
            if last and (last.stop, last.every) == (gap.start, gap.every):  # across two blocks
                both = set(last.channels) | set(gap.channels)
                ordered = tuple(name for name in names.tolist() if name in both)
                gap = Gap(last.start, gap.stop, ordered, gap.every)
            elif last:
                yield last
            last = gap
    if last:
        yield last


# ------------------------------------------------------------------------------- the map


@dataclass(frozen=True)
class TimeMap:
    """The map of missing time.

    Attributes
    ----------
    picture : bytes
        A row for each recording that is drawn.
    n_drawn, n_read, n_recordings : int
    gaps, breaks : bool
        Whether any is drawn.
    n_missing, n_searched : int
        How many recordings lack samples, and in how many of them the gaps were looked for.
    label : str
        What the colours of trials are of.
    head : list of str
        Columns of ``rows``.
    rows : list of list of str
        The recordings that lack anything, those that lack the most first.
    n_lost : int
        How many they are, with those without a row.
    in_short : str
        How many recordings lack what, and what the whole ones have.
    notes : list of (str, str)
        Recording, and what its reader left out or read otherwise.
    n_notes : int
    unreadable : list of (str, str)
        Recordings whose course or signal could not be read, that the section does not list above.
    """

    picture: bytes
    n_drawn: int
    n_read: int
    n_recordings: int
    gaps: bool
    breaks: bool
    n_missing: int
    n_searched: int
    label: str
    head: list[str]
    rows: list[list[str]]
    n_lost: int
    in_short: str
    notes: list[tuple[str, str]]
    n_notes: int
    unreadable: list[tuple[str, str]]


HEAD = ["recording", "minutes", "missing", "gaps", "longest gap", "breaks", "trials", "in words"]


def time_map(survey: Survey, times: StoreTimes) -> TimeMap:
    """Draw the recordings that lack anything, or all of them where there is room."""
    lost = times.lost()
    names = {course.recording for course in lost}
    whole = [course for course in times.courses.values() if course.recording not in names]
    # Of many, the whole ones are told in a sentence; a few show what the others lack.
    room = MOST_DRAWN if len(times.courses) <= MOST_DRAWN else min(MOST_DRAWN, len(lost) + 3)
    drawn = [*lost, *whole][:room]
    notes = [(own.recording, note) for own in times.courses.values() for note in own.notes]
    return TimeMap(
        picture=draw(times, drawn) if drawn else b"",
        n_drawn=len(drawn),
        n_read=len(times.courses),
        n_recordings=len(survey.table),
        gaps=any(course.gaps for course in drawn),
        breaks=any(course.interruptions for course in drawn),
        n_missing=sum(course.share > 0 for course in lost),
        n_searched=sum(course.gaps is not None for course in lost),
        label=times.label,
        head=HEAD,
        rows=[row(times, course) for course in lost[:MOST_ROWS]],
        n_lost=len(lost),
        in_short=_in_short(times, lost, whole),
        notes=notes[:MOST_NOTES],
        n_notes=len(notes),
        unreadable=[
            (name, why) for name, why in times.unreadable.items() if name not in survey.unreadable
        ],
    )


def draw(times: StoreTimes, courses: Sequence[Times]) -> bytes:
    """Draw recordings along their time, a row each."""
    return figures.timelines([_timeline(times, course) for course in courses], times.classes)


def _timeline(times: StoreTimes, course: Times) -> figures.Timeline:
    minute = 60 * course.sfreq
    place = {name: i for i, name in enumerate(times.classes)}
    classes = course.classes if course.classes is not None else [None] * len(course.trials)
    gaps = course.gaps or ()
    return figures.Timeline(
        name=course.recording,
        minutes=course.n_times / minute,
        trials=[
            (start / minute, length / minute, None if name is None else place.get(name, -1))
            for (start, length), name in zip(course.trials.tolist(), classes, strict=True)
        ],
        breaks=[start / minute for start, _ in course.segments[1:].tolist()]
        if course.interruptions
        else [],
        every=[(gap.start / minute, gap.stop / minute) for gap in gaps if gap.every],
        some=[(gap.start / minute, gap.stop / minute) for gap in gaps if not gap.every],
        remark=lacking(times, course, brief=True),
    )


def row(times: StoreTimes, course: Times) -> list[str]:
    """Return the cells of ``HEAD``."""
    longest = max((gap.stop - gap.start for gap in course.gaps or ()), default=0) / course.sfreq
    known = course.gaps is not None
    return [
        course.recording,
        f"{course.n_times / course.sfreq / 60:.1f}",
        f"{course.share:.2%}" if course.share else "0",
        f"{len(course.gaps or ()):,}" if known or not course.share else "–",
        f"{longest:.2f} s" if longest else "–",
        f"{course.interruptions}",
        f"{len(course.trials)}",
        lacking(times, course),
    ]


def lacking(times: StoreTimes, course: Times, *, brief: bool = False) -> str:
    """Say what a recording lacks; empty where it lacks nothing."""
    said = []
    if course.share:
        said.append(f"{figures.brief(100 * course.share)} % missing")
        if empty := course.empty:
            said.append(f"{page.plural(len(empty), 'channel')} without a sample")
        if not brief and (touched := course.touched):
            said.append(f"{page.plural(len(touched), 'trial')} with samples missing")
    if course.interruptions:
        said.append(page.plural(course.interruptions, "break"))
    if fewer := times.fewer(course):
        said.append(f"{len(course.trials)} of {len(course.trials) + fewer} trials")
    if course.without_samples:
        said.append(f"{page.plural(course.without_samples, 'trial')} without a sample")
    if course.unlabelled:
        said.append(f"{page.plural(course.unlabelled, 'trial')} without a class")
    return ", ".join(said)


def _in_short(times: StoreTimes, lost: Sequence[Times], whole: Sequence[Times]) -> str:
    n = len(times.courses)
    if not n:
        return ""
    counts = [
        (sum(course.share > 0 for course in lost), "samples"),
        (sum(times.fewer(course) > 0 for course in lost), "trials that the others have"),
        (sum(course.without_samples > 0 for course in lost), "every sample of a trial"),
        (sum(course.unlabelled > 0 for course in lost), f"the class of a trial ({times.label})"),
    ]
    said = [f"{k:,} lack{'s' if k == 1 else ''} {what}" for k, what in counts if k]
    broken = sum(course.interruptions > 0 for course in lost)
    said += [f"{broken:,} {'is' if broken == 1 else 'are'} interrupted"] if broken else []
    beginning = (
        f"Of {page.plural(n, 'recording')}, {', '.join(said)}."
        if said
        else f"No recording of {n:,} lacks a sample, is interrupted or has a trial less than usual."
    )
    if not whole:
        return beginning
    minutes = [course.n_times / course.sfreq / 60 for course in whole]
    trials = page.span({len(course.trials) for course in whole})
    apart = sum(len(course.segments) > 1 for course in whole)
    cut = f"; the source holds {apart:,} of them cut into trials" if apart else ""
    lasting = page.span(float(f"{m:.1f}") for m in (min(minutes), max(minutes)))
    rest = "" if not said else f" The other {len(whole):,} are whole:" if len(whole) > 1 else ""
    if said and len(whole) == 1:
        rest = " The other one is whole:"
    tail = f" {lasting} min, {trials} trials each{cut}."
    return beginning + (f"{rest}{tail}" if said else f" They last{tail}")
