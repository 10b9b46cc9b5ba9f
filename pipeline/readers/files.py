"""Any folder of recordings that MNE reads: EDF, BDF, BrainVision, EEGLAB, FIF and more.

Who and when come from a pattern of file names; labels from the pattern's other fields, from the
recordings' annotations, or from a table.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.channel_types import ChannelRules
from omfa.pipeline.readers.events import (
    annotation_events,
    annotation_names,
    events_nowhere,
    last_until_next,
)
from omfa.pipeline.readers.folder import is_service, left_out, once, text_of, walk
from omfa.pipeline.readers.montages import montage_file
from omfa.pipeline.readers.opening import companions, open_raw
from omfa.pipeline.readers.raw import check_unique, to_recording
from omfa.pipeline.readers.tables import Pairs, numbers, pairs, plain, seconds
from omfa.pipeline.recording import TRIAL_COLUMNS, Key, Recording
from omfa.pipeline.words import some

EXTENSIONS = (".edf", ".bdf", ".gdf", ".vhdr", ".ahdr", ".set", ".fif", ".cnt", ".nxe", ".lay")
"""Single files that MNE reads as EEG and that are not also the names of other things."""

_IDS = ("subject", "session", "run")


@dataclass(frozen=True)
class FilesReader:
    """Reads a folder of recordings, one recording per file.

    In Python ``events`` is a mapping: ``{"T1": "left", "T2": "right"}``.

    Attributes
    ----------
    pattern : str or None
        How files are named: ``"S{subject}R{run}.edf"``. ``{subject}``, ``{session}`` and ``{run}``
        are letters and digits; every other field is a label of the recording (``{stimulus}`` is
        what was shown); a field may list what it takes, ``{run:04|08|12}``; ``*`` is anything
        within a name and ``**`` across folders. With a ``/`` it is the path below the folder,
        without it the file's name in any folder. Files it does not match are left out. Without
        ``{run}``, the labels distinguish a session's recordings. None: the subject is the first
        folder, the session the folders below it, the run the file's name; directly below the
        folder, the subject is the file's name.
    labels_from : str
        ``"pattern"``: a recording is one trial. ``"annotations"``: an annotation is a trial, to
        its end or to the next one. Otherwise the path of a CSV or TSV table, below the folder or
        absolute: columns ``file`` or any of ``subject``, ``session``, ``run`` say which recording,
        ``onset`` and ``duration`` (seconds) which part of it, ``stimulus`` what was shown, and
        every other column is a label.
    events : mapping
        The annotations to take, each with its label: ``T1=left T2=right``. Labels then come from
        the annotations.
    duration : float or None
        Seconds that every annotation's trial lasts, in place of its own.
    extensions : tuple of str
        What a recording's name ends with.
    not_eeg : tuple of str
        Channels to keep apart from the EEG, as names or patterns.
    unit : {"V", "mV", "uV", "nV"} or None
        The unit of the EEG's numbers in the files, where they declare none or a wrong one.
    name : str
        What the store calls the data, such as "eegmat". A new store needs one, and there is no
        default, for people are known by it. Datasets opened together need names that differ.
    eeg : tuple of str
        Channels that are EEG whatever type the file gives them, as names or patterns.
    ignore_positions : bool
        Take no measured positions from the files.
    encoding : str or None
        Of the texts in EDF and BDF files, where they are not in UTF-8.
    montage : str or None
        Where electrodes are, in place of what the recordings say: the name of one of MNE's
        montages, such as "GSN-HydroCel-128", or a file, below the folder or absolute.
    """

    pattern: str | None = None
    labels_from: str = "pattern"
    events: Pairs = ()
    duration: float | None = None
    extensions: tuple[str, ...] = EXTENSIONS
    not_eeg: tuple[str, ...] = ()
    unit: str | None = None
    name: str = "files"
    eeg: tuple[str, ...] = field(default=(), metadata={"quiet": True})
    ignore_positions: bool = field(default=False, metadata={"quiet": True})
    encoding: str | None = field(default=None, metadata={"quiet": True})
    montage: str | None = field(default=None, metadata={"quiet": True})

    def __post_init__(self) -> None:
        self._rules  # noqa: B018 - it checks itself
        object.__setattr__(self, "events", pairs(self.events))
        if self.pattern is not None:
            _compile(self.pattern)
        if self._table is not None and self.events:
            raise DataError(
                "files reader: its options",
                f"labels are to come from {self.labels_from} and from the annotations",
                "Give either --labels-from or --events",
            )

    @property
    def _rules(self) -> ChannelRules:
        return ChannelRules(
            self.not_eeg, self.unit, self.eeg, self.ignore_positions, montage=self.montage
        )

    @property
    def _table(self) -> str | None:
        return None if self.labels_from in ("pattern", "annotations") else self.labels_from

    def discover(self, root: str | Path) -> list[Key]:
        """List the recordings below a folder.

        Raises
        ------
        DataError
            If there are none, the pattern matches none, two have the same name, or a row of the
            table is of none.
        """
        root = Path(root)
        where = f"files reader: {root}"
        paths = self.recordings(root)
        found = [(key, path) for path in paths if (key := self._key(root, path)) is not None]
        keys = [key for key, _ in found]
        if not keys:
            example = paths[0].relative_to(root).as_posix()
            raise DataError(
                where,
                f"none of {len(paths)} recordings, such as {example!r}, matches the pattern "
                f"{self.pattern!r}",
                "Change --pattern, with {subject} where the subject's number is",
            )
        self._name_left_out(root, {*paths} - {path for _, path in found})
        spelled = [_folders(path.relative_to(root)) for _, path in found]
        check_unique(
            keys,
            spelled if self.pattern is None else (),
            where=where,
            action="Rename one, or give a --pattern with the fields {subject}, {session} and {run} "
            "that tell them apart",
        )
        if self._table is not None:
            self._check_rows(keys, _read_table(root / self._table))
        return sorted(keys)

    def read(self, key: Key) -> Recording:
        """Read one recording.

        Raises
        ------
        DataError
            If MNE cannot read it, it is truncated, or its labels are not there.
        """
        where, notes = f"files reader: {key.files[0]}", list[str]()
        raw = open_raw(key.paths[0], where=where, encoding=self.encoding, notes=notes)
        labels = self._labels(key.files[0])
        if self._table is not None:
            events = _rows_of(key, _read_table(Path(key.root) / self._table), where=where)
            if "onset" in events:
                events = last_until_next(
                    events, end=raw.n_times / raw.info["sfreq"], where=where, notes=notes
                )
        elif self.events or self.labels_from == "annotations":
            events = annotation_events(
                raw,
                where=where,
                events=dict(self.events),
                duration=self.duration,
                path=key.paths[0],
                encoding=self.encoding,
                notes=notes,
            )
        else:
            events = pd.DataFrame({"stimulus": [labels.get("stimulus", "")]})
        for name, value in labels.items():
            if name in events and (events[name] != value).any():
                raise DataError(
                    where,
                    f"{name!r} is {value!r} in the pattern and something else in the labels",
                    "Rename the pattern's field",
                )
            events[name] = value
        return to_recording(
            raw,
            key,
            where=where,
            events=events,
            rules=self._rules,
            source={"format": Path(key.files[0]).suffix.lstrip(".").lower()},
            notes=notes,
        )

    def review(self, stored: Iterable[tuple[Key, pd.DataFrame]]) -> Iterator[str]:
        """Say which of the ``events`` are a trial in no recording of the store."""

        def known(key: Key) -> tuple[str, ...]:
            return annotation_names(key.paths[0], where=key.files[0], encoding=self.encoding)

        return events_nowhere(dict(self.events), stored, name="files", by="stimulus", known=known)

    def recordings(self, root: Path) -> list[Path]:
        """List the files that are recordings, whatever they are called.

        Raises
        ------
        DataError
            If there is no such folder, or no recording in it.
        """
        if not root.is_dir():
            raise DataError(f"files reader: {root}", "it is no folder", "Give the folder's path")
        ends = tuple(extension.lower() for extension in self.extensions)
        files = [path for path in walk(root) if path.name.lower().endswith(ends)]
        files = once(files, where=f"files reader: {root}")
        parts = {other for path in files for other in companions(path)}
        if not files:
            service = [p.name for p in root.iterdir() if p.is_dir() and is_service(p.name)]
            skipped = f"; {some(sorted(service))} are not searched" if service else ""
            raise DataError(
                f"files reader: {root}",
                f"it holds no recording ({', '.join(self.extensions)}){skipped}",
                "Give the folder that holds the recordings, or name their --extensions",
            )
        return [path for path in files if path not in parts]

    def _key(self, root: Path, path: Path) -> Key | None:
        """Return the recording's key; None if the pattern does not match it."""
        relative = path.relative_to(root)
        if self.pattern is None:
            ids = _ids_from_folders(relative)
        elif (fields := _match(self.pattern, relative.as_posix())) is None:
            return None
        else:
            labels = [plain(text) for name, text in fields.items() if name not in _IDS]
            ids = {"run": "".join(labels) or "1"}
            ids |= {name: fields[name] for name in _IDS if name in fields}
        files = [path, *companions(path)]
        if self._table is not None:
            files.append(root / self._table)
        files += [file for file in [montage_file(self.montage, root)] if file]
        names = tuple(_relative(file, root) for file in files)
        return Key(**ids, files=names, root=str(root))

    def _name_left_out(self, root: Path, others: Iterable[Path]) -> None:
        """Warn of recordings that the pattern does not match, and not for a choice in it."""
        if self.pattern is None:
            return
        every = re.sub(r"(\{\w+):[^{}]*\}", r"\1}", self.pattern)
        names = [path.relative_to(root).as_posix() for path in others]
        if names := [name for name in names if _match(every, name) is None]:
            where = f"files reader: {root}"
            left_out(where, names, f"do not match the pattern {self.pattern!r}")

    def _labels(self, relative: str) -> dict[str, str]:
        fields = _match(self.pattern, relative) if self.pattern is not None else None
        return {name: text for name, text in (fields or {}).items() if name not in _IDS}

    def _check_rows(self, keys: Sequence[Key], table: pd.DataFrame) -> None:
        claimed = pd.Series(False, index=table.index)
        for key in keys:
            claimed |= _is_of(key, table)
        if not claimed.all():
            row = int((~claimed).to_numpy().argmax())
            who = ", ".join(f"{name} {table[name].iloc[row]}" for name in _keys_of(table))
            raise DataError(
                f"files reader: {self._table}",
                f"row {row + 1} ({who}) is of no recording in {keys[0].root}; there are "
                f"{keys[0].recording} and {len(keys) - 1} more",
                "Remove the row, get the missing file, or spell it as the pattern reads it",
            )


def _compile(pattern: str) -> re.Pattern[str]:
    """Turn a pattern of file names into a regular expression."""
    special = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    expression = ""
    seen: set[str] = set()
    suffix = re.search(r"(?:\.\w+)?$", pattern)
    end = suffix[0] if suffix else ""
    # The longest first, or ** would be taken for two *.
    for token in re.split(r"(\{[^{}]*\}|\*\*/|\*\*|\*)", pattern.removesuffix(end)):
        if not token.startswith("{"):
            expression += special.get(token, re.escape(token))
            continue
        name, _, choices = token[1:-1].partition(":")
        if not name.isidentifier() or name in TRIAL_COLUMNS[:-1]:
            raise DataError(
                f"files reader: pattern {pattern!r}",
                f"{token} cannot be the name of a field",
                "Use a word that is no column of the trial table: " + ", ".join(TRIAL_COLUMNS[:-1]),
            )
        characters = (
            "|".join(map(re.escape, choices.split("|")))
            if choices
            else ("[A-Za-z0-9]+" if name in _IDS else "[^/]+?")
        )
        # A field that stands twice is the same text in both places.
        expression += f"(?P={name})" if name in seen else f"(?P<{name}>{characters})"
        seen.add(name)
    if "subject" not in seen:
        raise DataError(
            f"files reader: pattern {pattern!r}",
            "it does not say where the subject is",
            "Put {subject} in its place, such as 'S{subject}R{run}.edf'",
        )
    return re.compile(f"{expression}(?i:{re.escape(end)})")  # .EDF is .edf


def _match(pattern: str, relative: str) -> dict[str, str] | None:
    target = relative if "/" in pattern else relative.rsplit("/", 1)[-1]
    found = _compile(pattern).fullmatch(target)
    return found.groupdict() if found else None


def _ids_from_folders(relative: Path) -> dict[str, str]:
    subject, session = _folders(relative)
    if relative.parent == Path():
        return {"subject": plain(subject)}
    run = plain(relative.with_suffix("").name)
    return {"subject": plain(subject), "session": plain(session) or "1", "run": run}


def _folders(relative: Path) -> tuple[str, str]:
    """Return a recording's subject and session as its folders spell them."""
    *folders, file = relative.with_suffix("").parts
    return (folders[0], "/".join(folders[1:])) if folders else (file, "")


def _relative(path: Path, root: Path) -> str:
    """Return a path below the root as relative, and any other as it is."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _read_table(path: Path) -> pd.DataFrame:
    """Read a table of labels: names of recordings as text, other columns as numbers if they are."""
    where = f"files reader: {path}"
    try:
        text = text_of(path)
        header = text.partition("\n")[0]
        separator = max("\t,;", key=header.count)
        table = pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False,
                            skipinitialspace=True)  # fmt: skip
    except (OSError, ValueError) as error:
        raise DataError(
            where,
            f"the table of labels cannot be read ({error})",
            "Give --labels-from the path of a CSV or TSV table, or 'pattern' or 'annotations'",
        ) from error
    known = {*_IDS, "file", "onset", "duration", "stimulus"}
    table = table.rename(columns=str.strip)
    table = table.rename(columns=lambda name: name.lower() if name.lower() in known else name)
    if not _keys_of(table):
        raise DataError(
            where,
            f"no column says which recording a row is of ({', '.join(table.columns)})",
            "Name a column file, subject, session or run",
        )
    if clash := set(table.columns) & set(TRIAL_COLUMNS) - {"onset", "stimulus"}:
        raise DataError(
            where,
            f"its column {min(clash)!r} has the name of a column of the trial table",
            "Rename it",
        )
    texts = {*_keys_of(table), "stimulus"}
    # commas between cells leave none for decimals
    commas = separator != ","

    def read(column: pd.Series) -> pd.Series:
        if column.name in texts:
            return column.str.strip()
        if column.name not in ("onset", "duration"):
            return numbers(column, decimal_comma=commas)
        try:
            return seconds(column)
        except ValueError as error:
            raise DataError(
                where,
                f"its column {column.name!r} holds text ({error})",
                "Give seconds, as numbers",
            ) from error

    return table.apply(read)


def _keys_of(table: pd.DataFrame) -> list[str]:
    return [name for name in ("file", *_IDS) if name in table]


def _is_of(key: Key, table: pd.DataFrame) -> pd.Series:
    names = {"file": key.files[0], "subject": key.subject, "session": key.session, "run": key.run}
    same = pd.Series(True, index=table.index)
    for name in _keys_of(table):
        same &= table[name].str.strip() == names[name]
    return same


def _rows_of(key: Key, table: pd.DataFrame, *, where: str) -> pd.DataFrame:
    """Return a recording's rows of the table, without the columns that name it."""
    rows = table[_is_of(key, table)].drop(columns=_keys_of(table)).reset_index(drop=True)
    if rows.empty or ("onset" not in rows and len(rows) > 1):
        raise DataError(
            where,
            f"the table of labels has {len(rows)} rows for {key.recording}"
            + (" and no column 'onset' that tells them apart" if len(rows) else ""),
            "Give it a row, or leave the file out by --pattern" if rows.empty else
            "Add columns onset and duration in seconds, or leave one row",
        )  # fmt: skip
    if "onset" in rows and "duration" not in rows:
        rows["duration"] = float("nan")
    if "onset" not in rows:
        rows = rows.drop(columns="duration", errors="ignore")
    if "stimulus" not in rows:
        rows["stimulus"] = ""
    return rows
