"""From what a reader gives to what a store holds.

A ``Recipe`` is everything that decides the result: the reader with its options, the preprocessing,
the rules for channels, the stored type. ``align`` applies it to one recording, in memory.
"""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline import encoding
from omfa.pipeline.channels import (
    MAX_NAMING,
    UCS,
    UCS_VERSION,
    CerebellarRule,
    ChannelSchema,
)
from omfa.pipeline.encoding import AlignedRecording, Dtype
from omfa.pipeline.errors import DataError
from omfa.pipeline.preprocess import Preprocessing, n_resampled, preprocess, resample_spans
from omfa.pipeline.quality import FREQUENCIES, Quality, assess, spectrum
from omfa.pipeline.readers import get_reader, reader_class, reader_options
from omfa.pipeline.recording import TRIAL_COLUMNS, Auxiliary, Key, Reader, Recording, Segment
from omfa.pipeline.simulation import Truth
from omfa.pipeline.trialwise import preprocess_units, units
from omfa.pipeline.whitening import whiten
from omfa.pipeline.words import some

RECIPE = 3
"""Version of the processing, raised whenever the same settings would give another signal."""

SOFTWARE = ("omfa", "numpy", "scipy", "zarr", "numcodecs")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a recording looks like in the store.

    Examples
    --------
    >>> from omfa.pipeline import recipe_for
    >>> recipe_for("dreamer").dtype
    'auto'
    """

    reader: Reader
    preprocessing: Preprocessing
    schema: ChannelSchema = UCS
    exclude: tuple[str, ...] = ()
    dtype: Dtype = "auto"
    keep_auxiliary: bool = False
    names_by_position: bool = False

    def settings(self) -> dict[str, Any]:
        """Return the recipe as JSON, for the store's root."""
        chosen = {
            "format": encoding.FORMAT,
            "ucs_version": UCS_VERSION,
            "recipe": RECIPE,
            "source": self.reader.name,
            "reader": _options(self.reader),
            "channels": {
                "cerebellar": self.schema.cerebellar,
                "aliases": dict(self.schema.aliases),
                "exclude": list(self.exclude),
                # Only where it was asked for: stores of before are those of the same settings.
                **({"names_by_position": True} if self.names_by_position else {}),
            },
            "preprocessing": _plain(_chosen(self.preprocessing, asdict(self.preprocessing))),
            "dtype": self.dtype,
            "keep_auxiliary": self.keep_auxiliary,
        }
        software = {name: version(name) for name in SOFTWARE} | {
            "python": platform.python_version()
        }
        return {**chosen, "settings_digest": encoding.digest(chosen), "software": software}


def _options(reader: Reader) -> dict[str, Any]:
    """Return a reader's options."""
    options = {k: v for k, v in vars(reader).items() if not k.startswith("_") and k != "name"}
    return {"class": type(reader).__qualname__, **_plain(_chosen(reader, options))}


def _chosen(owner: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of an object's fields; those that came later count once they are given.

    A field with ``metadata={"quiet": True}`` is left out while it has its default, so that stores
    from before it was there are those of the same settings.
    """
    quiet: dict[str, Any] = {}
    if dataclasses.is_dataclass(owner):
        quiet = {f.name: f.default for f in dataclasses.fields(owner) if f.metadata.get("quiet")}
    return {k: v for k, v in values.items() if k not in quiet or v != quiet[k]}


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it; NaN, which it cannot, becomes null."""
    match value:
        case Mapping():
            return {str(k): _plain(v) for k, v in value.items()}
        case list() | tuple() | np.ndarray():
            return [_plain(v) for v in value]
        case np.generic():
            return _plain(value.item())
        case float():
            return value if np.isfinite(value) else None
        case None | bool() | int() | str():
            return value
        case _:
            return str(value)


def recipe_for(
    source: str | Reader,
    *,
    preprocessing: Preprocessing | None = None,
    aliases: Mapping[str, str] | None = None,
    exclude: Iterable[str] = (),
    cerebellar: CerebellarRule = "PO9/PO10",
    dtype: Dtype = "auto",
    keep_auxiliary: bool = False,
    names_by_position: bool = False,
    **options: Any,
) -> Recipe:
    """Gather everything that decides what recordings look like in a store.

    Parameters
    ----------
    source : str or Reader
        A reader, or the name of one: ``"seed"``, ``"deap"``, ``"dreamer"``, ``"bids"``,
        ``"files"``, ``"moabb"``, or one that an installed package offers.
    preprocessing : Preprocessing, optional
    aliases : mapping of str to str, optional
        Names that the schema does not know, each with the UCS name that it stands for.
    exclude : iterable of str
        Channel names, as the source spells them, to leave out; ``*`` and ``?`` match.
    cerebellar : {"PO9/PO10", "POO7/POO8"}
        The channels whose positions CB1 and CB2 take.
    dtype : {"auto", "float16", "float32"}
        ``auto`` is float16 wherever that costs less than 0.1 uV RMS, else float32.
    keep_auxiliary : bool
        Also store the channels that are not EEG.
    names_by_position : bool
        Give channels whose names the schema does not know, such as EGI's E1 to E128, the nearest
        name within 1.5 cm of their measured position; those without one are left out and named.
        At least 8 channels need a name of the schema, or an alias.
    **options
        The reader's own, such as ``variant="raw"``.

    Examples
    --------
    >>> from omfa.pipeline import Preprocessing, recipe_for
    >>> recipe = recipe_for("dreamer", preprocessing=Preprocessing(sfreq=100.0, band=(4.0, 40.0)))
    >>> recipe.preprocessing.sfreq
    100.0
    """
    if isinstance(source, str):
        source = reader_for(source, keep_auxiliary=keep_auxiliary, options=options)
    return Recipe(
        reader=source,
        preprocessing=preprocessing or Preprocessing(),
        schema=UCS.with_options(cerebellar=cerebellar, aliases=aliases),
        exclude=tuple(exclude),
        dtype=dtype,
        keep_auxiliary=keep_auxiliary,
        names_by_position=names_by_position,
    )


def reader_for(source: str, *, keep_auxiliary: bool, options: Mapping[str, Any]) -> Reader:
    """Make the reader of a source; it decodes auxiliary channels only where they are kept.

    Parameters
    ----------
    source : str
        The reader's name.
    keep_auxiliary : bool
        As ``recipe_for``.
    options : mapping
        The reader's own.
    """
    if "auxiliary" in reader_options(reader_class(source)):
        options = {"auxiliary": keep_auxiliary} | dict(options)
    return get_reader(source, **options)


# ------------------------------------------------------------------------------- one recording


def align(recording: Recording, recipe: Recipe) -> AlignedRecording:
    """Turn what a reader gives into what a store holds.

    Parameters
    ----------
    recording : Recording
    recipe : Recipe

    Returns
    -------
    AlignedRecording
        Filtered and resampled by whole segments, channels named and ordered by the UCS.

    Raises
    ------
    DataError
        If the recording is inconsistent or a channel's name is unknown.
    """
    recording.check()
    where = f"{recipe.reader.name} reader: {recording.key}"
    wanted = [
        i
        for i, raw in enumerate(recording.channels)
        # a name's own brackets, as in "Fp1 [uV]", are no set of letters
        if not any(raw == p or fnmatch(raw.strip(), p) for p in recipe.exclude)
    ]
    if not wanted:
        raise DataError(
            where,
            f"--exclude leaves out all of its {len(recording.channels)} channels",
            "Exclude fewer",
        )
    notes = list(recording.notes)
    named = _named(recording, recipe, wanted, where=where, notes=notes)
    rows = [row for row, _ in sorted(named.items(), key=lambda item: UCS.ids([item[1]])[0])]
    channels = [named[row] for row in rows]
    if recording.positions is not None:
        # One that was named by its position is where its name is.
        own = [i for i, row in enumerate(rows) if recording.channels[row] in recipe.schema]
        recipe.schema.check_positions(
            [channels[i] for i in own], recording.positions[[rows[i] for i in own]], where=where
        )
    positions = recipe.schema.positions(channels)
    segments = [_rows(segment, rows) for segment in recording.segments]
    # Of the raw signal: filters hide mains, clipping and flat stretches.
    quality = assess(segments, recording.sfreq, channels, positions)
    settings, sfreq = recipe.preprocessing, recipe.preprocessing.sfreq or recording.sfreq
    spans = _spans([n_resampled(s.shape[1], recording.sfreq, sfreq) for s in segments])
    trials = _trials(recording, sfreq, spans)
    notes += _emptied(recording, trials, sfreq, where=where)
    signal = np.empty((len(channels), int(spans[:, 1].sum())), np.float32)
    pieces = [signal[:, onset : onset + length] for onset, length in spans]
    known: dict[str, Any] = {"channels": channels, "positions": positions, "bad": quality.bad}
    for i, (segment, piece) in enumerate(zip(segments, pieces, strict=True)):
        preprocess(segment, recording.sfreq, settings, out=piece, **known)
        if settings.filter_within == "trials":
            alone = units(recording.trials, trials, i, where=where)
            preprocess_units(
                segment,
                recording.sfreq,
                settings,
                alone,
                origin=int(spans[i, 0]),
                out=piece,
                **known,
            )
    if settings.whiten:
        # What was interpolated is as good as the channels that it was made of.
        bad = np.zeros_like(quality.bad) if settings.interpolate else quality.bad
        whiten(pieces, bad, sfreq=float(sfreq), where=recording.key.recording)
    return AlignedRecording(
        recording=recording.key.recording,
        subject=recording.key.subject,
        session=recording.key.session,
        run=recording.key.run,
        channels=channels,
        sfreq=float(sfreq),
        signal=signal,
        segments=spans,
        trials=trials,
        quality=_quality(quality, spectrum(pieces, sfreq)),
        auxiliary=_auxiliary(recording.auxiliary, sfreq, spans) if recipe.keep_auxiliary else None,
        facts={
            "source_files": source_files(recording.key),
            "source_channels": [recording.channels[i] for i in rows],
            "source_sfreq": float(recording.sfreq),
            "source": _plain(
                {**recording.source, **_simulated(recording.key)}
                | ({"notes": notes} if notes else {})
            ),
            "participant": _plain(recording.participant),
            "interpolated": [n for n, bad in zip(channels, quality.bad, strict=True) if bad]
            if settings.interpolate
            else [],
        },
    )


def unreferenced(recording: Recording, recipe: Recipe) -> str | None:
    """Doubt a recording that no electrode was ever subtracted from, and that is to stay so.

    BioSemi's amplifiers record against the CMS electrode, whose signal keeps all that electrodes
    have in common, mains above all; their maker asks for a reference to be chosen afterwards.

    Returns
    -------
    str or None
        A warning in three parts, or None where the recording has a reference or gets one.
    """
    as_it_was = str(recording.source.get("reference") or "")
    if recipe.preprocessing.reference != "source" or "CMS" not in as_it_was:
        return None
    return str(
        DataError(
            f"Checking the reference of {recording.key.recording}",
            f"it is {as_it_was}: what all channels share, mains among it, is still in each",
            "Ingest it with --reference average",
        )
    )


def _named(
    recording: Recording, recipe: Recipe, wanted: Sequence[int], *, where: str, notes: list[str]
) -> dict[int, str]:
    """Return the canonical name of each row that is stored."""
    raw = [recording.channels[i] for i in wanted]
    if not recipe.names_by_position:
        return dict(zip(wanted, recipe.schema.canonicalize(raw, where=where), strict=True))
    places = None if recording.positions is None else recording.positions[list(wanted)]
    names = recipe.schema.name_by_position(raw, places, where=where)
    if lost := [name for name, found in zip(raw, names, strict=True) if found is None]:
        notes.append(
            f"{where}: {len(lost)} of {len(raw)} channels have no name of the schema within "
            f"{100 * MAX_NAMING:g} cm that is free and are left out: {', '.join(lost)}."
        )
    return {i: name for i, name in zip(wanted, names, strict=True) if name is not None}


def _rows(segment: Segment, rows: list[int]) -> npt.NDArray[np.float32]:
    # Taking rows copies the whole segment; SEED's, the largest, are in UCS order already.
    if rows != list(range(len(segment))):
        segment = segment[rows]
    return np.ascontiguousarray(segment, dtype=np.float32)


def _spans(lengths: list[int]) -> npt.NDArray[np.int64]:
    """Return onset and length of segments laid one after the other, shape (n_segments, 2)."""
    onsets = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return np.stack([onsets, lengths], axis=1).astype(np.int64)


def _trials(recording: Recording, sfreq: float, spans: npt.NDArray[np.int64]) -> pd.DataFrame:
    """Return the trial table in samples of the stored signal."""
    table, parts = recording.trials, ("", "baseline_")
    # Trials and baselines together: neither reaches into the other.
    segment, onset, length = (
        np.concatenate([table[part + name].to_numpy(np.int64) for part in parts])
        for name in TRIAL_COLUMNS[:3]
    )
    times = np.stack([onset, length], axis=1) / recording.sfreq
    if recording.times is not None:
        said = np.isfinite(recording.times)
        times[: len(table)] = np.where(said, recording.times, times[: len(table)])
    for number, (first, n_times) in enumerate(spans):
        own = segment == number
        begin, lasting = times[own].T
        start, length[own] = resample_spans(begin, lasting, sfreq, n_times=int(n_times))
        onset[own] = start + first
    columns: dict[str, Any] = {}
    for part, first, n in zip(parts, np.split(onset, 2), np.split(length, 2), strict=True):
        columns |= {part + "onset": first, part + "length": n}
    columns["stimulus"] = table["stimulus"].to_numpy()
    labels = encoding.label_names(recording.labels)
    return pd.DataFrame(columns | {new: table[name].to_numpy() for name, new in labels.items()})


def _emptied(
    recording: Recording, trials: pd.DataFrame, sfreq: float, *, where: str
) -> Iterator[str]:
    """Say which trials and baselines have samples in the source and none in the store."""
    for part, name in (("", "trials"), ("baseline_", "baselines")):
        length = recording.trials[f"{part}length"].to_numpy(np.int64)
        gone = np.flatnonzero((length > 0) & (trials[f"{part}length"].to_numpy() == 0))
        if len(gone):
            listed = some([f"{row + 1} of {length[row] / recording.sfreq:g} s" for row in gone])
            yield (
                f"{where}: {len(gone)} of {len(trials)} {name} are too short for a sample at "
                f"{sfreq:g} Hz and are stored empty: {listed}."
            )


def _quality(quality: Quality, after: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[Any]]:
    figures: dict[str, npt.NDArray[Any]] = dict(quality.arrays())
    return {
        "frequency": FREQUENCIES,
        "psd_before": figures.pop("psd"),
        "psd_after": after.astype(np.float32),
        "bad_reason": np.array([" ".join(reasons) for reasons in quality.reasons]),
        **figures,
    }


def _auxiliary(
    groups: Sequence[Auxiliary], sfreq: float, spans: npt.NDArray[np.int64]
) -> tuple[list[str], npt.NDArray[np.float32]] | None:
    """Resample the other channels, unfiltered, onto the time axis of the signal."""
    if not groups:
        return None
    resampled = Preprocessing(sfreq=sfreq, band=None)
    names = [
        f"{n} [{u}]" for group in groups for n, u in zip(group.names, group.units, strict=True)
    ]
    total = int(spans[:, 1].sum())
    values = np.full((len(names), total), np.nan, np.float32)
    row = 0
    for group in groups:
        rows = slice(row, row := row + len(group.names))
        for (onset, length), segment in zip(spans, group.segments, strict=True):
            # Another rate may give a sample more than the EEG's own, and one less is left NaN.
            piece = preprocess(np.asarray(segment, np.float32), group.sfreq, resampled)[:, :length]
            values[rows, onset : onset + piece.shape[1]] = piece
    return names, values


# ------------------------------------------------------------------------------- source files


def source_files(key: Key) -> list[dict[str, Any]]:
    """Return name, size, time of change and SHA-256 of each file a recording is read from."""
    return [
        {"name": name, **_fingerprint(str(path), path.stat().st_size, path.stat().st_mtime_ns)}
        for name, path in zip(key.files, key.paths, strict=True)
    ]


@lru_cache(maxsize=64)  # one file may hold many recordings
def _fingerprint(path: str, size: int, mtime_ns: int) -> dict[str, Any]:
    with open(path, "rb") as file:  # noqa: PTH123 - hashlib wants the open file
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size": size, "mtime_ns": mtime_ns, "sha256": sha256}


def _simulated(key: Key) -> dict[str, bool]:
    """Return ``{"simulated": True}`` where the tree's truth or a file's header says so."""
    if Truth.path(key.root).exists():
        return {"simulated": True}
    for path in key.paths:
        with path.open("rb") as file:
            # All formats that have room for it say so in their header: MAT, BDF and CNT.
            if re.search(rb"omfa simulator|Simulated by omfa", file.read(1024)):
                return {"simulated": True}
    return {}


def unchanged(key: Key, recorded: list[dict[str, Any]]) -> bool:
    """Return whether a recording's files are those it was made from.

    As in git's index, equal size and time of change are believed; where only the time differs, as
    after a copy, the content decides.
    """
    if [file["name"] for file in recorded] != list(key.files):
        return False
    for file, path in zip(recorded, key.paths, strict=True):
        if not path.is_file():  # reading it will say so
            return False
        stat = path.stat()
        if stat.st_size != file["size"]:
            return False
        if (
            stat.st_mtime_ns != file["mtime_ns"]
            and _fingerprint(str(path), stat.st_size, stat.st_mtime_ns)["sha256"] != file["sha256"]
        ):
            return False
    return True
