"""A recording that MNE has opened as a ``Recording``: what every reader built on MNE shares.

MNE parses the formats; this module decides what is EEG, brings it to microvolts, finds where the
recording was interrupted, and refuses files that MNE would read short, joined or unscaled without
a word. Nothing here cleans a signal.
"""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline.channels import UCS
from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.whole import check_brainvision, check_edf, check_fif, read_edf_header
from omfa.pipeline.recording import Auxiliary, Key, Recording
from omfa.pipeline.words import some

if TYPE_CHECKING:
    from collections.abc import Iterator

    import mne

UNITS = {"V": 1e6, "mV": 1e3, "uV": 1.0, "nV": 1e-3}
"""What a value in each unit is in microvolts."""

# What MNE multiplies a file's numbers by to have volts, by the unit that the file declares.
_TO_VOLTS = {"V": 1.0, "mV": 1e-3, "µV": 1e-6, "nV": 1e-9}

# The unit that MNE assumes where a format has no field for it; volts in every other.
_ASSUMED = {".set": "µV", ".fdt": "µV"}

# EDF, and often BDF, has no channel types: these are names that recorders give to what is not EEG.
_NOT_EEG = re.compile(
    r"""^(?:
        (?:EEG[\s_-]+)?[LRHVI]?(?:EOG|ECG|EKG|EMG)  # EOG horizontal, VEOG, ECG1
      | HEO|VEO|E[XO]G\d | LOC|ROC | EXG\d+
      | STATUS|STI|TRIG|STIM|MARKER|EVENT|DIN\d|DC\d|PHOTIC|COUNTER|TIME
      | RESP|BREATH|THOR|ABD|AIRFLOW|SNORE | TEMP | SPO2|SAO2|PULSE|PLETH|BVP|PPG|HR$|HEART
      | GSR|EDA|SCL|SCR | ERGO | ACC|GYR|MAG|QUAT | AUX|MISC | BATT|CHARGE
      | (?:EDF|BDF)\s+ANNOTATIONS
    )""",
    re.IGNORECASE | re.VERBOSE,
)

# Where MNE's readers mark that the samples before and after were not recorded in one go.
_INTERRUPTION = re.compile(r"^(?:(?:BAD|EDGE)[ _]boundary|boundary|New Segment/.*)$")
_BAD = re.compile(r"^bad", re.IGNORECASE)

# Values decoded at a time: MNE decodes to float64, the recording is kept in float32.
_BLOCK = 2**20


@dataclass(frozen=True)
class ChannelRules:
    """Which channels are EEG, and their unit, where the file does not say.

    Attributes
    ----------
    not_eeg : tuple of str
        Channels to keep apart from the EEG, as names or patterns (``"Sensor*"``), as MNE spells
        them.
    unit : {"V", "mV", "uV", "nV"} or None
        The unit of the EEG's numbers, in place of the one that the file declares.
    """

    not_eeg: tuple[str, ...] = ()
    unit: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.not_eeg, str):
            object.__setattr__(self, "not_eeg", (self.not_eeg,))
        if self.unit is not None and self.unit not in UNITS:
            raise DataError(
                "Choosing the unit of a source",
                f"{self.unit!r} is no unit of voltage that is known",
                f"Choose one of {', '.join(UNITS)}",
            )


Pairs = Mapping[str, str] | tuple[tuple[str, str], ...]
"""A mapping as a reader's option: given as either, kept as pairs, which hash and pickle."""


def pairs(option: Pairs) -> tuple[tuple[str, str], ...]:
    """Return a mapping as pairs."""
    return tuple(dict(option).items())


def open_raw(path: Path, *, where: str) -> mne.io.BaseRaw:
    """Open a recording with MNE without reading its signal.

    Parameters
    ----------
    path : Path
        The file; of a BrainVision recording, the ``.vhdr``.
    where : str
        The reader and the recording, for the error.

    Raises
    ------
    DataError
        If MNE cannot read it, or would read it short, or would join pieces that are apart.
    """
    import mne  # here and below: MNE takes a second to import, and other readers do without it

    with mne_errors(where):
        if path.suffix == ".fif":
            for part in (path, *companions(path)):
                check_fif(part, where=where)
        raw = mne.io.read_raw(path, verbose="error")
        check_whole(raw, path, where=where)
    return raw


def check_whole(raw: mne.io.BaseRaw, path: Path, *, where: str) -> None:
    """Raise if an EDF, BDF or BrainVision file is shorter than it says, or was interrupted.

    Raises
    ------
    DataError
        MNE itself would read on; other formats are left to MNE.
    """
    if path.suffix.lower() in (".edf", ".bdf"):
        check_edf(path, where=where)
    elif path.suffix in (".vhdr", ".ahdr"):
        check_brainvision(path, raw.n_times, where=where)


@contextmanager
def mne_errors(where: str) -> Iterator[None]:
    """Turn whatever MNE raises on a file that it cannot read into a ``DataError``."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:  # MNE's readers raise whatever their parsing meets
        raise DataError(
            where,
            f"MNE cannot read it ({type(error).__name__}: {' '.join(str(error).split())[:300]})",
            "Get the file again, or leave it out of the folder",
        ) from error


def check_unique(keys: Iterable[Key], *, where: str, action: str) -> None:
    """Raise if two recordings have one name.

    Raises
    ------
    DataError
    """
    seen: dict[str, Key] = {}
    for key in keys:
        if (first := seen.setdefault(key.recording, key)) is not key:
            found = f"{first.files[0]} and {key.files[0]} would both be {key.recording}"
            raise DataError(where, found, action)


def companions(path: Path) -> list[Path]:
    """List the other files of a recording, those that exist.

    A BrainVision header names its signal and its markers, an EEGLAB ``.set`` may keep its signal in
    an ``.fdt``, and a ``.fif`` above 2 GB goes on in ``-1.fif``.
    """
    if path.suffix in (".vhdr", ".ahdr"):
        text = path.read_text(encoding="latin-1")
        names = re.findall(r"^(?:DataFile|MarkerFile)\s*=\s*(.+?)\s*$", text, re.MULTILINE)
        found = [path.parent / name for name in names]
    elif path.suffix == ".set":
        found = [path.with_suffix(".fdt")]
    elif path.suffix == ".fif":
        found = sorted(path.parent.glob(f"{glob.escape(path.stem)}-[0-9]*.fif"))
    else:
        found = []
    return [other for other in found if other.is_file()]


def plain(text: str) -> str:
    """Return the letters and digits of a name, which is what a key takes."""
    return re.sub(r"[^A-Za-z0-9]", "", text)


def numbers(column: pd.Series) -> pd.Series:
    """Return a column of text as numbers, if each of its cells is one or says that it is missing.

    Missing numbers are NaN; a column that holds any text stays as it is.
    """
    missing = column.str.strip().isin(["", "n/a", "NA", "NaN", "nan"])
    try:
        return column.astype(object) if missing.all() else pd.to_numeric(column.mask(missing))
    except ValueError:
        return column.astype(object)


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
) -> Recording:
    """Read a recording's signal and place its trials.

    The signal is read once, in blocks, and kept as float32 microvolts. Where the recording was
    interrupted a new segment begins; an event across an interruption becomes a trial per segment.
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

    Raises
    ------
    DataError
        If no channel is EEG, a channel's unit is not known, the EEG has several rates, or an event
        is outside the recording.
    """
    rules = rules or ChannelRules()
    with mne_errors(where):
        eeg, rest = _sort_channels(raw, rules, where=where)
        scale = {i: _to_microvolts(raw, i, rules.unit, unit_factor, where=where) for i in eeg}
        scale |= {i: _auxiliary_scale(raw, i, unit_factor)[0] for i in rest}
        main, *others = [
            (part, picks, _read(part, at, np.array([scale[i] for i in picks])))
            for part, at, picks in _by_rate(raw, eeg, rest, where=where)
        ]
    sfreq = float(main[0].info["sfreq"])
    seconds = _interruptions(raw)
    bounds = _samples(seconds, sfreq, main[2].shape[1])
    auxiliary = [
        _auxiliary(raw, part, picks, values, seconds)
        for part, picks, values in ((main[0], main[1][len(eeg) :], main[2][len(eeg) :]), *others)
        if picks
    ]
    return Recording(
        key=key,
        channels=_names(raw, eeg, where=where),
        sfreq=sfreq,
        segments=_cut(main[2][: len(eeg)], bounds),
        trials=_place(events, bounds, sfreq, where=where),
        auxiliary=auxiliary,
        positions=_measured(raw, eeg),
        participant=_person(raw) | dict(participant or {}),
        source=_history(raw, seconds) | dict(source or {}),
    )


def annotation_events(
    raw: mne.io.BaseRaw,
    *,
    where: str,
    events: Mapping[str, str] | None = None,
    duration: float | None = None,
) -> pd.DataFrame:
    """Return a recording's annotations as events, for ``to_recording``.

    An annotation without a duration lasts to the next one that is later, of any kind, or to the
    end. BAD spans and interruptions are no events.

    Parameters
    ----------
    raw : mne.io.BaseRaw
    where : str
        The reader and the recording, for the error.
    events : mapping or None
        The descriptions to take, each with the label to give it; None takes every one as it is.
    duration : float or None
        Seconds, in place of the annotations' own.

    Returns
    -------
    DataFrame
        ``onset``, ``duration``, ``stimulus`` (the description) and ``event`` (its label).

    Raises
    ------
    DataError
        If no annotation is taken.
    """
    told_by = raw.annotations
    onset = told_by.onset - raw.first_time
    table = pd.DataFrame(
        {
            "onset": onset,
            "duration": told_by.duration,
            "stimulus": pd.Series([str(d) for d in told_by.description], dtype=object),
        }
    )
    kept = np.array([is_event(name, events or ()) for name in table["stimulus"]], dtype=bool)
    table = table[kept].reset_index(drop=True)
    # markers last a sample, or nothing
    table["duration"] = table["duration"].where(table["duration"] > 1.5 / raw.info["sfreq"])
    table = last_until_next(table, end=raw.n_times / raw.info["sfreq"], duration=duration)
    known = sorted(set(table["stimulus"]))
    table["event"] = table["stimulus"].map(dict(events) if events else {n: n for n in known})
    table = table.dropna(subset="event").reset_index(drop=True)
    if table.empty:
        wanted = f"none of {', '.join(events)}" if events else "no annotation"
        raise DataError(
            where,
            f"{wanted} is among its events ({', '.join(known) or 'none'})",
            "Name its annotations by --events NAME=LABEL, or leave the file out by --pattern",
        )
    return table


def is_event(description: str, asked: Container[str] = ()) -> bool:
    """Whether an annotation is of an event, and not of a BAD span or an interruption.

    An annotation that is asked for by name is of an event whatever it begins with.
    """
    return description in asked or not (_BAD.match(description) or _INTERRUPTION.match(description))


def last_until_next(
    table: pd.DataFrame, *, end: float, duration: float | None = None
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
    """
    table = table.sort_values("onset", kind="stable").reset_index(drop=True)
    onset = table["onset"].to_numpy(float)
    later = np.searchsorted(onset, onset, side="right")
    until_next = np.append(onset, end)[later] - onset
    own = table["duration"].to_numpy(float)
    given = own if duration is None else np.full(len(own), duration)
    return table.assign(duration=np.where(given > 0, given, until_next))


def _sort_channels(
    raw: mne.io.BaseRaw, rules: ChannelRules, *, where: str
) -> tuple[list[int], list[int]]:
    """Return the indices of the EEG and of the other channels."""
    eeg: list[int] = []
    rest: list[int] = []
    for i, (name, kind) in enumerate(zip(raw.ch_names, raw.get_channel_types(), strict=True)):
        is_eeg = kind == "eeg" and (name in UCS or not _NOT_EEG.match(name.strip()))
        (eeg if is_eeg and not _matches(name, rules.not_eeg) else rest).append(i)
    if not eeg:
        raise DataError(
            where,
            f"none of its {len(raw.ch_names)} channels is EEG ({some(raw.ch_names, 6)})",
            "Leave the file out, or name fewer channels by --not-eeg",
        )
    return eeg, rest


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name.strip(), pattern) or name == pattern for pattern in patterns)


def _names(raw: mne.io.BaseRaw, eeg: Sequence[int], *, where: str) -> list[str]:
    """Return the names as the file has them: MNE numbers those that occur twice (F1-0, F1-1)."""
    names = []
    for i in eeg:
        numbered = re.fullmatch(r"(.+)-\d+", raw.ch_names[i])
        twice = numbered and numbered[1] in UCS and f"{numbered[1]}-0" in raw.ch_names
        names.append(numbered[1] if numbered and twice else raw.ch_names[i])
    for name in names:
        if names.count(name) > 1:
            same = [raw.ch_names[i] for i, other in zip(eeg, names, strict=True) if other == name]
            raise DataError(
                where,
                f"{len(same)} channels are labelled {name!r} ({', '.join(same)} in order)",
                f"Keep all but one apart from the EEG, such as --not-eeg {same[-1]!r}",
            )
    return names


def _declared_unit(raw: mne.io.BaseRaw, i: int) -> str | None:
    """Return the unit that the file declares; None where its format has no field for it."""
    units: Mapping[str, str] = getattr(raw, "_orig_units", None) or {}
    unit = units.get(raw.ch_names[i])
    if unit == "nV" and Path(raw.filenames[0] or "").suffix.lower() in (".edf", ".bdf"):
        return "n/a"  # MNE does not know the unit in these formats, and leaves the numbers alone
    return None if unit is None else unit.replace("μ", "µ")


def _to_microvolts(
    raw: mne.io.BaseRaw, i: int, unit: str | None, factor: float, *, where: str
) -> float:
    """Return what MNE's values of an EEG channel are multiplied by."""
    declared = _declared_unit(raw, i)
    if unit is not None:
        assumed = _ASSUMED.get(Path(raw.filenames[0] or "").suffix, "V")
        return UNITS[unit] / _TO_VOLTS.get(declared or assumed, 1.0)
    if declared is not None and declared not in _TO_VOLTS:
        raise DataError(
            where,
            f"channel {raw.ch_names[i]!r} declares no unit of voltage ({declared!r})",
            "Give the unit of its numbers by --unit uV (or V, mV, nV), or keep the channel apart "
            "from the EEG by --not-eeg",
        )
    return factor


def _auxiliary_scale(raw: mne.io.BaseRaw, i: int, factor: float) -> tuple[float, str]:
    """Return the factor and the unit of a channel that is not EEG: microvolts if it is voltage."""
    declared, kind = _declared_unit(raw, i), raw.get_channel_types(picks=[i])[0]
    if kind == "stim":
        return 1.0, ""
    if declared is None:
        voltage = kind not in ("misc", "resp", "temperature")
    else:
        voltage = declared in _TO_VOLTS
    if voltage:
        return factor, "uV"
    # MNE brings prefixed units to plain ones: µS to S
    return 1.0, "" if declared in (None, "n/a") else declared.removeprefix("µ")


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
    if path.suffix.lower() not in (".edf", ".bdf"):
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
        part = mne.io.read_raw(path, exclude=others, exclude_after_unique=True, verbose="error")
        groups.append((part, [part.ch_names.index(names[i]) for i in inside], inside))
    return groups


def _read(
    raw: mne.io.BaseRaw, picks: Sequence[int], scale: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Read channels as float32, in blocks of time."""
    signal = np.empty((len(picks), raw.n_times), np.float32)
    step = max(_BLOCK // len(raw.ch_names), 1)
    for start in range(0, raw.n_times, step):
        stop = min(start + step, raw.n_times)
        block = raw.get_data(list(picks), start=start, stop=stop, verbose="error")
        np.multiply(block, scale[:, None], out=signal[:, start:stop], casting="same_kind")
    return signal


def _interruptions(raw: mne.io.BaseRaw) -> list[float]:
    """Return when recording went on after a pause, seconds from the first sample."""
    onset = raw.annotations.onset - raw.first_time
    found = zip(onset, raw.annotations.description, strict=True)
    return sorted({float(at) for at, name in found if _INTERRUPTION.match(str(name)) and at > 0})


def _samples(seconds: Iterable[float], sfreq: float, n_times: int) -> npt.NDArray[np.int64]:
    """Return the segments' ends and starts in samples: 0, each interruption, the end."""
    inside = {round(at * sfreq) for at in seconds}
    return np.array([0, *sorted(at for at in inside if 0 < at < n_times), n_times])


def _cut(
    signal: npt.NDArray[np.float32], bounds: npt.NDArray[np.int64]
) -> list[npt.NDArray[np.floating]]:
    return [signal[:, start:stop] for start, stop in itertools.pairwise(bounds)]


def _place(
    events: pd.DataFrame | None, bounds: npt.NDArray[np.int64], sfreq: float, *, where: str
) -> pd.DataFrame:
    """Return the trial table: events in samples of the segments they lie in."""
    if events is None:
        events = pd.DataFrame({"stimulus": [""]})
    n_times = int(bounds[-1])
    if "onset" in events:
        onset, duration = (events[name].to_numpy(float) for name in ("onset", "duration"))
        # Halves go up at both ends, whatever float leaves of them, so that events of one duration
        # have one length.
        start, stop = np.floor(np.array([onset, onset + duration]) * sfreq + 0.5 + 1e-6)
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
    rows = [
        (row, segment, int(max(begin, low) - low), int(min(end, high) - max(begin, low)))
        for row, (begin, end) in enumerate(zip(start, stop, strict=True))
        for segment, (low, high) in enumerate(itertools.pairwise(bounds))
        if max(begin, low) < min(end, high)
    ]
    placed = pd.DataFrame(rows, columns=["event", "segment", "onset", "length"])
    labels = events.drop(columns=["onset", "duration"], errors="ignore").iloc[placed.pop("event")]
    placed["baseline_onset"] = placed["baseline_length"] = 0
    return pd.concat([placed, labels.reset_index(drop=True)], axis=1)


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
        units=tuple(_auxiliary_scale(raw, i, 1e6)[1] for i in picks),
        sfreq=sfreq,
        segments=_cut(values, _samples(interruptions, sfreq, values.shape[1])),
    )


def _measured(raw: mne.io.BaseRaw, eeg: Sequence[int]) -> npt.NDArray[np.float64] | None:
    """Return electrode positions in the head frame, metres; NaN where there is none."""
    from mne.io.constants import FIFF

    chs = [raw.info["chs"][i] for i in eeg]
    loc = np.array([ch["loc"][:3] for ch in chs], float)
    head = np.array([ch["coord_frame"] == FIFF.FIFFV_COORD_HEAD for ch in chs])
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
    onset = raw.annotations.onset - raw.first_time
    bad = [
        [round(float(at), 4), round(float(lasting), 4), str(name)]
        for at, lasting, name in zip(
            onset, raw.annotations.duration, raw.annotations.description, strict=True
        )
        if _BAD.match(str(name)) and not _INTERRUPTION.match(str(name))
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
