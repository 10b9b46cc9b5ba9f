"""EEG datasets in the Brain Imaging Data Structure (BIDS), through mne-bids.

Pernet et al. 2019, EEG-BIDS, Scientific Data 6:103.
"""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.raw import (
    ChannelRules,
    Pairs,
    check_unique,
    check_whole,
    companions,
    is_event,
    last_until_next,
    mne_errors,
    numbers,
    pairs,
    plain,
    to_recording,
)
from omfa.pipeline.recording import TRIAL_COLUMNS, Key, Recording

if TYPE_CHECKING:
    import mne_bids

EXTENSIONS = (".edf", ".bdf", ".vhdr", ".set")
"""The formats of EEG that BIDS allows."""

# Which column of events.tsv says what was shown, the best first.
_STIMULUS = ("stimulus", "stim_file", "trial_type", "value")


@dataclass(frozen=True)
class BidsReader:
    """Reads the EEG of a BIDS dataset, one recording per file.

    The run of a recording is its task, acquisition and run together: ``run-rest1``. Each row of
    ``events.tsv`` is a trial and each of its other columns a label, raw; without events the
    recording is one trial. What ``participants.tsv`` holds goes with the recording.

    Attributes
    ----------
    task : str or None
        Only this task; None: every task.
    events : mapping
        The events to take, by ``trial_type`` or else ``value``, each with the label to give it:
        ``{"S  5": "happy"}``. Empty: every event.
    duration : float or None
        Seconds that every trial lasts, in place of the events' own. An event without a duration
        lasts to the next one.
    not_eeg : tuple of str
        Channels to keep apart from the EEG, as names or patterns, beside those whose type in
        ``channels.tsv`` is not EEG.
    unit : {"V", "mV", "uV", "nV"} or None
        The unit of the EEG's numbers, where the files declare none or a wrong one.
    name : str
        What the store calls the data, such as "eegmat". Datasets opened together need names that
        differ.
    """

    task: str | None = None
    events: Pairs = ()
    duration: float | None = None
    not_eeg: tuple[str, ...] = ()
    unit: str | None = None
    name: str = "bids"

    def __post_init__(self) -> None:
        ChannelRules(unit=self.unit)
        object.__setattr__(self, "events", pairs(self.events))

    def discover(self, root: str | Path) -> list[Key]:
        """List the recordings of a dataset.

        Raises
        ------
        DataError
            If the folder holds no EEG as BIDS lays it out, or none of the task.
        """
        import mne_bids  # takes seconds to import, and needs an extra

        root = Path(root)
        with mne_errors(f"bids reader: {root}"):
            found = mne_bids.find_matching_paths(
                root, datatypes="eeg", suffixes="eeg", extensions=list(EXTENSIONS)
            )
        # not those of derivatives/ and sourcedata/
        found = [path for path in found if path.fpath.relative_to(root).parts[0].startswith("sub-")]
        found = [path for path in found if self.task in (None, path.task)]
        if not found:
            raise DataError(
                f"bids reader: {root}",
                f"it holds no EEG as BIDS lays it out ({', '.join(EXTENSIONS)})"
                + (f" of task {self.task!r}" if self.task else ""),
                "Give the dataset's root, with sub-*/eeg or sub-*/ses-*/eeg in it, and its task",
            )
        keys = [_key(path, root) for path in found]
        check_unique(keys, where=f"bids reader: {root}", action="Keep one of them")
        return sorted(keys)

    def read(self, key: Key) -> Recording:
        """Read one recording.

        Raises
        ------
        DataError
            If mne-bids cannot read it, it is truncated, or its events do not fit.
        """
        import mne_bids

        where = f"bids reader: {key.files[0]}"
        with mne_errors(where):
            path = mne_bids.get_bids_path_from_fname(key.paths[0], verbose="error")
            path = path.update(root=key.root)
            file = _sidecar(path, "events", ".tsv")
            events = _read_events(file, dict(self.events), where=where) if file else None
            raw = mne_bids.read_raw_bids(path, verbose="error")
            check_whole(raw, key.paths[0], where=where)
        return to_recording(
            raw,
            key,
            where=where,
            events=self._choose(events, raw.n_times / raw.info["sfreq"], where=where),
            rules=ChannelRules(self.not_eeg, self.unit),
            participant=_participant(Path(key.root), key.subject),
            source=_facts(path),
        )

    def _choose(
        self, events: pd.DataFrame | None, end: float, *, where: str
    ) -> pd.DataFrame | None:
        """Return the events that are trials; None where there are no events at all."""
        if events is None or events.empty:
            return None
        events = last_until_next(events, end=end, duration=self.duration)
        kind = events.pop("kind")
        if not self.events:
            return events
        events["event"] = kind.map(dict(self.events))
        events = events.dropna(subset="event").reset_index(drop=True)
        if events.empty:
            raise DataError(
                where,
                f"none of {', '.join(dict(self.events))} is among its events "
                f"({', '.join(sorted(set(kind)))})",
                "Name its events by --events NAME=LABEL, or leave its task out by --task",
            )
        return events


def _read_events(file: Path, asked: Container[str], *, where: str) -> pd.DataFrame:
    """Return the events of ``events.tsv``, each with its ``kind``, without BAD spans."""
    table = _read_tsv(file)
    column = next((name for name in ("trial_type", "value") if name in table), None)
    kind = table[column] if column else pd.Series("", table.index)
    kept = kind.map(lambda name: is_event(name, asked)).astype(bool)
    table, kind = table[kept], kind[kept]
    shown = next((table[name] for name in _STIMULUS if name in table), kind)
    try:
        seconds = {name: pd.to_numeric(numbers(table[name])) for name in ("onset", "duration")}
        if seconds["onset"].isna().any():
            raise ValueError("an event has no onset")
    except (KeyError, ValueError) as error:
        raise DataError(
            where,
            f"{file.name} cannot be read ({error})",
            "Give it columns onset and duration, in seconds",
        ) from error
    labels = {
        f"events_{name}" if name in TRIAL_COLUMNS else name: numbers(table[name])
        for name in table
        if name not in ("onset", "duration", "sample", "stimulus")
    }
    return pd.DataFrame(seconds | {"stimulus": shown, "kind": kind} | labels).reset_index(drop=True)


def _key(path: mne_bids.BIDSPath, root: Path) -> Key:
    sidecars = (
        _sidecar(path, suffix, extension)
        for suffix, extension in (
            ("events", ".tsv"),
            ("channels", ".tsv"),
            ("electrodes", ".tsv"),
            ("coordsystem", ".json"),
            ("eeg", ".json"),
        )
    )
    participants = root / "participants.tsv"
    files = [path.fpath, *companions(path.fpath), *(file for file in sidecars if file)]
    if participants.is_file():
        files.append(participants)
    return Key(
        subject=path.subject,
        session=path.session or "1",
        run=plain(f"{path.task or ''}{path.acquisition or ''}{path.run or ''}") or "1",
        files=tuple(file.relative_to(root).as_posix() for file in files),
        root=str(root),
    )


def _sidecar(path: mne_bids.BIDSPath, suffix: str, extension: str) -> Path | None:
    """Return the file that goes with a recording, if there is one."""
    found = path.find_matching_sidecar(suffix=suffix, extension=extension, on_error="ignore")
    return Path(found) if found else None


def _read_tsv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig")


def _participant(root: Path, subject: str) -> dict[str, Any]:
    """Return a person's row of ``participants.tsv``, without what is not known."""
    if not (root / "participants.tsv").is_file():
        return {}
    table = _read_tsv(root / "participants.tsv")
    if "participant_id" not in table:
        return {}
    rows = table[table["participant_id"] == f"sub-{subject}"].drop(columns="participant_id")
    if rows.empty:
        return {}
    return {
        str(name): value if isinstance(value, str) else float(value)
        for name, value in rows.apply(numbers).iloc[0].items()
        # NaN alone differs from itself.
        if value not in ("", "n/a") and value == value
    }


def _facts(path: mne_bids.BIDSPath) -> dict[str, Any]:
    """Return what the recording's JSON says about the signal's history."""
    file = _sidecar(path, "eeg", ".json")
    sidecar = json.loads(file.read_text(encoding="utf-8")) if file else {}
    facts = {
        "format": path.extension.lstrip("."),
        "task": path.task,
        "reference": sidecar.get("EEGReference"),
        "line_frequency": sidecar.get("PowerLineFrequency"),
    }
    return {name: value for name, value in facts.items() if value not in (None, "", "n/a")}
