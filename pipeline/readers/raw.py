"""A recording that MNE has opened as a ``Recording``: what every reader built on MNE shares.

MNE parses the formats (``opening``); here its channels are sorted, brought to microvolts and cut
into the pieces that were recorded in one go. Nothing here cleans a signal.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.channel_types import (
    ChannelRules,
    auxiliary_scale,
    names_of,
    sort_channels,
    to_microvolts,
)
from omfa.pipeline.readers.events import MNE_KINDS, interruptions_of, interrupts, is_bad, kind_of
from omfa.pipeline.readers.montages import place_by_montage
from omfa.pipeline.readers.opening import EDF_SUFFIXES, mne_errors, suffix
from omfa.pipeline.readers.whole import read_edf_header
from omfa.pipeline.recording import Auxiliary, Key, Recording
from omfa.pipeline.words import some

if TYPE_CHECKING:
    import mne


# Values decoded at a time: MNE decodes to float64, the recording is kept in float32.
_BLOCK = 2**20


def check_unique(
    keys: Sequence[Key],
    spelled: Sequence[tuple[str, ...]] = (),
    *,
    where: str,
    action: str,
) -> None:
    """Raise if two recordings have one name, or two people, or two sessions of one person.

    Raise too if one name is spelled by two codings of its letters, as macOS and others write it: it
    would be two people.

    Parameters
    ----------
    keys : sequence of Key
    spelled : sequence of tuple of str
        The subject and the session of each key as the source spells them, where a key may lack
        letters of theirs.
    where, action : str
        For the error.

    Raises
    ------
    DataError
    """
    seen: dict[str, Key] = {}
    for key in keys:
        if (first := seen.setdefault(key.recording, key)) is not key:
            found = f"{first.files[0]} and {key.files[0]} would both be {key.recording}"
            raise DataError(where, found, action)
    for depth, what in ((1, "subject"), (2, "session")):
        known: dict[tuple[str, ...], tuple[str, ...]] = {}
        written: dict[tuple[str, ...], tuple[str, ...]] = {}
        for key, names in zip(keys, spelled, strict=bool(spelled)):
            ids = (key.subject, key.session)[:depth]
            if (other := known.setdefault(ids, names[:depth])) != names[:depth]:
                raise DataError(
                    where,
                    f"{other[-1]!r} and {names[depth - 1]!r} would both be {what} {ids[-1]}, since "
                    "names keep letters and digits only",
                    action,
                )
            composed = tuple(unicodedata.normalize("NFC", name) for name in names[:depth])
            if written.setdefault(composed, names[:depth]) != names[:depth]:
                raise DataError(
                    where,
                    f"{composed[-1]!r} is there twice, by two codings of a letter with an accent, "
                    f"as one sign and as two, and would be two {what}s",
                    action,
                )


def to_recording(
    raw: mne.io.BaseRaw,
    key: Key,
    *,
    where: str,
    events: pd.DataFrame | None = None,
    rules: ChannelRules | None = None,
    unit_factor: float = 1e6,
    participant: Mapping[str, Any] | None = None,
    source: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> Recording:
    """Read a recording's signal and place its trials.

    The signal is read once, in blocks, and kept as float32 microvolts. Where the recording was
    interrupted a new segment begins; an event across an interruption becomes a trial per segment,
    and a note says so.
    Spans marked BAD stay in the signal and are listed in ``source``.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        Opened, its signal preloaded or not.
    key : Key
    where : str
        The reader and the recording, for errors.
    events : DataFrame or None
        A row per trial: ``onset`` and ``duration`` in seconds from the first sample, ``stimulus``,
        and a column per label. Without an ``onset``, its one row is of the whole recording; None
        is a whole recording without labels.
    rules : ChannelRules or None
    unit_factor : float
        What brings MNE's values to microvolts; not 1e6 where they are not volts.
    participant, source : mapping or None
        As in ``Recording``; what MNE reads is added.
    notes : sequence of str
        As in ``Recording``; what is found here is added.

    Raises
    ------
    DataError
        If no channel is EEG, a channel's unit is not known, the EEG has several rates, or an event
        is outside the recording.
    """
    rules, notes = rules or ChannelRules(), list(notes)
    if rules.montage is not None:
        place_by_montage(raw, rules.montage, root=Path(key.root), where=where)
    with mne_errors(where):
        eeg, rest = sort_channels(raw, rules, where=where, notes=notes)
        scale = {i: to_microvolts(raw, i, rules.unit, unit_factor, where=where) for i in eeg}
        scale |= {i: auxiliary_scale(raw, i, unit_factor)[0] for i in rest}
        main, *others = [
            (part, picks, _read(part, at, np.array([scale[i] for i in picks])))
            for part, at, picks in _by_rate(raw, eeg, rest, where=where)
        ]
    sfreq = float(main[0].info["sfreq"])
    seconds = interruptions_of(raw)
    bounds = _samples(seconds, sfreq, main[2].shape[1])
    auxiliary = [
        _auxiliary(raw, part, picks, values, seconds)
        for part, picks, values in ((main[0], main[1][len(eeg) :], main[2][len(eeg) :]), *others)
        if picks
    ]
    trials, times = _place(events, bounds, sfreq, where=where, notes=notes)
    return Recording(
        key=key,
        channels=names_of(raw, eeg, where=where),
        sfreq=sfreq,
        segments=_cut(main[2][: len(eeg)], bounds),
        trials=trials,
        times=times,
        auxiliary=auxiliary,
        positions=None if rules.ignore_positions else _measured(raw, eeg),
        participant=_person(raw) | dict(participant or {}),
        source=_history(raw, seconds) | dict(source or {}),
        notes=notes,
    )


def _by_rate(
    raw: mne.io.BaseRaw, eeg: Sequence[int], rest: Sequence[int], *, where: str
) -> list[tuple[mne.io.BaseRaw, list[int], list[int]]]:
    """Group channels by their rate in the file, the EEG's group first and the EEG first in it.

    MNE brings the channels of an EDF or BDF to the highest rate among them. To have each as it was
    recorded, the file is opened once per rate, without the other channels.

    Returns
    -------
    list of (raw, channels in that raw, channels in the raw given)
    """
    kept = [*eeg, *rest]
    path = Path(raw.filenames[0] or "")
    if suffix(path) not in EDF_SUFFIXES:
        return [(raw, kept, kept)]
    header = read_edf_header(path)
    is_signal = ~header.annotations
    rates = header.samples[is_signal] / header.duration
    if unscaled := [raw.ch_names[i] for i in eeg if not header.scaled[is_signal][i]]:
        raise DataError(
            where,
            f"the header gives no scale for {', '.join(unscaled)}: an empty range",
            "Correct the header's physical and digital range, or keep them apart by --not-eeg",
        )
    if (rates[kept] == rates.max()).all():
        return [(raw, kept, kept)]
    if len(found := sorted(set(rates[list(eeg)]))) > 1:
        raise DataError(
            where,
            f"its EEG channels have several rates ({', '.join(f'{rate:g}' for rate in found)} Hz)",
            "Keep those of one rate apart from the EEG by --not-eeg",
        )
    import mne

    names = mne.io.read_raw(path, verbose="error").ch_names
    groups = []
    for rate in dict.fromkeys(rates[kept]):
        inside = [i for i in kept if rates[i] == rate]
        others = [name for i, name in enumerate(names) if i not in inside]
        # After numbering, so that of two channels of one name one can be left out.
        part = mne.io.read_raw(path, exclude=others, exclude_after_unique=True, verbose="error")
        groups.append((part, [part.ch_names.index(names[i]) for i in inside], inside))
    return groups


def _read(
    raw: mne.io.BaseRaw, picks: Sequence[int], scale: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Read channels as float32, in blocks of time."""
    signal = np.empty((len(picks), raw.n_times), np.float32)
    # By all channels of the file, which MNE may decode to give some.
    step = max(_BLOCK // len(raw.ch_names), 1)
    for start in range(0, raw.n_times, step):
        stop = min(start + step, raw.n_times)
        block = raw.get_data(list(picks), start=start, stop=stop, verbose="error")
        # Straight into float32, without a copy in MNE's float64.
        np.multiply(block, scale[:, None], out=signal[:, start:stop], casting="same_kind")
    return signal


def _samples(seconds: Iterable[float], sfreq: float, n_times: int) -> npt.NDArray[np.int64]:
    """Return the segments' ends and starts in samples: 0, each interruption, the end."""
    inside = {round(at * sfreq) for at in seconds}
    return np.array([0, *sorted(at for at in inside if 0 < at < n_times), n_times])


def _cut(
    signal: npt.NDArray[np.float32], bounds: npt.NDArray[np.int64]
) -> list[npt.NDArray[np.floating]]:
    return [signal[:, start:stop] for start, stop in itertools.pairwise(bounds)]


def _place(
    events: pd.DataFrame | None,
    bounds: npt.NDArray[np.int64],
    sfreq: float,
    *,
    where: str,
    notes: list[str],
) -> tuple[pd.DataFrame, npt.NDArray[np.float64]]:
    """Return the trial table, in samples of the segments that events lie in, and the seconds."""
    if events is None:
        events = pd.DataFrame({"stimulus": [""]})
    n_times = int(bounds[-1])
    if "onset" in events:
        onset, duration = (events[name].to_numpy(float) for name in ("onset", "duration"))
        # Halves go up at both ends, whatever float leaves of them, so that events of one duration
        # have one length.
        start, stop = np.floor(np.array([onset, onset + duration]) * sfreq + 0.5 + 1e-6)
        # a marker where the recording ends, such as "Recording ends", is no trial
        last = (stop <= start) | ((start >= n_times - 1) & (stop <= start + 1))
        if (pointed := last & (start >= 0) & (start <= n_times + 1)).any() and not pointed.all():
            at = [f"event {row + 1} at {onset[row]:g} s" for row in np.flatnonzero(pointed)]
            notes.append(f"{where}: events without extent are left out: {some(at)}.")
            events = events[~pointed].reset_index(drop=True)
            onset, duration, start, stop = (v[~pointed] for v in (onset, duration, start, stop))
        # seconds that were written with few digits may end a sample late; NaN is never inside
        outside = ~((start >= 0) & (stop <= n_times + 1) & (stop > start) & (start < n_times))
        if outside.any():
            row = int(np.flatnonzero(outside)[0])
            raise DataError(
                where,
                f"event {row + 1} lasts from {onset[row]:g} to {onset[row] + duration[row]:g} s, "
                f"the recording from 0 to {n_times / sfreq:g} s",
                "Correct the event's onset and duration, which are in seconds",
            )
    else:
        start, stop = np.zeros(len(events)), np.full(len(events), n_times)
        onset = duration = np.full(len(events), np.nan)
    rows = [
        (row, segment, int(max(begin, low) - low), int(min(end, high) - max(begin, low)))
        for row, (begin, end) in enumerate(zip(start, stop, strict=True))
        for segment, (low, high) in enumerate(itertools.pairwise(bounds))
        if max(begin, low) < min(end, high)
    ]
    placed = pd.DataFrame(rows, columns=["event", "segment", "onset", "length"])
    event = placed.pop("event").to_numpy()
    pieces = np.bincount(event)
    if "onset" in events and len(across := np.flatnonzero(pieces > 1)):
        at = [f"event {row + 1} at {onset[row]:g} s" for row in across]
        notes.append(
            f"{where}: {len(across)} of {len(events)} events go across an interruption and become "
            f"a trial before and after it: {some(at)}."
        )
    low, high = (bounds[placed["segment"] + side] / sfreq for side in (0, 1))
    begin, end = onset[event], (onset + duration)[event]
    # A piece of an event lasts as long as its segment has of it; a whole one as its source says.
    inside = np.minimum(end, high) - np.maximum(begin, low)
    lasting = np.where(pieces[event] == 1, duration[event], inside)
    times = np.stack([np.maximum(begin - low, 0), lasting], axis=1)
    labels = events.drop(columns=["onset", "duration"], errors="ignore").iloc[event]
    placed["baseline_onset"] = placed["baseline_length"] = 0
    return pd.concat([placed, labels.reset_index(drop=True)], axis=1), times


def _auxiliary(
    raw: mne.io.BaseRaw,
    part: mne.io.BaseRaw,
    picks: Sequence[int],
    values: npt.NDArray[np.float32],
    interruptions: Iterable[float],
) -> Auxiliary:
    sfreq = float(part.info["sfreq"])
    return Auxiliary(
        names=tuple(raw.ch_names[i] for i in picks),
        units=tuple(auxiliary_scale(raw, i, 1e6)[1] for i in picks),
        sfreq=sfreq,
        segments=_cut(values, _samples(interruptions, sfreq, values.shape[1])),
    )


def _measured(raw: mne.io.BaseRaw, eeg: Sequence[int]) -> npt.NDArray[np.float64] | None:
    """Return electrode positions in the head frame, metres; NaN where there is none."""
    from mne.io.constants import FIFF

    chs = [raw.info["chs"][i] for i in eeg]
    if kind_of(raw) == ".cnt":  # Neuroscan keeps where its display draws a channel
        return None
    loc = np.array([ch["loc"][:3] for ch in chs], float)
    head = np.array([ch["coord_frame"] == FIFF.FIFFV_COORD_HEAD for ch in chs])
    # MNE fills what was not measured with zeros.
    known = np.isfinite(loc).all(1) & loc.any(1) & head
    return np.where(known[:, None], loc, np.nan) if known.any() else None


def _person(raw: mne.io.BaseRaw) -> dict[str, Any]:
    """Return what may be kept of the person: never a name or a date."""
    info = raw.info["subject_info"] or {}
    sex = {1: "M", 2: "F"}.get(info.get("sex", 0))
    hand = {1: "right", 2: "left", 3: "both"}.get(info.get("hand", 0))
    return {name: value for name, value in (("sex", sex), ("hand", hand)) if value}


def _history(raw: mne.io.BaseRaw, interruptions: Sequence[float]) -> dict[str, Any]:
    """Return the facts of the signal's history that MNE reads."""
    onset, kind = raw.annotations.onset - raw.first_time, kind_of(raw)
    bad = [
        [round(float(at), 4), round(float(lasting), 4), str(name)]
        for at, lasting, name in zip(
            onset, raw.annotations.duration, raw.annotations.description, strict=True
        )
        if is_bad(str(name), kind in MNE_KINDS) and not interrupts(str(name), kind)
    ]
    low, high = float(raw.info["highpass"]), float(raw.info["lowpass"])
    facts: dict[str, Any] = {
        "bad_spans": bad,
        "bad_channels": list(raw.info["bads"]),
        "interruptions": [round(at, 4) for at in interruptions],
    }
    # MNE says 0 to Nyquist where the file says nothing
    if low > 0 or high < raw.info["sfreq"] / 2:
        facts["band"] = [low, high]
    return {name: value for name, value in facts.items() if value}
