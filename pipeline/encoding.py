"""One recording as the files of its Zarr group: encoded, checked against what was encoded, sealed.

The layout is that of store format 1; ``docs/store.md`` describes every field. A recording is
encoded in memory, and its group's own ``zarr.json`` carries the checksum of each other file.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import zarr
from zarr.abc.buffer import Buffer
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import MemoryStore

from omfa.pipeline.channels import UCS, UCS_VERSION
from omfa.pipeline.errors import DataError
from omfa.pipeline.location import Content

FORMAT = 1
"""Version of the layout, raised when a store of the old one can no longer be read."""

CHUNK_SAMPLES = 1 << 18
"""Samples of a chunk, which spans all channels; ``docs/store.md`` has the measurement behind it."""

MAX_ROUND_TRIP = 0.1
"""Microvolts RMS that storing may cost a channel before float16 gives way to float32."""

METADATA = "zarr.json"

_LONGEST_NAME = 200  # bytes; file systems take 255, and a prefix may come before it

_CHECKED = 8  # chunks decoded at a time when a recording is checked

Dtype = Literal["auto", "float16", "float32"]

# Level 3 saves 0 to 3 % for up to twice the time, and bitshuffle spreads the noise of mantissas;
# plain Zstandard is equal, but not in the core of Zarr v3 (docs/store.md).
_CODEC = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")
# Behind every chunk: a changed byte is an error where it is read. ``docs/store.md`` has its cost.
_CHECKSUM = Crc32cCodec()
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


def label_names(labels: Iterable[str]) -> dict[str, str]:
    """Return the name in the store of each label: its own, or ``label_`` and its own.

    The prefix is put before names of the store's own fields, and names that no array can have; once
    more where another label is called so. A slash, which would make a folder, becomes ``_``, and a
    name that no folder can have is cut and ends in its digest.
    """
    labels = list(labels)
    found: dict[str, str] = {}
    for label in labels:
        name = re.sub(r"[/\\\0]", "_", label)
        if len(name.encode(errors="replace")) > _LONGEST_NAME:
            start = name.encode(errors="replace")[: _LONGEST_NAME // 2].decode(errors="ignore")
            name = f"{start}_{sha256(label.encode(errors='backslashreplace'))[:8]}"
        while (
            name in {*_RESERVED, *_OWN_TRIAL_COLUMNS}
            or name.startswith(("quality_", "__"))
            or set(name) <= {"."}
            or name == METADATA
            or (name != label and name in labels)
            or name in found.values()
        ):
            name = f"label_{name}"
        found[label] = name
    return found


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
        Digest of the store's settings; a recording with another is not current.

    Returns
    -------
    dict of str to bytes or memoryview
        By file name, relative to the group.
    """
    signal, error = _narrow(aligned.signal, dtype)
    held: dict[str, Buffer] = {}
    memory = MemoryStore(held)
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
    return _seal(memory, held)


def _holds(group: zarr.Group, signal: npt.NDArray[np.floating]) -> bool:
    """Return whether the signal decodes to every bit of what it was encoded from."""
    bits = np.dtype(f"u{signal.itemsize}")  # compare many times faster than floats, and NaN too
    step = _CHECKED * cast(zarr.Array, group["signal"]).chunks[1]
    return all(
        np.array_equal(
            read_array(group, "signal", (slice(None), at)).view(bits), signal[:, at].view(bits)
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
    # float64: a mean over millions of squares in float32 loses digits.
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
        # One chunk, so one file; Zarr has no chunk of 0 rows.
        chunks=tuple(max(1, n) for n in values.shape),
        compressors=[_CODEC, _CHECKSUM] if big else [_CHECKSUM],
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
    # In samples and not in seconds: each chunk costs the same bookkeeping (docs/store.md).
    chunk = min(max(1, CHUNK_SAMPLES // n_chans), n_times)
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(n_chans, chunk),
        shards=(n_chans, -(-n_times // chunk) * chunk),  # one file however long the recording
        compressors=[_CODEC, _CHECKSUM],
        fill_value=np.nan,
        dimension_names=dims,
        attributes={**attrs, "sfreq": sfreq},
        config={"write_empty_chunks": True},  # else each sample is compared with the fill value
    )
    array[...] = values


def read_array(group: zarr.Group, name: str, selection: Any = ...) -> npt.NDArray[Any]:
    """Return an array of a group, or a part of it, decoded."""
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
        "signal_sha256": sha256(np.ascontiguousarray(signal).data),
        "settings_digest": settings_digest,
        **a.facts,
    }


def _seal(memory: MemoryStore, held: Mapping[str, Buffer]) -> dict[str, Content]:
    """Consolidate a group's metadata and write the checksum of every file into it."""
    with warnings.catch_warnings():
        # Zarr warns that other implementations may ignore consolidated metadata. They may.
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        zarr.consolidate_metadata(memory)
    files: dict[str, Content] = {
        name: buffer.as_numpy_array().data for name, buffer in sorted(held.items())
    }
    document = json.loads(bytes(files.pop(METADATA)))
    document["attributes"]["checksums"] = {
        n: hashlib.sha256(c).hexdigest() for n, c in files.items()
    }
    document["attributes"]["bytes"] = sum(map(len, files.values()))
    document["attributes"]["digest"] = digest(document)
    return files | {METADATA: to_json(document)}


def to_json(value: Any) -> bytes:
    """Return a JSON value as it is written to disk.

    Letters that UTF-8 lacks, from names of files that are not UTF-8, become JSON's own escapes.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode(errors="backslashreplace")


def sha256(content: bytes | memoryview) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode(errors="backslashreplace"))
