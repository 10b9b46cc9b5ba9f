"""The UCS store: opening, listing, reading and checking it.

A store is a Zarr v3 group with one subgroup per recording. The root's list of recordings is a cache
that is compared with the folders present at every opening: what is there decides, not the list.
"""

from __future__ import annotations

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

from omfa.pipeline.channels import UCS, UCS_VERSION, ChannelSchema
from omfa.pipeline.encoding import CHUNK_SAMPLES as CHUNK_SAMPLES
from omfa.pipeline.encoding import FORMAT, METADATA, digest, read_array, sha256, to_json
from omfa.pipeline.encoding import AlignedRecording as AlignedRecording
from omfa.pipeline.encoding import encode as encode
from omfa.pipeline.errors import DataError
from omfa.pipeline.location import Location, locate

State = Literal["missing", "current", "damaged", "settings changed", "source changed"]


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
        """The dataset's name: the source's, such as ``"deap"``, or what it calls itself."""
        return str(self.settings.get("dataset") or self.settings["source"])

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
        return read_array(self.group, name)

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
        return read_array(self.group, "signal", (slice(None), slice(start, stop)))

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
    return to_json({"zarr_format": 3, "node_type": "group", "attributes": attributes})


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
        if sha256(content) != expected:
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
        Digest of the settings asked for.
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
