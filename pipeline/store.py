"""The UCS store, format 1: what lies on disk, how a recording gets there, and how it is read.

A store is a Zarr v3 group with one subgroup per recording; ``docs/store.md`` describes every field.
A recording is encoded in memory, checked against what was encoded, and committed as one set of
files whose own ``zarr.json`` carries the checksum of each. The root's list of recordings is a cache
that is compared with the folders present at every opening: what is there decides, not the list.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import zarr
from zarr.codecs import BloscCodec
from zarr.storage import MemoryStore

from omfa.pipeline.channels import UCS, UCS_VERSION, ChannelSchema
from omfa.pipeline.errors import DataError
from omfa.pipeline.location import Content, Location, locate

FORMAT = 1
"""Raised when a store of the old layout can no longer be read."""

CHUNK_SAMPLES = 1 << 18
"""Samples of a chunk, which spans all channels; ``docs/store.md`` has the measurement behind it."""

MAX_ROUND_TRIP = 0.1
"""Microvolts RMS that storing may cost a channel before float16 gives way to float32."""

METADATA = "zarr.json"

_CHECKED = 8  # chunks decoded at a time when a recording is checked

Dtype = Literal["auto", "float16", "float32"]
State = Literal["missing", "current", "damaged", "settings changed", "source changed"]

_CODEC = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")
_OWN_TRIAL_COLUMNS = ("onset", "length", "baseline_onset", "baseline_length", "stimulus")
_QUALITY: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "bad": ("bad", ("channel",), {}),
    "bad_reason": ("bad_reason", ("channel",), {}),
    "frequency": ("frequency", ("frequency",), {"units": "Hz"}),
    "psd_before": ("psd_before", ("channel", "frequency"), {"units": "uV^2/Hz"}),
    "psd_after": ("psd_after", ("channel", "frequency"), {"units": "uV^2/Hz"}),
}
_RESERVED = {
    *_QUALITY,
    *("signal", "channel", "ucs_id", "time", "trial", "trial_onset", "trial_length"),
    *("segment_onset", "segment_length"),
    *("auxiliary", "auxiliary_channel"),
}


@dataclass(frozen=True)
class AlignedRecording:
    """A recording as it is stored: preprocessed, UCS names, one rate.

    Attributes
    ----------
    recording, subject, session, run : str
    channels : list of str
        UCS names in UCS order.
    sfreq : float
        Hz.
    signal : ndarray of float32, shape (n_chans, n_times)
        Microvolts; the segments one after the other.
    segments : ndarray of int, shape (n_segments, 2)
        Onset and length of each contiguous piece, in samples.
    trials : pandas.DataFrame
        ``onset``, ``length``, ``baseline_onset``, ``baseline_length`` (samples of ``signal``),
        ``stimulus``, and the labels.
    quality : mapping of str to ndarray
        Figures per channel; ``bad`` (bool) and, over channel and frequency, ``psd_before`` and
        ``psd_after`` among them, with ``frequency`` in Hz.
    auxiliary : (list of str, ndarray of float32 of shape (n_auxiliary, n_times)), optional
        Names with units, and signals on the time axis of ``signal``.
    facts : mapping
        JSON: the source files, the participant, what the source says of the signal's history.
    """

    recording: str
    subject: str
    session: str
    run: str
    channels: list[str]
    sfreq: float
    signal: npt.NDArray[np.float32]
    segments: npt.NDArray[np.int64]
    trials: pd.DataFrame
    quality: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    auxiliary: tuple[list[str], npt.NDArray[np.float32]] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


# ---------------------------------------------------------------------------------- writing


def encode(aligned: AlignedRecording, dtype: Dtype, settings_digest: str) -> dict[str, Content]:
    """Return the files of a recording's group, checked by reading them back.

    Parameters
    ----------
    aligned : AlignedRecording
    dtype : {"auto", "float16", "float32"}
        ``auto`` takes float16 where the round trip costs every channel less than
        ``MAX_ROUND_TRIP``, and float32 elsewhere.
    settings_digest : str
        Of the store's settings; a recording with another is not current.

    Returns
    -------
    dict of str to bytes or memoryview
        By file name, relative to the group.
    """
    signal, error = _narrow(aligned.signal, dtype)
    memory = MemoryStore()
    group = zarr.open_group(memory, mode="w")
    _put_signal(group, "signal", signal, ("channel", "time"), aligned.sfreq, {"units": "uV"})
    for name, (dims, values, attrs) in _small_arrays(aligned).items():
        _put(group, name, values, dims, attrs)
    if aligned.auxiliary:
        names, extra = aligned.auxiliary
        _put(group, "auxiliary_channel", np.array(names), ("auxiliary_channel",), {})
        _put_signal(group, "auxiliary", extra, ("auxiliary_channel", "time"), aligned.sfreq, {})
    if not _holds(group, signal):
        raise DataError(
            f"Checking {aligned.recording} before it is committed",
            "the encoded signal does not decode to what was encoded",
            "Run again; if it recurs, the machine's memory or its zarr installation is faulty",
        )
    group.update_attributes(_attributes(aligned, signal, error, settings_digest))
    return _seal(memory)


def _holds(group: zarr.Group, signal: npt.NDArray[np.floating]) -> bool:
    """Return whether the signal decodes to every bit of what it was encoded from."""
    bits = np.dtype(f"u{signal.itemsize}")  # compare many times faster than floats, and NaN too
    step = _CHECKED * cast(zarr.Array, group["signal"]).chunks[1]
    return all(
        np.array_equal(
            _read(group, "signal", (slice(None), at)).view(bits), signal[:, at].view(bits)
        )
        for at in (slice(start, start + step) for start in range(0, signal.shape[1], step))
    )


def _narrow(
    signal: npt.NDArray[np.float32], dtype: Dtype
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.float64]]:
    """Return the signal in its stored type, and each channel's RMS error in microvolts."""
    if dtype == "float32":
        return signal, np.zeros(len(signal))
    narrow = np.empty(signal.shape, np.float16)
    error = np.zeros(len(signal))
    with np.errstate(over="ignore", invalid="ignore"):
        for i, row in enumerate(signal):  # a row at a time stays in the processor's cache
            narrow[i] = row
            error[i] = _rms(narrow[i].astype(np.float32) - row)
    if dtype == "auto" and not (error < MAX_ROUND_TRIP).all():
        return signal, np.zeros(len(signal))
    return narrow, error


def _rms(row: npt.NDArray[np.float32]) -> float:
    """Return the root mean square of the samples that are not missing, 0 if all are."""
    square = np.square(row, out=row).mean(dtype=np.float64)
    if np.isnan(square):
        present = row[~np.isnan(row)]
        square = present.mean(dtype=np.float64) if len(present) else 0.0
    return float(np.sqrt(square))


def _small_arrays(
    a: AlignedRecording,
) -> dict[str, tuple[tuple[str, ...], npt.NDArray[Any], dict[str, Any]]]:
    n_times = a.signal.shape[1]
    arrays: dict[str, tuple[tuple[str, ...], npt.NDArray[Any], dict[str, Any]]] = {
        "channel": (("channel",), np.array(a.channels), {}),
        "ucs_id": (("channel",), UCS.ids(a.channels), {"ucs_version": UCS_VERSION}),
        "time": (("time",), np.arange(n_times) / a.sfreq, {"units": "s"}),
        "segment_onset": (("segment",), a.segments[:, 0], {"units": "samples"}),
        "segment_length": (("segment",), a.segments[:, 1], {"units": "samples"}),
        "trial": (("trial",), np.arange(1, len(a.trials) + 1, dtype=np.int32), {}),
    }
    for column in a.trials.columns:
        values = a.trials[column].to_numpy()
        if column in ("onset", "length"):
            arrays[f"trial_{column}"] = ("trial",), values.astype(np.int64), {"units": "samples"}
        elif column in ("baseline_onset", "baseline_length"):
            arrays[column] = ("trial",), values.astype(np.int64), {"units": "samples"}
        elif column == "stimulus":
            arrays[column] = ("trial",), np.array(values, dtype=str), {}
        elif column in _RESERVED:
            raise DataError(
                f"Storing {a.recording}",
                f"its label {column!r} has the name of one of the store's own fields",
                "Give the label another name in the reader",
            )
        else:
            arrays[column] = ("trial",), _plain(values), {"role": "label"}
    for name, values in a.quality.items():
        stored, dims, attrs = _QUALITY.get(name, (f"quality_{name}", ("channel",), {}))
        arrays[stored] = dims, values, attrs
    return arrays


def _plain(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return labels as numbers where they are numbers, and as text elsewhere."""
    return values if values.dtype.kind in "biuf" else np.array([str(v) for v in values])


def _put(
    group: zarr.Group,
    name: str,
    values: npt.NDArray[Any],
    dims: tuple[str, ...],
    attrs: Mapping[str, Any],
) -> None:
    if values.dtype.kind in "UO":
        values = values.astype(np.dtypes.StringDType())
    big = values.dtype.kind != "T" and values.nbytes > 4096
    group.create_array(
        name,
        data=values,
        chunks=tuple(max(1, n) for n in values.shape),
        compressors=_CODEC if big else None,
        dimension_names=dims,
        attributes=dict(attrs),
    )


def _put_signal(
    group: zarr.Group,
    name: str,
    values: npt.NDArray[Any],
    dims: tuple[str, ...],
    sfreq: float,
    attrs: Mapping[str, Any],
) -> None:
    n_chans, n_times = values.shape
    chunk = min(max(1, CHUNK_SAMPLES // n_chans), n_times)
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(n_chans, chunk),
        shards=(n_chans, -(-n_times // chunk) * chunk),  # one file however long the recording
        compressors=_CODEC,
        fill_value=np.nan,
        dimension_names=dims,
        attributes={**attrs, "sfreq": sfreq},
        config={"write_empty_chunks": True},  # else each sample is compared with the fill value
    )
    array[...] = values


def _read(group: zarr.Group, name: str, selection: Any = ...) -> npt.NDArray[Any]:
    return np.asarray(cast(zarr.Array, group[name])[selection])


def _attributes(
    a: AlignedRecording,
    signal: npt.NDArray[np.floating],
    error: npt.NDArray[np.float64],
    settings_digest: str,
) -> dict[str, Any]:
    bad = a.quality.get("bad", np.zeros(len(a.channels), bool))
    return {
        "omfa_format": FORMAT,
        "ucs_version": UCS_VERSION,
        "recording": a.recording,
        "subject": a.subject,
        "session": a.session,
        "run": a.run,
        "sfreq": a.sfreq,
        "n_chans": len(a.channels),
        "n_times": int(a.signal.shape[1]),
        "n_trials": len(a.trials),
        "channels": a.channels,
        "bad_channels": [name for name, is_bad in zip(a.channels, bad, strict=True) if is_bad],
        "labels": [column for column in a.trials.columns if column not in _OWN_TRIAL_COLUMNS],
        "dtype": str(signal.dtype),
        "round_trip_rms_uV": round(float(error.max(initial=0.0)), 5),
        "signal_sha256": _sha256(np.ascontiguousarray(signal).data),
        "settings_digest": settings_digest,
        **a.facts,
    }


def _seal(memory: MemoryStore) -> dict[str, Content]:
    """Consolidate a group's metadata and write the checksum of every file into it."""
    with warnings.catch_warnings():
        # Zarr warns that other implementations may ignore consolidated metadata. They may.
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        zarr.consolidate_metadata(memory)
    files: dict[str, Content] = {
        name: buffer.as_numpy_array().data for name, buffer in sorted(memory._store_dict.items())
    }
    document = json.loads(bytes(files.pop(METADATA)))
    document["attributes"]["checksums"] = {
        n: hashlib.sha256(c).hexdigest() for n, c in files.items()
    }
    document["attributes"]["bytes"] = sum(map(len, files.values()))
    document["attributes"]["digest"] = digest(document)
    return files | {METADATA: _json(document)}


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode()


def _sha256(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return _sha256(text.encode())


# ---------------------------------------------------------------------------------- the store


@dataclass(frozen=True)
class Damage:
    """What ``verify`` found wrong with one recording."""

    recording: str
    found: str


@dataclass
class Store:
    """An open store.

    ``open_store`` makes one. It lists recordings without touching their signals.

    Attributes
    ----------
    location : Location
    settings : dict
        How the store was made: source, reader, preprocessing, channel rules, software.
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

    def __getitem__(self, recording: str) -> StoredRecording:
        """Return one recording by name."""
        if recording not in self._listed:
            raise DataError(
                f"Opening recording {recording!r} of {self.location.address}",
                f"the store has no such recording among its {len(self)}",
                "List them by `omfa-ingest inspect`",
            )
        return StoredRecording(self.location, recording)

    @property
    def path(self) -> str:
        """The store's address."""
        return self.location.address

    @property
    def name(self) -> str:
        """The source's name, such as ``"deap"``."""
        return str(self.settings["source"])

    @property
    def recordings(self) -> pd.DataFrame:
        """A row per recording: subject, session, run, channels, rate, trials, duration."""
        table = pd.DataFrame.from_dict(self._listed, orient="index")
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

    def verify(self) -> Iterator[tuple[str, Damage | None]]:
        """Recompute every checksum, also of recordings that were listed once and are gone.

        Yields
        ------
        recording : str
        damage : Damage or None
            None where every byte is as it was written.
        """
        for name in sorted(self._known | self._listed.keys()):
            found = damage(self.location, name)
            yield name, Damage(name, found) if found else None


@dataclass(frozen=True)
class StoredRecording:
    """One recording of a store; arrays are read when asked for."""

    location: Location = field(repr=False)
    recording: str

    @cached_property
    def group(self) -> zarr.Group:
        """The recording's Zarr group, opened with its consolidated metadata."""
        options = dict(getattr(self.location, "options", ()))
        return zarr.open_group(
            self.location.address,
            path=self.recording,
            mode="r",
            storage_options=options or None,
            use_consolidated=True,
        )

    @property
    def attrs(self) -> dict[str, Any]:
        """The group's attributes: who, how made, source files, checksums."""
        return dict(self.group.attrs)

    @property
    def simulated(self) -> bool:
        """Whether the signals are simulated, as the reader or the files said at ingest."""
        source = cast(Mapping[str, Any], self.group.attrs.get("source", {}))
        return source.get("simulated") is True

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
        """Return a whole array by the name that ``docs/store.md`` gives it."""
        return _read(self.group, name)

    def signal(self, start: int = 0, stop: int | None = None) -> npt.NDArray[np.floating]:
        """Return the signal, decoded.

        Parameters
        ----------
        start, stop : int
            Samples. A chunk is decoded whole, so ask for a trial and cut its windows.

        Returns
        -------
        ndarray of float16 or float32, shape (n_chans, n_times)
            Microvolts.
        """
        return _read(self.group, "signal", (slice(None), slice(start, stop)))

    @property
    def trials(self) -> pd.DataFrame:
        """The trial table: a row per trial."""
        columns = {
            "onset": "trial_onset",
            "length": "trial_length",
            "baseline_onset": "baseline_onset",
            "baseline_length": "baseline_length",
            "stimulus": "stimulus",
        } | {label: label for label in self.labels}
        return pd.DataFrame({name: self.array(stored) for name, stored in columns.items()})


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
    """
    location = locate(address, storage_options)
    settings = read_settings(location)
    if settings is None:
        raise DataError(
            f"Opening {address}", "there is no omfa store", "Make one: omfa-ingest SOURCE RAW STORE"
        )
    cached = settings.pop("recordings", {})
    folders = location.folders()
    rows = {name: cached.get(name) or _row(location, name) for name in folders}
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
    return Store(location, settings, listed, frozenset(cached) | frozenset(folders))


def read_settings(location: Location) -> dict[str, Any] | None:
    """Return the root's attributes, or None where there is no store.

    Raises
    ------
    DataError
        If the folder holds something else, another format, or another channel schema version.
    """
    doing = f"Opening {location.address}"
    try:
        document = json.loads(location.read(METADATA))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(
            doing, f"its {METADATA} is damaged ({error})", "Run the ingest again with --rewrite"
        ) from error
    settings = document.get("attributes", {}).get("omfa")
    if settings is None:
        raise DataError(
            doing,
            "it is a Zarr group that omfa did not write",
            "Choose another folder for the store",
        )
    for what, theirs, ours in (
        ("format", settings.get("format"), FORMAT),
        ("channel schema version", settings.get("ucs_version"), UCS_VERSION),
    ):
        if theirs != ours:
            raise DataError(
                doing,
                f"it was written with {what} {theirs}, this omfa reads {ours}",
                "Ingest it again with --rewrite, or install the omfa that wrote it",
            )
    return dict(settings)


def _row(location: Location, recording: str) -> dict[str, Any] | None:
    """Return the listing of a recording from its own metadata; None if it was never committed."""
    try:
        attrs = json.loads(location.read(f"{recording}/{METADATA}"))["attributes"]
        shown = "subject session run sfreq n_chans n_times n_trials labels channels bad_channels"
        return {name: attrs[name] for name in shown.split()} | {
            "bytes_out": attrs["bytes"],
            "settings_digest": attrs["settings_digest"],
        }
    except (FileNotFoundError, KeyError, ValueError):
        return None


def write_root(
    location: Location, settings: Mapping[str, Any], *, leave_out: Collection[str] = ()
) -> None:
    """Write the root's metadata with a fresh list of the recordings that are there.

    Parameters
    ----------
    location : Location
    settings : mapping
        How the store is made.
    leave_out : collection of str
        Recordings not to list: those that are about to be replaced.
    """
    names = [name for name in location.folders() if name not in leave_out]
    rows = {name: row for name in names if (row := _row(location, name))}
    location.write(METADATA, _root(settings, rows))


def is_store(location: Location) -> bool:
    """Return whether omfa, of any version, wrote what is there."""
    try:
        return "omfa" in json.loads(location.read(METADATA))["attributes"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False


def create(location: Location, settings: Mapping[str, Any]) -> bool:
    """Write the root of a new store; return False if there is one already."""
    return location.create(METADATA, _root(settings, {}))


def _root(settings: Mapping[str, Any], rows: Mapping[str, Any]) -> bytes:
    attributes = {"omfa": {**settings, "recordings": rows}}
    return _json({"zarr_format": 3, "node_type": "group", "attributes": attributes})


# ------------------------------------------------------------------------------- checking


def damage(location: Location, recording: str) -> str:
    """Return what is wrong with a recording's bytes; empty if they are as written."""
    try:
        document = json.loads(location.read(f"{recording}/{METADATA}"))
        attrs = document["attributes"]
        written = attrs.pop("digest")
        checksums = attrs["checksums"]
    except FileNotFoundError:
        return f"{METADATA} is missing"
    except (ValueError, KeyError, TypeError) as error:
        return f"{METADATA} cannot be read ({error})"
    if digest(document) != written:
        return f"{METADATA} was changed"
    for name, expected in checksums.items():
        try:
            content = location.read(f"{recording}/{name}")
        except FileNotFoundError:
            return f"{name} is missing"
        if _sha256(content) != expected:
            return f"{name} does not match its checksum"
    return ""


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
        Of the settings asked for.
    source_unchanged : callable
        Takes the ``source_files`` that the recording was made from and returns whether the files
        are still those.
    """
    try:
        attrs = json.loads(location.read(f"{recording}/{METADATA}"))["attributes"]
    except FileNotFoundError:
        return "missing"
    except (ValueError, KeyError):
        return "damaged"
    if damage(location, recording):
        return "damaged"
    if attrs["settings_digest"] != settings_digest:
        return "settings changed"
    return "current" if source_unchanged(attrs["source_files"]) else "source changed"
