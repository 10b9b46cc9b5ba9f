"""The UCS store: opening, reading and checking it.

A store is a Zarr v3 group with one subgroup per recording.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import zarr
from zarr.codecs import Crc32cCodec

from omfa.pipeline import views
from omfa.pipeline.channels import UCS, ChannelSchema
from omfa.pipeline.decoding import bounded, claims, foreign, most_bytes
from omfa.pipeline.encoding import CHUNK_SAMPLES as CHUNK_SAMPLES
from omfa.pipeline.encoding import METADATA, sha256
from omfa.pipeline.encoding import AlignedRecording as AlignedRecording
from omfa.pipeline.encoding import encode as encode
from omfa.pipeline.errors import DataError
from omfa.pipeline.location import Location, being_written, locate
from omfa.pipeline.metadata import (
    LONGEST,
    SHOWN,
    UNFINISHED,
    UnreadableRoot,
    is_strange,
    listed_row,
    misread,
    read_metadata,
    read_root,
    root_damage,
    sealed,
    settings_digests,
)
from omfa.pipeline.recording import MAX_SFREQ
from omfa.pipeline.words import some

if TYPE_CHECKING:
    import mne
    import xarray
    from matplotlib.figure import Figure

State = Literal["missing", "current", "damaged", "settings changed", "source changed"]

# A recording that is being replaced is missing for a moment, and its files are of two versions to
# who reads one after the other. What is wrong twice, this many seconds apart, is damage.
_MOMENT = 0.05
_LOOKS = 5

# Bytes. A chunk of our making has at most 1 MB and takes at least 36 bytes with its place in the
# index, so that what unpacks to more than this many times its files is not ours.
_LARGE = 1 << 26
_MOST_PACKED = 30_000

# Chunks of an array. Ours span a quarter of a million samples; each costs a step in Python.
_MOST_CHUNKS = 100_000

# Arrays of places in the signal, and of numbers of its samples.
_PLACES = tuple(
    f"{what}_{which}" for what in ("trial", "baseline", "segment") for which in ("onset", "length")
)

# In an object store a run leaves its mark where it writes. Putting a recording of an hour takes
# seconds; a mark that stands this many seconds after all else is checked is of a dead run.
_PATIENCE = 30.0


# ---------------------------------------------------------------------------------- the store


@dataclass(frozen=True)
class Damage:
    """What ``verify`` found wrong with one recording, or with the root, ``zarr.json``."""

    recording: str
    found: str


@dataclass(repr=False)
class Store:
    """An open store.

    ``open_store`` makes one. It lists recordings without touching their signals.

    Attributes
    ----------
    location : Location
    settings : dict
        How the store was made: source, reader, preprocessing, channel rules, software.

    Examples
    --------
    >>> from omfa.pipeline import open_store
    >>> store = open_store("dreamer.zarr")
    >>> len(store), len(store.channels)
    (2, 14)
    >>> store[0].recording
    'sub-01_ses-1_run-1'
    """

    location: Location
    settings: dict[str, Any]
    _listed: dict[str, dict[str, Any]] = field(repr=False)
    _known: frozenset[str] = field(default=frozenset(), repr=False)

    def __len__(self) -> int:
        return len(self._listed)

    def __iter__(self) -> Iterator[StoredRecording]:
        return (self[name] for name in self._listed)

    def __contains__(self, recording: object) -> bool:
        return recording in self._listed

    def __repr__(self) -> str:
        row = self.recordings
        hours = float((row["n_times"] / row["sfreq"]).sum()) / 3600 if len(row) else 0.0
        return (
            f"<Store {self.name!r} at {self.path} | {len(self)} recordings of "
            f"{row['subject'].nunique()} subjects | {len(self.channels)} channels | {hours:.1f} h>"
        )

    def _repr_html_(self) -> str:
        row = self.recordings
        facts = {
            "address": self.path,
            "subjects": row["subject"].nunique(),
            "channels": views.listed(self.channels),
            "labels": views.listed(dict.fromkeys(name for one in row["labels"] for name in one))
            if len(row)
            else "",
            "bad channels": int(row["bad_channels"].map(len).sum()) if len(row) else 0,
            "failed in the last run": views.listed(self.failures),
        }
        return views.cell(f"{self.name}, {len(self)} recordings", facts, row)

    def __getitem__(self, recording: str | int) -> StoredRecording:
        """Return one recording by name, or by its place."""
        if isinstance(recording, int):
            names = list(self._listed)
            if not -len(names) <= recording < len(names):
                raise DataError(
                    f"Opening recording {recording} of {self.location.address}",
                    f"the store has {len(self)}",
                    "Count from 0, or give a recording's name",
                )
            recording = names[recording]
        if recording not in self._listed:
            raise DataError(
                f"Opening recording {recording!r} of {self.location.address}",
                f"the store has no such recording among its {len(self)}",
                "List them by `omfa-ingest inspect`",
            )
        return StoredRecording(self.location, recording)

    def keep(self, recordings: Collection[str]) -> Store:
        """Return the store with these of its recordings only, by name; nothing is opened for it."""
        listed = {name: row for name, row in self._listed.items() if name in recordings}
        return Store(self.location, self.settings, listed, self._known)

    @property
    def path(self) -> str:
        """The store's address."""
        return self.location.address

    @property
    def name(self) -> str:
        """The dataset's name: the source's, such as ``"deap"``, or what it calls itself."""
        return str(self.settings.get("dataset") or self.settings["source"])

    @property
    def recordings(self) -> pd.DataFrame:
        """A row per recording: subject, session, run, channels, rate, trials, duration."""
        table = pd.DataFrame.from_dict(self._listed, orient="index")
        if not len(table):
            table = pd.DataFrame(columns=[*SHOWN, "bytes_out", "settings_digest"])
        table.index.name = "recording"
        return table

    @property
    def nbytes(self) -> int:
        """Bytes of all recordings as stored."""
        return sum(row["bytes_out"] for row in self._listed.values())

    @property
    def failures(self) -> dict[str, str]:
        """What the last run could not store, by recording, with the reason."""
        return dict(self.settings.get("failures", {}))

    @cached_property
    def ucs(self) -> ChannelSchema:
        """The schema with the store's own rules for CB1, CB2 and aliases."""
        rules = self.settings["channels"]
        return UCS.with_options(cerebellar=rules["cerebellar"], aliases=rules["aliases"])

    @cached_property
    def channels(self) -> list[str]:
        """Every channel that some recording holds, in UCS order."""
        return UCS.in_order(name for row in self._listed.values() for name in row["channels"])

    @cached_property
    def common_channels(self) -> list[str]:
        """The channels that all recordings hold, in UCS order."""
        sets = [set(row["channels"]) for row in self._listed.values()]
        return UCS.in_order(set.intersection(*sets)) if sets else []

    def without_checksums(self) -> str:
        """Say how many recordings have no checksum of their chunks; nothing if all have one.

        Recordings that cannot be opened do not count: ``verify`` names them.
        """
        lacking = 0
        for recording in self:
            with suppress(DataError):
                lacking += not recording.checked_where_read
        return (
            f"{lacking} of {len(self)} recordings are of an earlier omfa and have no checksum of "
            "their chunks: what is damaged in them shows when they are verified, and not when they "
            "are read. The ingest command with --rewrite makes them with checksums."
            if lacking
            else ""
        )

    def verify(self) -> Iterator[tuple[str, Damage | None]]:
        """Recompute every checksum, also of recordings that were listed once and are gone.

        What another run is writing to an object store comes last, once that run has finished it.

        Yields
        ------
        recording : str
            The root comes first, as ``zarr.json``, and only if something is wrong with it.
        damage : Damage or None
            None where every byte is as it was written.
        """
        if found := root_damage(self.location):
            yield METADATA, Damage(METADATA, found)
        unfinished = []
        for name in sorted(self._known | self._listed.keys()):
            if (found := self._found(name)) == UNFINISHED:
                unfinished.append(name)
            else:
                yield name, Damage(name, found) if found else None
        deadline = time.monotonic() + _PATIENCE
        for name in unfinished:
            while (found := self._found(name)) == UNFINISHED and time.monotonic() < deadline:
                time.sleep(_MOMENT)
            yield name, Damage(name, found) if found else None

    def _found(self, name: str) -> str:
        """Return what is wrong with a recording; empty if nothing is."""
        found = damage(self.location, name)
        if not found and name not in self._listed:
            row = listed_row(self.location, name)  # it may have come since
            if row and row["settings_digest"] != self.settings["settings_digest"]:
                return "it was made with other settings than the store's"
        return found


@dataclass(frozen=True, repr=False)
class StoredRecording:
    """One recording of a store; arrays are read when asked for.

    Examples
    --------
    >>> from omfa.pipeline import open_store
    >>> recording = open_store("dreamer.zarr")["sub-01_ses-1_run-1"]
    >>> recording.signal().dtype, recording.channels[:2]
    (dtype('float32'), ['AF3', 'AF4'])
    >>> list(recording.trials.columns[:2])
    ['onset', 'length']
    >>> raw = recording.to_raw(trial=0)
    """

    location: Location = field(repr=False)
    recording: str

    def __repr__(self) -> str:
        try:
            n_trials = self._opened[1]["trial_onset"].shape[0]  # without reading it
            return (
                f"<StoredRecording {self.recording} | {len(self.channels)} channels | "
                f"{self.sfreq:g} Hz | {self.duration:.1f} s | {n_trials} trials>"
            )
        except DataError as error:
            return f"<StoredRecording {self.recording} | {error.args[1]}>"

    def _repr_html_(self) -> str:
        facts = {
            "channels": views.listed(self.channels),
            "bad channels": views.listed(self.bad_channels),
            "rate": f"{self.sfreq:g} Hz",
            "duration": f"{self.duration:.1f} s",
            "labels": views.listed(self.labels),
            "signals": "simulated" if self.simulated else "",
        }
        return views.cell(self.recording, facts, self.events)

    @property
    def group(self) -> zarr.Group:
        """The recording's Zarr group, opened with its consolidated metadata.

        Raises
        ------
        DataError
            If the metadata are not those that were written for a recording of this name.
        """
        return self._opened[0]

    @cached_property
    def _opened(self) -> tuple[zarr.Group, dict[str, zarr.Array]]:
        """The group, and each array in it by name."""
        try:
            _, found = sealed(self.location, self.recording)
        except OSError as error:
            found = str(error)
        if found:
            raise self._damaged(found)
        options = dict(getattr(self.location, "options", ()))
        try:
            group = zarr.open_group(
                self.location.address,
                path=self.recording,
                mode="r",
                storage_options=options or None,
                use_consolidated=True,
                zarr_format=3,  # else files of the older format are read too, whatever they are
            )
            # However deep: a label's name may have a slash.
            arrays = {
                name: node
                for name, node in group.members(max_depth=None)
                if isinstance(node, zarr.Array)
            }
            self._check_claims(group, arrays)
            self._check_facts(group.attrs, arrays["signal"])
        except DataError:
            raise
        except Exception as error:  # another run replaces it, or it is none of ours
            raise self._damaged(
                f"its metadata are none that omfa writes ({type(error).__name__}: {error!s:.200})"
            ) from error
        return group, arrays

    def _check_claims(self, group: zarr.Group, arrays: Mapping[str, zarr.Array]) -> None:
        """Refuse, before memory is taken, arrays that are larger than their files can hold."""
        attrs = cast(Mapping[str, Any], group.attrs)
        for name, array in arrays.items():
            if codecs := foreign(array):
                raise self._damaged(f"its {name} is of the codecs {codecs}, and omfa writes others")
            expected = (len(attrs["channels"]), attrs["n_times"])
            if name == "signal" and (array.shape != expected or array.dtype.kind != "f"):
                raise self._damaged(
                    f"its signal is {array.shape} of {array.dtype}, its metadata say {expected} of "
                    "fractions"
                )
            # What a chunk claims is taken too, and a shard may be larger than its array.
            items = max(array.size, math.prod(array.shards or array.chunks))
            claimed = items * array.dtype.itemsize
            if claimed > _LARGE:
                packed = self._packed(attrs["checksums"], f"{name}/c")
                if claimed > _LARGE + _MOST_PACKED * packed:
                    raise self._damaged(
                        f"its {name} claims {claimed:,} bytes and its files have {packed:,}"
                    )
            whole = map(max, array.shape, array.shards or array.shape)
            n_chunks = math.prod(map(_ceil, whole, array.chunks))
            if n_chunks > _MOST_CHUNKS:
                raise self._damaged(f"its {name} has {n_chunks:,} chunks, more than any of ours")

    def _check_facts(self, attrs: Mapping[str, Any], signal: zarr.Array) -> None:
        """Refuse facts that no recording of omfa has: what reads them trusts them."""
        rate, channels = attrs["sfreq"], attrs["channels"]
        if not isinstance(rate, int | float) or not 0 < rate <= MAX_SFREQ:
            raise self._damaged(f"its rate is {rate!r:.40} Hz")
        if not isinstance(channels, list) or UCS.in_order(channels) != channels:
            raise self._damaged("its channels are not in the order of the channel schema")
        if attrs["dtype"] != str(signal.dtype):
            raise self._damaged(
                f"its signal is of {signal.dtype}, its metadata say {attrs['dtype']}"
            )
        for name in ("source", "participant"):
            if not isinstance(attrs.get(name, {}), dict):
                raise self._damaged(f"what it says of its {name} is no mapping")

    def _packed(self, files: Iterable[str], beginning: str) -> int:
        """Return the bytes of the files that begin so."""
        packed = 0
        for file in files:
            if file.startswith(beginning):
                try:
                    packed += self.location.size(f"{self.recording}/{file}")
                except FileNotFoundError as error:
                    raise self._damaged(f"{file} is missing") from error
        return packed

    def file(self, name: str) -> bytes:
        """Return the content of one of its files.

        Parameters
        ----------
        name : str
            As in the attribute ``checksums``.

        Raises
        ------
        DataError
            If the recording's metadata are not as written.
        OSError
            If the file cannot be read, or has more bytes than its array can have.
        """
        array = self._array_of(name)
        most = most_bytes(array) if array else LONGEST
        return self.location.read(f"{self.recording}/{name}", most)

    def claims(self, name: str, content: bytes) -> str:
        """Return what a file's content claims beyond the shape of its array; empty if nothing."""
        array = self._array_of(name)
        return claims(array, content) if array else ""

    def _array_of(self, file: str) -> zarr.Array | None:
        """Return the array of a file of values; None if it is one of metadata."""
        return self._opened[1].get(file.rpartition("/c/")[0])

    @property
    def attrs(self) -> dict[str, Any]:
        """The group's attributes: who, how made, source files, checksums."""
        return dict(self.group.attrs)

    @property
    def simulated(self) -> bool:
        """Whether the signals are simulated, as the reader or the files said at ingest."""
        source = self.group.attrs.get("source")
        return isinstance(source, Mapping) and source.get("simulated") is True

    @property
    def checked_where_read(self) -> bool:
        """Whether each chunk of its signal has a CRC-32C; earlier omfa wrote none."""
        compressors = self._opened[1]["signal"].compressors
        return any(isinstance(codec, Crc32cCodec) for codec in compressors)

    @property
    def sfreq(self) -> float:
        """Hz."""
        return float(cast(float, self.group.attrs["sfreq"]))

    @property
    def channels(self) -> list[str]:
        """UCS names in UCS order."""
        return list(cast(Sequence[str], self.group.attrs["channels"]))

    @property
    def bad_channels(self) -> list[str]:
        """The channels that quality control marked."""
        return list(cast(Sequence[str], self.group.attrs["bad_channels"]))

    @property
    def labels(self) -> list[str]:
        """Names of the trial table's labels and ratings."""
        return list(cast(Sequence[str], self.group.attrs["labels"]))

    def array(self, name: str) -> npt.NDArray[Any]:
        """Return a whole array by the name that ``docs/store.md`` gives it.

        Raises
        ------
        DataError
            If its bytes are not those that were written, or lie outside the recording.
        """
        values = self._read(name)
        if name in _PLACES and values.size:
            n_times = int(cast(int, self.group.attrs["n_times"]))
            if values.dtype.kind != "i" or values.min() < 0 or values.max() > n_times:
                raise self._damaged(
                    f"its {name} is not within the {n_times:,} samples of its signal"
                )
        return values

    def signal(self, start: int = 0, stop: int | None = None) -> npt.NDArray[np.float32]:
        """Return the signal, decoded.

        Parameters
        ----------
        start, stop : int
            Samples. A chunk is decoded whole, so ask for a trial and cut its windows.

        Returns
        -------
        ndarray of float32, shape (n_chans, n_times)
            Microvolts.

        Raises
        ------
        DataError
            If its bytes are not those that were written.
        """
        return self.stored_signal(start, stop).astype(np.float32, copy=False)

    def stored_signal(self, start: int = 0, stop: int | None = None) -> npt.NDArray[np.floating]:
        """Return the signal in the type that it is stored in, for who keeps many of them.

        Sums of squares of float16 overflow: convert before computing.

        Parameters
        ----------
        start, stop : int
            As ``signal``.

        Returns
        -------
        ndarray of float16 or float32, shape (n_chans, n_times)
            Microvolts.
        """
        return self._read("signal", (slice(None), slice(start, stop)))

    def _read(self, name: str, selection: Any = ...) -> npt.NDArray[Any]:
        # As Zarr takes paths: earlier omfa wrote labels with slashes in their names.
        path = "/".join(part for part in name.replace("\\", "/").split("/") if part)
        if path not in (arrays := self._opened[1]):
            raise self._damaged(f"it has no {name}")
        try:
            array = bounded(arrays[path])
            values = np.asarray(array[selection])
            # Zarr takes a file that is not there for one that holds nothing but the fill value.
            if values.size and _same(values.flat[0], array.fill_value):
                self._find(name)
        except MemoryError:
            raise
        except Exception as error:  # codecs raise whatever damaged bytes lead them to
            while isinstance(error, ExceptionGroup):  # of ranges that were read together
                error = error.exceptions[0]
            raise self._damaged(f"{name} cannot be decoded ({error})") from error
        return values

    def _find(self, name: str) -> None:
        """Raise FileNotFoundError if a file of an array is not there."""
        checksums = cast(Mapping[str, str], self.group.attrs["checksums"])
        for file in checksums:
            if file.startswith(f"{name}/c") and not self.location.exists(
                f"{self.recording}/{file}"
            ):
                raise FileNotFoundError(f"{file} is missing")

    def _damaged(self, found: str) -> DataError:
        return DataError(
            f"Reading {self.recording} of {self.location.address}",
            found,
            "Run the ingest command again: it makes what is damaged again",
        )

    @property
    def duration(self) -> float:
        """Seconds."""
        return cast(int, self.group.attrs["n_times"]) / self.sfreq

    @property
    def events(self) -> pd.DataFrame:
        """The trials in seconds, a row each: ``onset``, ``duration``, ``stimulus``, the labels."""
        trials = self.trials
        seconds = {"onset": trials["onset"], "duration": trials["length"]}
        table = pd.DataFrame({name: column / self.sfreq for name, column in seconds.items()})
        return table.join(trials[["stimulus", *self.labels]])

    def _stretch(self, trial: int | None) -> tuple[int, int]:
        """Return the first sample of a trial and the one after its last; of all without one."""
        if trial is None:
            return 0, cast(int, self.group.attrs["n_times"])
        trials = self.trials
        if not -len(trials) <= trial < len(trials):
            raise DataError(
                f"Looking for trial {trial} of {self.recording} of {self.location.address}",
                f"it has {len(trials)}",
                "Count from 0, in the order of its table `trials`",
            )
        onset, length = trials[["onset", "length"]].iloc[trial]
        return int(onset), int(onset + length)

    def to_raw(self, trial: int | None = None) -> mne.io.RawArray:
        """Return the signal as MNE's Raw, in volts.

        The template positions of the channels are its montage, the trials its annotations, bad
        channels its ``info["bads"]``.

        Parameters
        ----------
        trial : int, optional
            One trial alone, counted from 0 as the rows of ``trials``. By default all of it.

        Raises
        ------
        DataError
            If there is no such trial, or the bytes are not those that were written.
        """
        start, stop = self._stretch(trial)
        events = self.events if trial is None else self.events.iloc[[trial]].assign(onset=0.0)
        return views.raw(
            self.signal(start, stop),
            self.channels,
            self.sfreq,
            events,
            bad=self.bad_channels,
            description=f"{self.recording} of {self.location.address}"
            + ", simulated" * self.simulated,
        )

    def to_xarray(self, trial: int | None = None) -> xarray.DataArray:
        """Return the signal as xarray's array, microvolts, by ``channel`` and ``time`` in seconds.

        Parameters
        ----------
        trial : int, optional
            One trial alone, counted from 0; its first sample is second 0.

        Raises
        ------
        DataError
            If xarray is not installed, there is no such trial, or the bytes are damaged.
        """
        signal = self.signal(*self._stretch(trial))
        return views.array(signal, self.channels, self.sfreq, name=self.recording)

    def plot(
        self, trial: int | None = None, *, start: float = 0.0, seconds: float = 10.0
    ) -> Figure:
        """Draw a stretch of the signal, a line per channel.

        Parameters
        ----------
        trial : int, optional
            From the onset of this trial, counted from 0; by default from that of the recording.
        start, seconds : float
            Where the stretch begins, and how long it is at most.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook shows it; ``savefig`` writes it.

        Raises
        ------
        DataError
            If there is no such trial, nothing of it is in the stretch, or the bytes are damaged.
        """
        begin, end = self._stretch(trial)
        first = begin + round(start * self.sfreq)
        last = min(end, first + round(seconds * self.sfreq))
        if not begin <= first < last:
            raise DataError(
                f"Drawing {self.recording} of {self.location.address}",
                f"there is nothing from {start:g} s for {seconds:g} s of "
                f"{(end - begin) / self.sfreq:g} s",
                "Begin earlier, or draw longer",
            )
        what = "" if trial is None else f", trial {trial}"
        return views.traces(
            self.signal(first, last),
            self.channels,
            self.sfreq,
            start=start,
            bad=self.bad_channels,
            title=f"{self.recording}{what}{' (simulated)' * self.simulated}",
        )

    @property
    def trials(self) -> pd.DataFrame:
        """The trial table in samples: a row per trial."""
        columns = {
            "onset": "trial_onset",
            "length": "trial_length",
            "baseline_onset": "baseline_onset",
            "baseline_length": "baseline_length",
            "stimulus": "stimulus",
        } | {label: label for label in self.labels}
        found = {name: self.array(stored) for name, stored in columns.items()}
        if len({values.shape for values in found.values()}) > 1:
            raise self._damaged("the columns of its trial table have different lengths")
        n_times = int(cast(int, self.group.attrs["n_times"]))
        for part in ("", "baseline_"):
            if (found[f"{part}onset"] + found[f"{part}length"] > n_times).any():
                raise self._damaged(f"a trial ends after the {n_times:,} samples of its signal")
        return pd.DataFrame(found)


def open_store(address: str | Path, *, storage_options: Mapping[str, Any] | None = None) -> Store:
    """Open a store for reading.

    Parameters
    ----------
    address : str or Path
        A local path or an fsspec URL.
    storage_options : mapping, optional
        What fsspec's file system takes.

    Raises
    ------
    DataError
        If there is no store, or it has another format or channel schema version.

    Examples
    --------
    >>> from omfa.pipeline import open_store
    >>> store = open_store("dreamer.zarr")
    >>> list(store.recordings["subject"])
    ['01', '02']
    """
    location = locate(address, storage_options)
    doing = f"Opening {address}"
    try:
        root = read_root(location)
    except UnreadableRoot as error:
        raise DataError(doing, str(error), _REBUILD) from error
    if root is None and settings_digests(location):
        raise DataError(doing, f"its {METADATA} is missing", _REBUILD)
    if root is None:
        raise DataError(doing, "there is no omfa store", "Make one: omfa-ingest SOURCE RAW STORE")
    # One is enough to know another store's root by; verify looks at all.
    found = root.found or misread(location, dict(islice(root.settings["recordings"].items(), 1)))
    if found:
        warnings.warn(
            f"{doing}: its {METADATA} {found}; what it says of recordings is taken from "
            "themselves. Run the ingest command again to mend it.",
            stacklevel=2,
        )
    settings = {name: value for name, value in root.settings.items() if name != "recordings"}
    cached = {} if found else root.settings["recordings"]
    folders = location.folders()
    rows = {name: cached.get(name) or listed_row(location, name) for name in folders}
    listed = {
        name: row
        for name, row in rows.items()
        if row and row["settings_digest"] == settings["settings_digest"]
    }
    if outdated := len([row for row in rows.values() if row]) - len(listed):
        warnings.warn(
            f"Opening {address}: {outdated} recordings were made with settings that the store no "
            "longer has, and are left out. Run the last omfa-ingest command again to remake them.",
            stacklevel=2,
        )
    if strange := [name for name, row in rows.items() if not row and is_strange(location, name)]:
        warnings.warn(
            f"{doing}: {some(strange)} cannot be read as recordings, and are left out. "
            "`omfa-ingest verify` says why; run the ingest command again to make them again.",
            stacklevel=2,
        )
    return Store(location, settings, listed, frozenset(cached) | frozenset(folders))


_REBUILD = "Run the ingest command again: it makes the root again from the recordings"


# ------------------------------------------------------------------------------- checking


def damage(location: Location, recording: str) -> str:
    """Return what is wrong with a recording's bytes; empty if they are as written."""
    found, last = _damage(location, recording), None
    for _ in range(_LOOKS):
        if not found[1] or found == last:
            break
        time.sleep(_MOMENT)
        found, last = _damage(location, recording), found
    return found[1]


def _damage(location: Location, recording: str) -> tuple[str, str]:
    """Return the digest that a recording's metadata state, and what is wrong with its files."""
    try:
        document, found = sealed(location, recording)
        if found:
            return "", found
        stored = StoredRecording(location, recording)
        for name, expected in document["attributes"]["checksums"].items():
            try:
                content = stored.file(name)
            except FileNotFoundError:
                found = f"{name} is missing"
            except OSError as error:
                found = f"{name} cannot be read ({error.strerror or error})"
            else:
                if sha256(content) != expected:
                    found = f"{name} does not match its checksum"
                elif claimed := stored.claims(name, content):
                    found = f"{name} cannot be decoded ({claimed})"
            if found:
                break
        else:
            _ = stored.trials, [stored.array(name) for name in _PLACES]
    except DataError as error:
        return "", str(error.args[1])
    except OSError as error:
        return "", f"{METADATA} cannot be read ({error.strerror or error})"
    return document["attributes"]["digest"], found


def _ceil(whole: int, part: int) -> int:
    return -(-whole // part)


def _same(value: Any, fill: Any) -> bool:
    return bool(value == fill or (value != value and fill != fill))


def state(
    location: Location,
    recording: str,
    settings_digest: str,
    source_unchanged: Callable[[list[dict[str, Any]]], bool],
) -> State:
    """Return whether a recording in the store can stay as it is.

    Parameters
    ----------
    location : Location
    recording : str
    settings_digest : str
        Digest of the settings asked for.
    source_unchanged : callable
        Takes the ``source_files`` that the recording was made from and returns whether the files
        are still those.
    """
    try:
        document = read_metadata(location, recording)
        if being_written(document):
            return "missing"
        attrs = document["attributes"]
        made_with, source_files = attrs["settings_digest"], attrs["source_files"]
    except FileNotFoundError:
        return "missing"
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return "damaged"
    if damage(location, recording):
        return "damaged"
    if made_with != settings_digest:
        return "settings changed"
    return "current" if source_unchanged(source_files) else "source changed"
