"""EEG datasets in the Brain Imaging Data Structure (BIDS).

Pernet et al. 2019, EEG-BIDS, Scientific Data 6:103. The signals are MNE's; the tables beside them
are read here, since a small fault in one of them is no reason to lose a recording.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from omfa.pipeline.channels import UCS
from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.channel_types import ChannelRules
from omfa.pipeline.readers.events import (
    annotation_events,
    events_nowhere,
    interrupts,
    is_bad,
    is_event,
    last_until_next,
)
from omfa.pipeline.readers.folder import is_service, left_out, once, text_of, walk
from omfa.pipeline.readers.montages import montage_file
from omfa.pipeline.readers.opening import companions, open_raw
from omfa.pipeline.readers.raw import check_unique, to_recording
from omfa.pipeline.readers.tables import MISSING, Pairs, numbers, pairs, plain, seconds
from omfa.pipeline.recording import TRIAL_COLUMNS, Key, Recording
from omfa.pipeline.words import nearest, some

if TYPE_CHECKING:
    import mne

EXTENSIONS = (".edf", ".bdf", ".vhdr", ".set")
"""The formats of EEG that BIDS allows."""

# Which column of events.tsv says what was shown, the best first.
_STIMULUS = ("stimulus", "stim_file", "trial_type", "value")

# What goes with a recording, by the end of its name.
_SIDECARS = ("events.tsv", "channels.tsv", "electrodes.tsv", "coordsystem.json", "eeg.json")

# BIDS's types of channels as MNE's. Others are kept apart; a type that is not given is the file's.
_TYPES = {
    "EEG": "eeg", "EOG": "eog", "HEOG": "eog", "VEOG": "eog", "ECG": "ecg", "EMG": "emg",
    "TRIG": "stim", "RESP": "resp", "GSR": "gsr", "TEMP": "temperature", "ECOG": "ecog",
    "SEEG": "seeg", "DBS": "dbs",
}  # fmt: skip

_EVENTS_FROM = ("events.tsv", "annotations", "none")
_SECONDS = {"s": 1.0, "ms": 1e-3}

# Coordinate systems that are MNE's head frame, and BIDS's units in metres.
_HEAD = ("CapTrak", "ElektaNeuromag", "ChietiItab")
_METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3}


@dataclass(frozen=True)
class BidsReader:
    """Reads the EEG of a BIDS dataset, one recording per file.

    The run of a recording is its task, acquisition and run together: ``run-rest1``. Each row of
    ``events.tsv`` is a trial and each of its other columns a label, raw; without events the
    recording is one trial. What ``participants.tsv`` holds goes with the recording. In Python
    ``events`` is a mapping: ``{"joy": "glad", "S  5": "happy"}``.

    Attributes
    ----------
    task : str or None
        Only this task, as a name or a pattern (``"run[2-5]"``); None: every task.
    events : mapping
        The events to take, by ``trial_type`` or else ``value``, each with the label to give it:
        ``joy=glad "S  5=happy"``. By default every event.
    duration : float or None
        Seconds that every trial lasts, in place of the events' own. An event without a duration
        lasts to the next one.
    not_eeg : tuple of str
        Channels to keep apart from the EEG, as names or patterns, beside those whose type in
        ``channels.tsv`` is not EEG.
    unit : {"V", "mV", "uV", "nV"} or None
        The unit of the EEG's numbers, where the files declare none or a wrong one.
    name : str
        What the store calls the data, such as "eegmat", in place of the Name in
        ``dataset_description.json``, which is the default; a new store needs one of the two, for
        people are known by it.
        Datasets opened together need names that differ.
    eeg : tuple of str
        Channels that are EEG whatever type they are given, as names or patterns.
    names_from : {"file", "channels.tsv"}
        Where channels have their names from, if the two differ: by order, from ``channels.tsv``.
    ignore_positions : bool
        Take no measured positions, from ``electrodes.tsv`` or from the file.
    encoding : str or None
        Of the texts in EDF and BDF files, where they are not in UTF-8.
    montage : str or None
        Where electrodes are, in place of ``electrodes.tsv`` and of what the files say: the name of
        one of MNE's montages, such as "GSN-HydroCel-128", or a file, below the root or absolute.
    events_from : {"events.tsv", "annotations", "none"}
        Whether trials are the rows of ``events.tsv``, the annotations in the file itself, or each
        recording as a whole.
    events_by : str or None
        The column of ``events.tsv`` that says what an event is, in place of ``trial_type`` and
        ``value``; rows without a value there are no trials.
    events_unit : {"s", "ms"}
        The unit of onset and duration in ``events.tsv``, where it is not BIDS's.
    """

    task: str | None = None
    events: Pairs = ()
    duration: float | None = None
    not_eeg: tuple[str, ...] = ()
    unit: str | None = None
    name: str = "bids"
    eeg: tuple[str, ...] = field(default=(), metadata={"quiet": True})
    names_from: Literal["file", "channels.tsv"] = field(default="file", metadata={"quiet": True})
    ignore_positions: bool = field(default=False, metadata={"quiet": True})
    encoding: str | None = field(default=None, metadata={"quiet": True})
    montage: str | None = field(default=None, metadata={"quiet": True})
    events_from: Literal["events.tsv", "annotations", "none"] = field(
        default="events.tsv", metadata={"quiet": True}
    )
    events_by: str | None = field(default=None, metadata={"quiet": True})
    events_unit: Literal["s", "ms"] = field(default="s", metadata={"quiet": True})

    def __post_init__(self) -> None:
        self._rules  # noqa: B018 - it checks itself
        for name, choices in (("events_from", _EVENTS_FROM), ("events_unit", tuple(_SECONDS))):
            if (chosen := getattr(self, name)) not in choices:
                raise DataError(
                    f"bids reader: choosing {name}",
                    f"there is no {chosen!r}{nearest(chosen, choices)}",
                    f"Choose one of {', '.join(choices)}",
                )
        object.__setattr__(self, "events", pairs(self.events))

    @property
    def _rules(self) -> ChannelRules:
        return ChannelRules(
            self.not_eeg, self.unit, self.eeg, self.ignore_positions, montage=self.montage
        )

    def discover(self, root: str | Path) -> list[Key]:
        """List the recordings of a dataset.

        A file whose name is not as BIDS has it is listed by what can be read of the name, and
        fails when it is read.

        Raises
        ------
        DataError
            If the folder holds no EEG as BIDS lays it out, or none of the task.
        """
        root = Path(root)
        where = f"bids reader: {root}"
        people = [
            path
            for path in (sorted(root.iterdir()) if root.is_dir() else ())
            if path.is_dir() and path.name.startswith("sub-") and not is_service(path.name)
        ]
        files = [p for person in people for p in walk(person) if p.parent.name.lower() == "eeg"]
        files = [path for path in files if path.suffix.lower() in EXTENSIONS]
        odd = [p for p in files if not re.search(r"_eeg$", p.stem)]
        parts = {other for path in files for other in companions(path)}
        if odd := [path for path in odd if path not in parts]:
            names = [path.relative_to(root).as_posix() for path in odd]
            left_out(where, names, "do not end in _eeg")
        found = [path for path in once(files, where=where) if path not in {*odd, *parts}]
        if self.task is not None:
            task = self.task
            found = [p for p in found if fnmatchcase(_entities(p).get("task", ""), task)]
        if not found:
            raise DataError(
                where,
                f"it holds no EEG as BIDS lays it out ({', '.join(EXTENSIONS)})"
                + (f" of task {self.task!r}" if self.task else ""),
                "Give the dataset's root, with sub-*/eeg or sub-*/ses-*/eeg in it, and its task",
            )
        keys = [_key(path, root, montage_file(self.montage, root)) for path in found]
        spelled = [(_entities(p).get("sub", ""), _entities(p).get("ses", "")) for p in found]
        check_unique(keys, spelled, where=where, action="Keep one of them, or rename one")
        return sorted(keys)

    def title(self, root: str | Path) -> str | None:
        """Return what ``dataset_description.json`` calls the dataset, unless it has a ``name``."""
        file = Path(root) / "dataset_description.json"
        if self.name != type(self).name or not file.is_file():
            return None
        try:
            title = json.loads(text_of(file)).get("Name")
        except (ValueError, AttributeError, OSError):
            return None
        words = re.findall(r"[a-z0-9]+", title.lower()) if isinstance(title, str) else []
        return "-".join(words) or None

    def read(self, key: Key) -> Recording:
        """Read one recording.

        Raises
        ------
        DataError
            If it cannot be read, it is truncated, or its events do not fit.
        """
        where, notes = f"bids reader: {key.files[0]}", list[str]()
        path, root = key.paths[0], Path(key.root)
        if fault := _misnamed(path):
            raise DataError(where, fault, "Rename it, and the files that go with it")
        beside = {name: _sidecar(path, root, name) for name in _SIDECARS}
        facts = _facts(beside["eeg.json"], path, notes)
        if facts.pop("epoched", False):
            raise DataError(
                where,
                "its _eeg.json says that it was cut into epochs",
                "Use the continuous recording, or leave its task out by --task",
            )
        _note_case(path, beside.values(), where=where, notes=notes)
        file = beside["events.tsv"] if self.events_from == "events.tsv" else None
        table = _read_tsv(file, notes) if file else None
        asked = {name.strip(): label for name, label in dict(self.events).items()}
        factor = _SECONDS[self.events_unit]
        events = (
            None
            if table is None
            else _events(table, asked, by=self.events_by, factor=factor, where=where)
        )
        raw = open_raw(path, where=where, encoding=self.encoding, notes=notes)
        with _tables(where):
            if beside["channels.tsv"]:
                self._describe(raw, beside["channels.tsv"], where=where, notes=notes)
            if beside["electrodes.tsv"] and not (self.ignore_positions or self.montage):
                _place_electrodes(
                    raw, beside["electrodes.tsv"], beside["coordsystem.json"], where=where,
                    notes=notes,
                )  # fmt: skip
            _mark(raw, table, factor)
        if self.events_from == "annotations":
            events = annotation_events(
                raw,
                where=where,
                events=asked,
                duration=self.duration,
                path=path,
                encoding=self.encoding,
                notes=notes,
            )
        elif self.events_from == "events.tsv" and file is None:
            _note_annotations(raw, where=where, notes=notes)
        end = raw.n_times / raw.info["sfreq"]
        return to_recording(
            raw,
            key,
            where=where,
            events=events
            if table is None
            else self._choose(events, asked, end, where=where, notes=notes),
            rules=self._rules,
            participant=_participant(root, key.subject),
            source=facts,
            notes=notes,
        )

    def review(self, stored: Iterable[tuple[Key, pd.DataFrame]]) -> Iterator[str]:
        """Say which of the ``events`` are a trial in no recording of the store."""
        if self.events_from == "none":
            return iter(())
        # What an event is called in a dataset is seldom its stimulus, and is not stored.
        return events_nowhere(dict(self.events), stored, name="bids", by="event")

    def _choose(
        self,
        events: pd.DataFrame | None,
        asked: Mapping[str, str],
        end: float,
        *,
        where: str,
        notes: list[str],
    ) -> pd.DataFrame | None:
        """Return the events that are trials; None where there are no events at all."""
        if events is None or events.empty:
            return None
        events = last_until_next(events, end=end, duration=self.duration, where=where, notes=notes)
        if asked:
            events["event"] = events["kind"].map(asked)
        known = sorted(set(events["kind"].dropna()))
        # Only now: an event lasts to the next one of any kind.
        events = events.dropna(subset="event" if asked else "kind").drop(columns="kind")
        if events.empty:
            raise DataError(
                where,
                f"none of {', '.join(asked)} is among its events ({', '.join(known)})"
                if asked
                else f"no event has a value in the column {self.events_by!r}",
                "Name its events by --events NAME=LABEL, or leave its task out by --task",
            )
        events = events.reset_index(drop=True)
        given = [name for name in events if name not in ("onset", "duration", "stimulus", "event")]
        return events.assign(**{str(name): numbers(events[name]) for name in given})

    def _describe(self, raw: mne.io.BaseRaw, file: Path, *, where: str, notes: list[str]) -> None:
        """Give the channels the types, the status and, if asked, the names of ``channels.tsv``."""
        table = _read_tsv(file, notes).map(str.strip)
        if "name" not in table:
            notes.append(f"{where}: {file.name} has no column 'name' and is not used.")
            return
        if self.names_from == "channels.tsv":
            if len(table) != len(raw.ch_names) or table["name"].duplicated().any():
                raise DataError(
                    where,
                    f"{file.name} has {len(table)} rows, {table['name'].nunique()} of them with "
                    f"names of their own, and the file has {len(raw.ch_names)} channels",
                    "Give every channel a row in the file's order, or leave --names-from out",
                )
            raw.rename_channels(
                dict(zip(raw.ch_names, table["name"], strict=True)), verbose="error"
            )
        table = table.drop_duplicates("name")
        known = _matched(list(table["name"]), raw.ch_names)
        if lacking := [name for name in table["name"] if name not in known]:
            others = [name for name in raw.ch_names if name not in known.values()]
            notes.append(
                f"{where}: {file.name} names channels that the file has not: {some(lacking)}"
                + (f"; and it does not name {some(others)}" if others else "")
                + ". If the rows are in the file's order, take their names by --names-from "
                "channels.tsv."
            )
        table = table.assign(channel=table["name"].map(known)).dropna(subset="channel")
        types = {
            name: _TYPES.get(kind.upper(), "misc")
            for name, kind in zip(table["channel"], table.get("type", ()), strict=False)
            if kind not in ("", "n/a") and not kind.upper().startswith("MEG")
        }
        raw.set_channel_types(types, on_unit_change="ignore", verbose="error")
        if "status" in table:
            raw.info["bads"] = list(table.loc[table["status"].str.lower() == "bad", "channel"])


# ------------------------------------------------------------------------------- names


def _entities(path: Path) -> dict[str, str]:
    """Return the entities of a file's name: ``{"sub": "01", "task": "film"}``."""
    pairs_ = (part.partition("-") for part in path.name.split(".")[0].split("_"))
    return {key: value for key, hyphen, value in pairs_ if hyphen}


def _misnamed(path: Path) -> str:
    """Return what is wrong with a name; empty if it is as BIDS has it."""
    *parts, _ = path.stem.split("_")
    for part in parts:
        if not re.fullmatch(r"[a-z]+-[A-Za-z0-9+]+", part):
            return f"the part {part!r} of its name is not a key, a hyphen, and letters and digits"
    found = _entities(path)
    for key in ("sub", "ses"):
        folders = [name for name in path.parts[:-1] if name.startswith(f"{key}-")]
        if folders and folders[-1] != f"{key}-{found.get(key, '')}":
            return f"its name says {key}-{found.get(key, '')} and it is in the folder {folders[-1]}"
    return ""


def _key(path: Path, root: Path, montage: Path | None) -> Key:
    found = _entities(path)
    files = [path, *([montage] if montage else [])]
    if not _misnamed(path):
        beside = (_sidecar(path, root, name) for name in _SIDECARS)
        files += [*companions(path), *(file for file in beside if file)]
        files += [file for file in [root / "participants.tsv"] if file.is_file()]
    return Key(
        subject=plain(found.get("sub") or path.relative_to(root).parts[0].removeprefix("sub-")),
        session=plain(found.get("ses", "")) or "1",
        run=plain("".join(found.get(key, "") for key in ("task", "acq", "run"))) or "1",
        files=tuple(
            file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)
            for file in files
        ),
        root=str(root),
    )


def _sidecar(path: Path, root: Path, end: str) -> Path | None:
    """Return the file that goes with a recording, if there is one.

    By BIDS's principle of inheritance: the nearest folder up to the root, and there the name that
    shares most with the recording's and says nothing else of it, except in which space electrodes
    were measured. Where none fits, one whose values differ in upper and lower case alone is taken,
    unless it is another recording's.
    """
    mine = _entities(path)
    for folder in (path.parent, *path.parent.parents):
        fitting = []
        for file in folder.glob(f"*{end}"):
            if file.name.rpartition("_")[2] == end and (spelled := _fits(file, mine)):
                n, order = -len(_entities(file)), "CapTrak" not in file.name
                fitting.append((spelled == "otherwise", n, order, file.name, file))
        if fitting and not (min(fitting)[0] and _is_of_another(min(fitting)[-1], path)):
            return min(fitting)[-1]
        if folder == root:
            break
    return None


def _fits(file: Path, mine: Mapping[str, str]) -> Literal["", "equally", "otherwise"]:
    """Return whether a sidecar fits a recording: it says nothing else of it, in equal letters."""
    theirs = _entities(file)
    theirs.pop("space", None)
    if theirs.items() <= mine.items():
        return "equally"
    lower = {key: value.lower() for key, value in mine.items()}
    return "otherwise" if all(lower.get(k) == v.lower() for k, v in theirs.items()) else ""


def _is_of_another(file: Path, path: Path) -> bool:
    """Return whether a sidecar is spelled as another recording beside it is."""
    return any(
        other != path and _fits(file, _entities(other)) == "equally"
        for other in path.parent.iterdir()
        if other.suffix.lower() in EXTENSIONS
    )


def _note_case(path: Path, files: Iterable[Path | None], *, where: str, notes: list[str]) -> None:
    names = [f.name for f in files if f and _fits(f, _entities(path)) == "otherwise"]
    if names:
        notes.append(
            f"{where}: {some(names)} differ from it in upper and lower case and are taken to be of "
            "it, since no others are there."
        )


def _note_annotations(raw: mne.io.BaseRaw, *, where: str, notes: list[str]) -> None:
    """Say that a recording without events.tsv has annotations of its own, which are not used."""
    texts = [str(text) for text in raw.annotations.description]
    if kinds := sorted({text for text in texts if is_event(text)}):
        notes.append(
            f"{where}: it has no events.tsv and is one trial; annotations in the file itself "
            f"({some(kinds, 4)}) are not used. Take them by --events-from annotations."
        )


# ------------------------------------------------------------------------------- tables


@contextmanager
def _tables(where: str) -> Iterator[None]:
    """Turn what MNE or pandas raise on a sidecar into a ``DataError`` that blames the sidecar."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(
            where,
            f"a table beside it cannot be used ({type(error).__name__}: {error})",
            "Correct its channels.tsv, electrodes.tsv or events.tsv, or take the table away",
        ) from error


def _read_tsv(path: Path, notes: list[str] | None = None) -> pd.DataFrame:
    text = text_of(path, notes)
    if not text.strip():
        return pd.DataFrame()
    try:
        table = pd.read_csv(io.StringIO(text), sep="\t", dtype=str, keep_default_na=False)
    except (ValueError, csv.Error) as error:
        raise DataError(
            f"bids reader: {path}", f"it is no table ({error})", "Correct it"
        ) from error
    return table.fillna("").rename(columns=str.strip)  # a row may be short


def _first_given(table: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """Return for each row the first of the columns that has a value, or else the first's text."""
    texts = [table[name].str.strip() for name in columns if name in table]
    if not texts:
        return pd.Series("", table.index)
    found = texts[0]
    for text in reversed(texts):
        found = text.where(~text.isin(MISSING), found)
    return found


def _kinds(table: pd.DataFrame) -> pd.Series:
    """Return what each event is: its ``trial_type`` or, where it has none, its ``value``."""
    return _first_given(table, ("trial_type", "value"))


def _events(
    table: pd.DataFrame, asked: Container[str], *, by: str | None, factor: float, where: str
) -> pd.DataFrame:
    """Return the events of ``events.tsv`` as text, each with its ``kind``, without BAD spans."""
    kind = _kinds(table)
    kept = kind.map(lambda text: is_event(text, asked)).astype(bool)
    table, kind = table[kept], kind[kept]
    if by is not None:
        if by not in table:
            raise DataError(
                where,
                f"its events.tsv has no column {by!r}; it has {', '.join(table.columns)}",
                "Give another --events-by, or leave its task out by --task",
            )
        kind = table[by].str.strip()
        kind = kind.where(~kind.isin(MISSING))
    shown = _first_given(table, _STIMULUS)
    try:
        when = {column: factor * seconds(table[column]) for column in ("onset", "duration")}
        if when["onset"].isna().any():
            raise ValueError("an event has no onset")
    except (KeyError, ValueError) as error:
        raise DataError(
            where,
            f"its events.tsv cannot be read ({error})",
            "Give it columns onset and duration, in seconds",
        ) from error
    labels = {
        f"events_{column}" if column in TRIAL_COLUMNS else column: table[column]
        for column in table
        if column not in ("onset", "duration", "sample", "stimulus")
    }
    return pd.DataFrame(when | {"stimulus": shown, "kind": kind} | labels).reset_index(drop=True)


def _mark(raw: mne.io.BaseRaw, table: pd.DataFrame | None, factor: float) -> None:
    """Give a recording the BAD spans and interruptions of its events, beside the file's own.

    Where there are events, the file's own annotations are of interruptions only: the events are
    the dataset's word on everything else.
    """
    import mne

    if table is None or table.empty or "onset" not in table:
        return
    own = raw.annotations
    keep = [i for i, text in enumerate(own.description) if interrupts(str(text))]
    kind = _kinds(table)
    spans = table[kind.map(lambda text: is_bad(text, False) or interrupts(text)).astype(bool)]
    when = {
        name: factor * seconds(spans[name]).to_numpy() if name in spans else np.zeros(len(spans))
        for name in ("onset", "duration")
    }
    known = np.isfinite(when["onset"])
    marks = mne.Annotations(
        [*(own.onset[keep] - raw.first_time), *when["onset"][known]],
        [*own.duration[keep], *np.nan_to_num(when["duration"][known]).clip(0)],
        [*map(str, own.description[keep]), *kind[spans.index][known]],
    )
    raw.set_annotations(marks, emit_warning=False, verbose="error")


def _matched(names: Sequence[str], channels: Sequence[str]) -> dict[str, str]:
    """Return the channel that each name means: as it is spelled, or else in another spelling."""
    found = {name: name for name in names if name in channels}
    free = [channel for channel in channels if channel not in found.values()]
    for name in names:
        same = [c for c in free if c.strip().upper() == name.upper()]
        if name not in found and not same and name in UCS:
            same = [c for c in free if c in UCS and UCS.name(c) == UCS.name(name)]
        if name not in found and len(same) == 1:
            found[name] = same[0]
            free.remove(same[0])
    return found


def _place_electrodes(
    raw: mne.io.BaseRaw,
    electrodes: Path,
    coordsystem: Path | None,
    *,
    where: str,
    notes: list[str],
) -> None:
    """Give a recording the measured positions, where they are in the head frame."""
    import mne

    table = _read_tsv(electrodes, notes).map(str.strip)
    system = _read_json(coordsystem, notes) if coordsystem else {}
    if system.get("EEGCoordinateSystem") not in _HEAD or not {"name", *"xyz"} <= set(table):
        raw.set_montage(None)
        return
    metres = _METRES.get(str(system.get("EEGCoordinateUnits")), 1.0)
    xyz = metres * table[[*"xyz"]].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    known = _matched(list(table["name"]), raw.ch_names)
    points = {
        known[name]: point
        for name, point in zip(table["name"], xyz, strict=True)
        if name in known and np.isfinite(point).all()
    }
    montage = mne.channels.make_dig_montage(points, coord_frame="head") if points else None
    raw.set_montage(montage, on_missing="ignore", verbose="error")


def _participant(root: Path, subject: str) -> dict[str, Any]:
    """Return a person's row of ``participants.tsv``, without what is not known."""
    if not (root / "participants.tsv").is_file():
        return {}
    table = _read_tsv(root / "participants.tsv")
    if "participant_id" not in table:
        return {}
    who = table["participant_id"].str.strip().map(lambda text: plain(text.removeprefix("sub-")))
    rows = table[who == subject].drop(columns="participant_id")
    if rows.empty:
        return {}
    return {
        str(name): value if isinstance(value, str) else float(value)
        for name, value in rows.apply(numbers).iloc[0].items()
        # NaN alone differs from itself.
        if value not in ("", "n/a") and value == value
    }


def _read_json(path: Path, notes: list[str] | None = None) -> dict[str, Any]:
    try:
        found = json.loads(text_of(path, notes))
    except ValueError as error:
        raise DataError(f"bids reader: {path}", f"it is no JSON ({error})", "Correct it") from error
    return found if isinstance(found, dict) else {}


def _facts(file: Path | None, path: Path, notes: list[str]) -> dict[str, Any]:
    """Return what the recording's JSON says about the signal's history."""
    sidecar = _read_json(file, notes) if file else {}
    facts = {
        "format": path.suffix.lstrip(".").lower(),
        "task": _entities(path).get("task"),
        "reference": sidecar.get("EEGReference"),
        "line_frequency": sidecar.get("PowerLineFrequency"),
        "epoched": sidecar.get("RecordingType") == "epoched" or None,
    }
    return {name: value for name, value in facts.items() if value not in (None, "", "n/a")}
