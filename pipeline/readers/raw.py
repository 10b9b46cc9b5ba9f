"""A recording that MNE has opened as a ``Recording``: what every reader built on MNE shares.

MNE parses the formats; this module decides what is EEG, brings it to microvolts, finds where the
recording was interrupted, and refuses files that MNE would read short, joined or unscaled without
a word. Nothing here cleans a signal.
"""

from __future__ import annotations

import itertools
import re
import warnings
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
from omfa.pipeline.readers.folder import check_there
from omfa.pipeline.readers.whole import (
    PREVIOUS,
    brainvision_markers,
    brainvision_parts,
    check_brainvision,
    check_edf,
    check_fif,
    fif_parts,
    fif_references,
    read_edf_header,
)
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
    eeg : tuple of str
        Channels that are EEG whatever type the file gives them, as names or patterns.
    ignore_positions : bool
        Take no measured positions from the file.
    """

    not_eeg: tuple[str, ...] = ()
    unit: str | None = None
    eeg: tuple[str, ...] = ()
    ignore_positions: bool = False

    def __post_init__(self) -> None:
        for name in ("not_eeg", "eeg"):
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, (value,))
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


def open_raw(
    path: Path, *, where: str, encoding: str | None = None, notes: list[str] | None = None
) -> mne.io.BaseRaw:
    """Open a recording with MNE without reading its signal.

    Parameters
    ----------
    path : Path
        The file; of a BrainVision recording, the ``.vhdr``.
    where : str
        The reader and the recording, for the error.
    encoding : str or None
        Of the texts in an EDF or BDF. None: UTF-8, as its standard has it, or else Latin-1.
    notes : list of str or None
        Where to say that the texts were in another encoding.

    Raises
    ------
    DataError
        If MNE cannot read it, or would read it short, or would join pieces that are apart.
    """
    import mne  # here and below: MNE takes a second to import, and other readers do without it

    check_there(path, where=where)
    kind = suffix(path)
    with mne_errors(where):
        if kind in (".vhdr", ".ahdr"):
            check_brainvision(path, where=where)
        if kind == ".fif":
            for part in (path, *companions(path)):
                check_fif(part, where=where)
            _check_first(path, where=where)
        if kind not in _EDF:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                raw = mne.io.read_raw(path, verbose="warning")
            _check_place(raw, path, where=where)
            beyond = [str(w.message) for w in said if _BEYOND.match(str(w.message))]
            if notes is not None and kind not in _ASKED:  # `annotation_events` names the others
                notes += [f"{where}: MNE says of its annotations: {text}" for text in beyond]
            return raw
        check_edf(path, where=where)
        options = {"encoding": encoding} if encoding else {}
        try:
            return mne.io.read_raw(path, verbose="error", **options)
        except Exception as error:
            if encoding or "invalid byte" not in str(error):
                raise
        raw = mne.io.read_raw(path, verbose="error", encoding="latin1")
        if notes is not None:
            notes.append(
                f"{where}: its texts are not in UTF-8 and were read as Latin-1. Give another "
                "--encoding if they look wrong."
            )
        return raw


# The formats of whose files MNE can be asked for all annotations, also those beyond the ends.
_ASKED = (".vhdr", ".ahdr", ".set", ".gdf", ".fif", ".cnt")
_BEYOND = re.compile(r"(?:Omitted|Limited) \d+ annotation")


def _check_first(path: Path, *, where: str) -> None:
    """Raise if a FIF file is a later part of a recording, from which MNE would read on."""
    try:
        earlier = fif_references(path).get(PREVIOUS)
    except ValueError:  # `check_fif` says what is damaged
        return
    if earlier is not None:
        raise DataError(
            where,
            f"it is a later part of a recording that begins in {earlier}",
            "Put all parts beside one another under the names that MNE gave them",
        )


def _check_place(raw: mne.io.BaseRaw, path: Path, *, where: str) -> None:
    """Raise if a header leads MNE to a file that is not beside it."""
    here = {path.absolute().parent, path.resolve().parent}
    for file in filter(None, raw.filenames):
        if Path(file).absolute().parent not in here:
            raise DataError(
                where,
                f"it names {file}, which is not in its folder, as the file of its signal",
                f"Put that file beside {path.name} under the name that {path.name} has for it",
            )


_EDF = (".edf", ".bdf")

# What MNE says, and what is so and what helps; anything else may well be damage.
_EXPLAINED = (
    (
        r"number of trials|read_epochs_eeglab",
        "it was cut into epochs, and what was between them is gone",
        "Export it as a continuous recording, or leave it out by --pattern",
    ),
    (
        r"event sample index is negative",
        "it has an event before its first sample",
        "Correct the event in EEGLAB, or remove it, and save the file again",
    ),
    (
        r"No raw data in",
        "it holds no continuous recording, but epochs, an average or another result",
        "Export it as a continuous recording, or leave it out by --pattern",
    ),
    (
        r"invalid byte|codec can't decode|unknown encoding",
        "its texts are in another encoding",
        "Give it by --encoding, such as latin1, cp1252 or gbk",
    ),
    (
        r"header file must be given",
        "MNE knows its header by a suffix in lower case only",
        "Rename it",
    ),
)


@contextmanager
def mne_errors(where: str) -> Iterator[None]:
    """Turn whatever MNE raises on a file that it cannot read into a ``DataError``."""
    try:
        yield
    # A want of memory is no fault of the file, and has advice of its own.
    except (DataError, MemoryError):
        raise
    except Exception as error:  # MNE's readers raise whatever their parsing meets
        text = " ".join(str(error).split())[:300]
        for pattern, found, action in _EXPLAINED:
            if re.search(pattern, text):
                raise DataError(where, found, action) from error
        raise DataError(
            where,
            f"MNE cannot read it ({type(error).__name__}: {text})",
            "Get the file again, or leave it out of the folder",
        ) from error


def check_unique(
    keys: Sequence[Key],
    spelled: Sequence[tuple[str, ...]] = (),
    *,
    where: str,
    action: str,
) -> None:
    """Raise if two recordings have one name, or two people, or two sessions of one person.

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
        for key, names in zip(keys, spelled, strict=bool(spelled)):
            ids = (key.subject, key.session)[:depth]
            if (other := known.setdefault(ids, names[:depth])) != names[:depth]:
                raise DataError(
                    where,
                    f"{other[-1]!r} and {names[depth - 1]!r} would both be {what} {ids[-1]}, since "
                    "names keep letters and digits only",
                    action,
                )


def suffix(path: Path) -> str:
    """Return a file's suffix in lower case, which has the same meaning."""
    return path.suffix.lower()


def companions(path: Path) -> list[Path]:
    """List the other files of a recording, those that exist.

    A BrainVision header names its signal and its markers, in its own folder; an EEGLAB ``.set`` may
    keep its signal in an ``.fdt``; a large ``.fif`` names the file in which it goes on.
    """
    kind = suffix(path)
    if not path.is_file():  # a link to nothing
        found = []
    elif kind in (".vhdr", ".ahdr"):
        names = brainvision_parts(path).values()
        found = [path.parent / name for name in names if Path(name).name == name]
    elif kind == ".set":
        found = [path.with_suffix(".fdt" if path.suffix.islower() else ".FDT")]
    elif kind == ".fif":
        found = fif_parts(path)
    else:
        found = []
    return [other for other in found if other.is_file()]


MISSING = ("", "n/a", "NA", "NaN", "nan")
"""What a cell of a table holds where a value is missing."""


def plain(text: str) -> str:
    """Return the letters and digits of a name, which is what a key takes."""
    return re.sub(r"[^A-Za-z0-9]", "", text)


def numbers(column: pd.Series, *, decimal_comma: bool = False) -> pd.Series:
    """Return a column of text as numbers, if each of its cells is one or says that it is missing.

    Missing numbers are NaN; a column that holds any text stays as it is, without blanks around.

    Parameters
    ----------
    column : Series of str
    decimal_comma : bool
        Whether ``"7,5"`` is a number.
    """
    column = column.str.strip()
    missing = column.isin(MISSING)
    if missing.all():
        return column.astype(object)
    try:
        return pd.to_numeric(_with_points(column.mask(missing), decimal_comma))
    except ValueError:
        return column.astype(object)


def seconds(column: pd.Series) -> pd.Series:
    """Return a column of text as seconds, NaN where a cell says that it is missing.

    Raises
    ------
    ValueError
        If a cell is no number.
    """
    column = column.str.strip()
    return pd.to_numeric(_with_points(column.mask(column.isin(MISSING)), True)).astype(float)


def _with_points(column: pd.Series, decimal_comma: bool) -> pd.Series:
    return (
        column.str.replace(r"^([-+]?\d*),(\d+)$", r"\1.\2", regex=True) if decimal_comma else column
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
    notes : sequence of str
        As in ``Recording``; what is found here is added.

    Raises
    ------
    DataError
        If no channel is EEG, a channel's unit is not known, the EEG has several rates, or an event
        is outside the recording.
    """
    rules, notes = rules or ChannelRules(), list(notes)
    with mne_errors(where):
        eeg, rest = _sort_channels(raw, rules, where=where, notes=notes)
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
        trials=_place(events, bounds, sfreq, where=where, notes=notes),
        auxiliary=auxiliary,
        positions=None if rules.ignore_positions else _measured(raw, eeg),
        participant=_person(raw) | dict(participant or {}),
        source=_history(raw, seconds) | dict(source or {}),
        notes=notes,
    )


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
    kind = _kind(raw)
    table = _annotations(raw, path, encoding)
    event = np.array(
        [
            is_event(name, asked, of_mne=kind in _OF_MNE) and not interrupts(name, kind)
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


def _annotations(raw: mne.io.BaseRaw, path: Path | None, encoding: str | None) -> pd.DataFrame:
    """Return a recording's annotations as its file has them, where the file can be asked.

    MNE leaves out of a ``Raw`` what lies beyond its ends, and cuts what reaches there.
    """
    import mne

    own = _table(raw.annotations, raw.first_time)
    try:
        with mne.utils.use_log_level("error"):
            found = _annotations_in(path, encoding) if path else None
    except Exception:  # a format whose annotations MNE reads with the signal only
        found = None
    if found is None:
        return own
    late = 0.0  # how much later than the first sample the annotations' zero is
    if found.orig_time is not None and raw.info["meas_date"] is not None:
        late = (found.orig_time - raw.info["meas_date"]).total_seconds() - raw.first_time
    whole = _table(found, -late)
    return whole if len(whole) >= len(own) else own


def _annotations_in(path: Path, encoding: str | None) -> mne.Annotations | None:
    import mne

    if suffix(path) in (".vhdr", ".ahdr"):
        markers = brainvision_markers(path)
        return mne.read_annotations(markers) if markers else None
    if suffix(path) not in (*_EDF, ".gdf"):
        return mne.read_annotations(path)
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
    until_next = np.append(onset, end)[later] - onset
    own = table["duration"].to_numpy(float)
    if notes is not None and duration is None and (own < 0).any():
        at = ", ".join(f"{when:g} s" for when in onset[own < 0][:4])
        notes.append(
            f"{where}: {(own < 0).sum()} events have a negative duration ({at}) and are taken to "
            "last to the next one."
        )
    given = own if duration is None else np.full(len(own), duration)
    return table.assign(duration=np.where(given > 0, given, until_next))


def _kind(raw: mne.io.BaseRaw) -> str:
    """Return the suffix of the file that a recording was opened from; "" if there is none."""
    return suffix(Path(raw.filenames[0] or ""))


# Annotations are MNE's own in its files, and in what other programs hand over opened by MNE.
_OF_MNE = (".fif", ".gz", "")


def _sort_channels(
    raw: mne.io.BaseRaw, rules: ChannelRules, *, where: str, notes: list[str]
) -> tuple[list[int], list[int]]:
    """Return the indices of the EEG and of the other channels."""
    if not raw.ch_names:
        raise DataError(
            where,
            "it holds annotations and no signal",
            "Leave it out by --pattern; give its events as a table by --labels-from",
        )
    eeg: list[int] = []
    rest: list[int] = []
    for i, (name, kind) in enumerate(zip(raw.ch_names, raw.get_channel_types(), strict=True)):
        # The schema first: a name that it knows is an electrode, whatever else it looks like.
        is_eeg = kind == "eeg" and (name in UCS or not _NOT_EEG.match(name.strip()))
        is_eeg |= _matches(name, rules.eeg)
        (eeg if is_eeg and not _matches(name, rules.not_eeg) else rest).append(i)
    types = raw.get_channel_types()
    if not eeg:
        found = ", ".join(sorted({types[i] for i in rest}))
        raise DataError(
            where,
            f"none of its {len(raw.ch_names)} channels is EEG ({some(raw.ch_names, 6)}); their "
            f"type is {found}",
            "Take them for EEG by --eeg (names, or patterns such as 'EEG*'), leave the file out, "
            "or name fewer channels by --not-eeg",
        )
    electrodes = [i for i in rest if raw.ch_names[i] in UCS]
    if kept_apart := [raw.ch_names[i] for i in electrodes if types[i] in _NO_TYPE]:
        kept_apart = [name for name in kept_apart if not _matches(name, rules.not_eeg)]
    if kept_apart:
        notes.append(
            f"{where}: {len(kept_apart)} channels with names of electrodes have the type misc and "
            f"are kept apart from the EEG: {some(kept_apart, 6)}. Take them by --eeg, or say that "
            "they are none by --not-eeg."
        )
    return eeg, rest


_NO_TYPE = ("misc", "bio")


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
    if unit == "nV" and _kind(raw) in _EDF:
        return "n/a"  # MNE does not know the unit in these formats, and leaves the numbers alone
    return None if unit is None else unit.replace("μ", "µ")


def _to_microvolts(
    raw: mne.io.BaseRaw, i: int, unit: str | None, factor: float, *, where: str
) -> float:
    """Return what MNE's values of an EEG channel are multiplied by."""
    declared = _declared_unit(raw, i)
    if unit is not None:
        assumed = _ASSUMED.get(_kind(raw), "V")
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
    if suffix(path) not in _EDF:
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


def _interruptions(raw: mne.io.BaseRaw) -> list[float]:
    """Return when recording went on after a pause, seconds from the first sample."""
    onset = raw.annotations.onset - raw.first_time
    found, kind = zip(onset, raw.annotations.description, strict=True), _kind(raw)
    return sorted({float(at) for at, name in found if interrupts(str(name), kind) and at > 0})


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
    if _kind(raw) == ".cnt":  # Neuroscan keeps where its display draws a channel
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
    onset, kind = raw.annotations.onset - raw.first_time, _kind(raw)
    bad = [
        [round(float(at), 4), round(float(lasting), 4), str(name)]
        for at, lasting, name in zip(
            onset, raw.annotations.duration, raw.annotations.description, strict=True
        )
        if is_bad(str(name), kind in _OF_MNE) and not interrupts(str(name), kind)
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
