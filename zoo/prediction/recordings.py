"""Recordings without labels, brought to the signal path that a checkpoint learned from.

Whatever MNE reads goes through the pipeline's own opening, units, channel names, quality and
filters, so that a recording is treated here as ingest would treat it. What a checkpoint expects and
a recording lacks becomes a masked row; nothing is interpolated or invented.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from omfa.pipeline.channels import UCS, ChannelSchema
from omfa.pipeline.errors import DataError
from omfa.pipeline.preprocess import NARROWEST_TRANSITION, Preprocessing, preprocess
from omfa.pipeline.quality import assess
from omfa.pipeline.readers.channel_types import ChannelRules
from omfa.pipeline.readers.files import FilesReader
from omfa.pipeline.readers.opening import open_raw
from omfa.pipeline.readers.raw import to_recording
from omfa.pipeline.recording import Key, Recording, plausible_unit
from omfa.pipeline.signal_path import SignalPath
from omfa.pipeline.whitening import whiten
from omfa.pipeline.words import some
from omfa.zoo.checkpoints.cards import Card
from omfa.zoo.checkpoints.decision import Decision
from omfa.zoo.checkpoints.input import check_signal
from omfa.zoo.protocols.windows import doubtful_amplitude

if TYPE_CHECKING:
    import mne

    from omfa.pipeline.store import StoredRecording

NEAR = 0.02
"""Metres within which an electrode of an unknown name stands for one that is missing: electrodes of
the 10-20 system are some 6 cm apart, those of 10-10 some 3 cm; our choice."""

FOLDERS = (".mff", ".ds")
"""Folders that are one recording to MNE."""


@dataclass(frozen=True)
class Prepared:
    """A recording as a checkpoint reads it.

    Attributes
    ----------
    name : str
    segments : list of ndarray of float32, each (n_chans, n_times)
        Microvolts, at the checkpoint's rate; a row for each of its channels, NaN where a sample or
        the channel is missing.
    onsets : list of float
        When each segment begins, in seconds from the start of the recording.
    channels : dict of str to str
        What became of each channel of the checkpoint: ``"used"``, ``"used (E36, by its place)"``,
        ``"missing"``, ``"bad (flat)"``.
    left_out : list of str
        Channels of the recording that the checkpoint did not learn from.
    bad_spans : list of (float, float, str)
        Onset and duration in seconds, and name, of what the file marks as bad.
    warnings : list of str
        In what the recording differs from what the model learned from.
    """

    name: str
    segments: list[npt.NDArray[np.float32]]
    onsets: list[float]
    channels: dict[str, str]
    left_out: list[str]
    bad_spans: list[tuple[float, float, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


# ------------------------------------------------------------------------------- what is given


def recordings_in(path: str | Path) -> Iterator[tuple[str, Any]]:
    """List the recordings of a file, a folder or a store.

    Yields
    ------
    name : str
        For the files of outputs.
    recording : Path or (StoredRecording, dict)
        A file, or what ``prepare_stored`` takes: a recording and its store's preprocessing.

    Raises
    ------
    DataError
        If there is no such thing, or a folder has no recording.
    """
    path = Path(path)
    if (path / "zarr.json").is_file():
        from omfa.pipeline.store import open_store

        if (path.parent / "zarr.json").is_file():
            raise DataError(
                f"Reading {path}",
                "it is one recording of a store",
                f"Name the whole store: {path.parent}",
            )
        store = open_store(path)
        preprocessing = store.settings.get("preprocessing", {})
        for name in store.recordings.index:
            yield str(name), (store[str(name)], preprocessing)
    elif path.is_dir() and path.suffix.lower() not in FOLDERS:
        for file in _files_below(path):
            yield "_".join(file.relative_to(path).with_suffix("").parts), file
    elif path.exists():
        yield path.stem, path
    else:
        raise DataError(f"Reading {path}", "there is no such file or folder", "Check the path")


def _files_below(path: Path) -> list[Path]:
    """List the files below a folder, and the folders, that are recordings each."""
    whole = [p for p in path.rglob("*") if p.suffix.lower() in FOLDERS and p.is_dir()]
    try:
        files = FilesReader().recordings(path)
    except DataError as error:
        if not whole:  # what it advises is ingest's
            action = "Give the folder that holds the recordings, or a recording by its own path"
            raise DataError(f"Reading {path}", error.args[1], action) from error
        files = []
    return sorted([*whole, *(f for f in files if not set(whole) & set(f.parents))])


def read(
    path: Path, rules: ChannelRules | None = None, *, encoding: str | None = None
) -> Recording:
    """Read a file, or a folder that is one recording, with MNE.

    Parameters
    ----------
    path : Path
    rules : ChannelRules, optional
        Which channels are EEG, their unit and their places, where the file does not say.
    encoding : str, optional
        Of the texts in an EDF or BDF.

    Raises
    ------
    DataError
        If MNE cannot read it, or nothing in it is EEG.
    """
    where, notes = f"Reading {path.name}", list[str]()
    raw = open_raw(path, where=where, encoding=encoding, notes=notes)
    return _of_raw(raw, path.stem, where=where, rules=rules, notes=notes)


def of_raw(raw: mne.io.BaseRaw, rules: ChannelRules | None = None) -> Recording:
    """Take an opened recording of MNE, in volts as MNE has it unless ``rules`` say otherwise."""
    if rules is not None and rules.montage is not None:
        raw = raw.copy()  # a montage is set in place
    name = Path(raw.filenames[0]).stem if raw.filenames and raw.filenames[0] else "recording"
    return _of_raw(raw, name, where=f"Reading {name}", rules=rules, notes=[])


def _of_raw(
    raw: mne.io.BaseRaw, name: str, *, where: str, rules: ChannelRules | None, notes: list[str]
) -> Recording:
    key = Key(re.sub("[^A-Za-z0-9]", "", name) or "recording", files=(name,))
    return to_recording(raw, key, where=where, rules=rules, notes=notes)


# ------------------------------------------------------------------------------- the signal path


def prepare(
    recording: Recording,
    decision: Decision,
    card: Card,
    *,
    name: str = "",
    mask_bad: bool = True,
    schema: ChannelSchema = UCS,
    names_by_position: bool = False,
) -> Prepared:
    """Bring a recording to the rate, band, reference and channels of a checkpoint.

    Parameters
    ----------
    recording : Recording
    decision : Decision
    card : Card
        Of the same checkpoint.
    name : str
        What outputs call it.
    mask_bad : bool
        Count channels that quality control marks as absent; one that only misses samples is absent
        where they are.
    schema : ChannelSchema
        With aliases of names that it does not know.
    names_by_position : bool
        Name the others as ``ChannelSchema.name_by_position`` does.

    Raises
    ------
    DataError
        If they have no channel in common, channels cannot be named by their places, or the signal
        cannot be in microvolts.
    """
    name = name or recording.key.files[0]
    doing = f"Predicting {name}"
    recording.check()
    match = _named_by_position if names_by_position else _matched
    rows, how = match(recording, decision, schema, doing)
    picked = [
        np.ascontiguousarray(segment[list(rows.values())], np.float32)
        for segment in recording.segments
    ]
    positions = UCS.positions(rows)
    quality = assess(picked, recording.sfreq, list(rows), positions)
    bad = _bad_all_along(rows, quality.reasons, quality.missing) if mask_bad else {}
    flagged = np.asarray(quality.bad)
    if flagged.all():  # by a gap of all channels: some are a reference still
        flagged = np.array([channel in bad for channel in rows])
    said = list(recording.notes)
    if found := plausible_unit(recording):
        said.append(found)
    settings, told = _settings(decision, recording.sfreq)
    said += told
    if (had := recording.source.get("band")) is not None:
        said += _told(card, decision, (had[0], min(had[1], recording.sfreq / 2)))
    kept = [channel for channel in decision.channels if channel in rows]
    clean = [
        preprocess(
            segment,
            recording.sfreq,
            settings,
            channels=list(rows),
            positions=positions,
            bad=flagged,
        )
        for segment in picked
    ]
    if decision.whiten:
        whiten(clean, flagged, sfreq=decision.sfreq, where=name)
    segments = [_laid(segment, list(rows), decision, bad) for segment in clean]
    _check_amplitude(segments, doing)
    state = {
        channel: "missing"
        if channel not in rows
        else f"bad ({bad[channel]})"
        if channel in bad
        else how[channel]
        for channel in decision.channels
    }
    lengths = [segment.shape[1] / recording.sfreq for segment in recording.segments]
    used = {rows[channel] for channel in kept}
    return Prepared(
        name=name,
        segments=segments,
        onsets=[0.0, *np.cumsum(lengths)[:-1].tolist()],
        channels=state,
        left_out=[c for row, c in enumerate(recording.channels) if row not in used],
        bad_spans=_spans(recording.source),
        warnings=said,
    )


def prepare_stored(
    stored: StoredRecording,
    preprocessing: dict[str, Any],
    decision: Decision,
    card: Card,
    *,
    name: str,
    mask_bad: bool = True,
) -> Prepared:
    """Take a recording of a store, of which only what is still missing is done.

    Parameters
    ----------
    stored : StoredRecording
    preprocessing : dict
        Of the store's settings.
    decision, card, name, mask_bad
        As for ``prepare``.

    Raises
    ------
    DataError
        As ``prepare``.
    """
    doing = f"Predicting {name}"
    path = SignalPath.of(preprocessing, stored.attrs, stored.sfreq)
    common = [channel for channel in stored.channels if channel in decision.channels]
    if not common:
        raise _nothing_in_common(doing, stored.channels, decision)
    if path.whiten and not decision.whiten:
        raise DataError(
            doing,
            f"the store is whitened, and {decision.checkpoint} learned from signals that are not",
            "Ingest the recordings without --whiten, or predict them from their own files",
        )
    low, high = decision.band
    left = (
        low if (low or 0) > path.band[0] else None,
        high if (high or np.inf) < path.band[1] else None,
    )
    settings = replace(
        Preprocessing(sfreq=None, band=None),
        sfreq=decision.sfreq,
        band=None if left == (None, None) else left,
        transition=decision.transition,
        notch=tuple(f for f in decision.notch if f not in path.notch),
        reference=decision.reference if path.reference != decision.reference else "source",
    )
    said = _told(card, decision, path.band)
    reasons = [str(why).split() for why in stored.array("bad_reason")]
    shares = stored.array("quality_missing")
    bad = _bad_all_along(stored.channels, reasons, shares) if mask_bad else {}
    signal = stored.signal()
    clean, onsets = [], []
    spans = zip(
        *(stored.array(f"segment_{each}").tolist() for each in ("onset", "length")), strict=True
    )
    flags = np.array([channel in stored.bad_channels for channel in stored.channels])
    for onset, length in spans:
        clean.append(
            preprocess(
                signal[:, onset : onset + length],
                stored.sfreq,
                settings,
                channels=stored.channels,
                bad=flags,
            )
        )
        onsets.append(float(onset / stored.sfreq))
    if decision.whiten and not path.whiten:
        whiten(clean, flags, sfreq=decision.sfreq, where=name)
    segments = [_laid(segment, stored.channels, decision, bad) for segment in clean]
    _check_amplitude(segments, doing)
    state = {
        channel: "missing"
        if channel not in common
        else f"bad ({bad[channel]})"
        if channel in bad
        else "used"
        for channel in decision.channels
    }
    rest = [channel for channel in stored.channels if channel not in decision.channels]
    marked = _spans(stored.attrs.get("source") or {})
    return Prepared(name, segments, onsets, state, rest, bad_spans=marked, warnings=said)


def _bad_all_along(
    channels: Iterable[str], reasons: Sequence[Sequence[str]], missing: npt.NDArray[np.floating]
) -> dict[str, str]:
    """Return the channels to mask in every window, and why.

    One that only misses some of its samples is masked in the windows that they are in.
    """
    return {
        channel: ", ".join(why)
        for channel, why, share in zip(channels, reasons, missing, strict=True)
        if why and (tuple(why) != ("missing",) or share == 1)
    }


def _spans(source: Mapping[str, Any]) -> list[tuple[float, float, str]]:
    """Return what a file marked as bad, by the facts that are kept of it."""
    return [
        (float(onset), float(lasting), str(what))
        for onset, lasting, what in source.get("bad_spans", ())
    ]


def _named_by_position(
    recording: Recording, decision: Decision, schema: ChannelSchema, doing: str
) -> tuple[dict[str, int], dict[str, str]]:
    """As ``_matched``, where channels are named as ingest names them by their places."""
    raws = recording.channels
    names = schema.name_by_position(raws, recording.positions, where=doing)
    rows = {name: row for row, name in enumerate(names) if name is not None}
    how = {
        name: "used" if raws[row] in schema else f"used ({raws[row]}, by its place)"
        for name, row in rows.items()
    }
    return _in_order(rows, raws, decision, doing), how


def _matched(
    recording: Recording, decision: Decision, schema: ChannelSchema, doing: str
) -> tuple[dict[str, int], dict[str, str]]:
    """Return the row of each channel by its UCS name, and how each was known."""
    raws = recording.channels
    unknown = [row for row, raw in enumerate(raws) if raw not in schema]
    # Not E: the nets of EGI have E1 to E256, whose places may be known.
    if any(re.fullmatch(r"[BCDFGH]\d{1,2}", raws[row].strip()) for row in unknown):
        schema.canonicalize(raws, where=doing)  # refuses a cap whose A1 and A2 are not the ears
    known = [row for row in range(len(raws)) if row not in unknown]
    names = schema.canonicalize([raws[row] for row in known], where=doing)
    rows = dict(zip(names, known, strict=True))
    how = dict.fromkeys(rows, "used")
    lacking = [channel for channel in decision.channels if channel not in rows]
    if recording.positions is not None and unknown and lacking:
        from scipy.optimize import linear_sum_assignment  # takes a while to import

        between = recording.positions[unknown][:, None] - schema.positions(lacking)[None]
        apart = np.nan_to_num(np.linalg.norm(between, axis=2), nan=np.inf)
        # One to one by the least sum; what is too far costs as much as any sum of what is not.
        cost = np.where(apart <= NEAR, apart, len(raws) * NEAR)
        for one, other in zip(*linear_sum_assignment(cost), strict=True):
            if apart[one, other] <= NEAR:
                rows[lacking[other]] = unknown[one]
                how[lacking[other]] = f"used ({raws[unknown[one]]}, by its place)"
    return _in_order(rows, raws, decision, doing), how


def _in_order(
    rows: Mapping[str, int], raws: Sequence[str], decision: Decision, doing: str
) -> dict[str, int]:
    """Return rows in UCS order, as a store has them: sums over channels are then the same."""
    if not set(rows) & set(decision.channels):
        raise _nothing_in_common(doing, raws, decision)
    return {channel: rows[channel] for channel in UCS.in_order(rows)}


def _nothing_in_common(doing: str, channels: Sequence[str], decision: Decision) -> DataError:
    return DataError(
        doing,
        f"none of its {len(channels)} channels ({some(list(channels), 6)}) is one that the model "
        f"learned from ({some(list(decision.channels), 6)})",
        "Give each its 10-05 name by --alias RAW=NAME, or places by --montage, or use another "
        "checkpoint",
    )


def _settings(decision: Decision, sfreq: float) -> tuple[Preprocessing, list[str]]:
    """Return what is done to a recording of a rate, and what of it cannot be done."""
    settings = decision.preprocessing
    low, high = settings.band or (None, None)
    ceiling = min(sfreq, decision.sfreq) / 2
    if high is None or high <= ceiling - NARROWEST_TRANSITION:
        return replace(settings, notch=tuple(f for f in settings.notch if f < ceiling - 2)), []
    said = [
        f"It is sampled at {sfreq:g} Hz, so that nothing above {ceiling:g} Hz is in it; the model "
        f"learned from signals up to {high:g} Hz."
    ]
    return replace(settings, band=(low, None), notch=()), said


def _told(card: Card, decision: Decision, had: tuple[float, float]) -> list[str]:
    """Return what ``check_signal`` warns of the band that is left of the one that was there.

    A band that lacks too much is refused.
    """
    low, high = decision.band
    band = max(had[0], low or 0.0) or None, min(had[1], np.inf if high is None else high)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_signal(card, band=band)
    return [str(one.message) for one in caught]


def _laid(
    clean: npt.NDArray[np.float32],
    channels: Sequence[str],
    decision: Decision,
    bad: dict[str, str],
) -> npt.NDArray[np.float32]:
    """Lay rows out as the checkpoint has them, NaN where a channel is missing or bad."""
    out = np.full((len(decision.channels), clean.shape[1]), np.nan, np.float32)
    row = {channel: i for i, channel in enumerate(channels) if channel not in bad}
    for i, channel in enumerate(decision.channels):
        if channel in row:
            out[i] = clean[row[channel]]
    return out


def _check_amplitude(segments: Sequence[npt.NDArray[np.float32]], doing: str) -> None:
    """Refuse signals that are in another unit: every answer about them would be wrong."""
    X = segments[int(np.argmax([segment.shape[1] for segment in segments]))]
    there = np.isfinite(X).mean(axis=1) > 0.5
    if not there.any():
        return
    known = np.where(np.isfinite(X), X, np.float32(0))
    if found := doubtful_amplitude(known[None], there[None]):
        raise DataError(
            doing, found, "Say the unit of its numbers with --unit (V, mV, uV, nV), or another one"
        )
