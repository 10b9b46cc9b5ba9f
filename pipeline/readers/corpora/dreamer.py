"""Reads DREAMER: 23 subjects, 18 film clips, 14 electrodes of an Emotiv EPOC at 128 Hz.

All of it is one file: ``DREAMER.mat``, one compressed variable of about two gigabytes, or its JSON
edition, several gigabytes of text. Either is walked once, however many subjects are wanted
(Katsigiannis and Ramzan 2018, IEEE J Biomed Health Inform 22:98).
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline import matlab
from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.corpora import release
from omfa.pipeline.recording import Auxiliary, Key, Recording, Segment

CHANNELS = ("AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4")
"""The columns of the arrays."""

SFREQ, ECG_SFREQ = 128.0, 256.0
ECG = ("ECG1", "ECG2")
N_CLIPS = 18
RATINGS = ("valence", "arousal", "dominance")
_SCALE = (1, 5)
_SEX = {"male": "M", "m": "M", "female": "F", "f": "F"}

_FILES = {"preprocessed": r"DREAMER\.mat", "json": r"DREAMER_Data\.json"}
_Arrays = list[npt.NDArray[np.float32]]


@dataclass(frozen=True)
class DreamerReader:
    """Reads DREAMER's recordings, one per subject.

    Labels: ``valence``, ``arousal``, ``dominance``, 1 to 5. Stimuli are the clips' numbers, 1 to
    18. The 61 s before each clip are its baseline, in a segment of their own, since nothing says
    that baseline and clip were recorded without a gap.

    Attributes
    ----------
    variant : {"preprocessed", "json"}
        ``DREAMER.mat`` or ``DREAMER_Data.json``.
    auxiliary : bool
        Whether to keep the ECG.
    """

    variant: Literal["preprocessed", "json"] = "preprocessed"
    auxiliary: bool = True
    name: str = field(default="dreamer", init=False)

    def __post_init__(self) -> None:
        release.check_choice("DREAMER", "variant", self.variant, tuple(_FILES))

    def discover(self, root: str | Path) -> Sequence[Key]:
        """List the subjects below a folder that holds the file."""
        (file,) = release.find(root, ["DREAMER"], _FILES[self.variant], corpus="DREAMER")
        doing = f"DREAMER reader: {file}"
        count = {"preprocessed": _count, "json": _count_json}[self.variant]
        with release.opening(doing, file):
            n_subjects = count(file, doing)
        if n_subjects > _MAX_SUBJECTS:  # a file of 300 bytes can claim two billion
            raise _wrong(doing, f"it is said to hold {n_subjects} subjects; DREAMER has 23")
        return [release.key(number, 1, [file], root) for number in range(1, n_subjects + 1)]

    def read(self, key: Key) -> Recording:
        """Read one subject; of several, ``read_each`` walks the file once for all."""
        for _, found in self.read_each([key]):
            if isinstance(found, DataError):
                raise found
            return found
        raise AssertionError("every key has an answer")

    def read_each(self, keys: Sequence[Key]) -> Iterator[tuple[Key, Recording | DataError]]:
        """Read the subjects of one file in one pass.

        Yields
        ------
        key, Recording or DataError
            In the file's order.

        Raises
        ------
        DataError
            If the file as a whole is damaged. Its checksum is at its end, so the last recording
            is yielded only after the check, and those yielded before must not be kept.
        """
        if not keys:
            return
        path = keys[0].paths[0]
        doing = f"DREAMER reader: {path}"
        wanted = {int(key.subject): key for key in keys}
        # One is held back: the last comes out after the checksum at the file's end.
        held: tuple[Key, Recording | DataError] | None = None
        with release.opening(doing, path):
            walk = {"preprocessed": _subjects, "json": _subjects_json}[self.variant]
            for number, found in walk(path, wanted, ecg=self.auxiliary, doing=doing):
                if held:
                    yield held
                key = wanted.pop(number)
                held = key, _recording(key, found, self.variant)
        if held:
            yield held
        for key in wanted.values():
            yield (
                key,
                DataError(
                    release.telling("DREAMER", key),
                    "the file holds no such subject",
                    "List the recordings again",
                ),
            )


@dataclass
class _Subject:
    """What the file holds of a person; arrays are (n_times, n_chans)."""

    age: str = ""
    sex: str = ""
    eeg: dict[str, _Arrays] = field(default_factory=dict)
    ecg: dict[str, _Arrays] = field(default_factory=dict)
    scores: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)


def _count(path: Path, doing: str) -> int:
    for variable in matlab.variables(path, doing=doing):
        if variable.name == "DREAMER" and variable.kind == "struct":
            for part in variable.fields():
                if part.name == "Data" and part.kind == "cell":
                    return part.size
    raise _wrong(doing, "it holds no variable DREAMER with a cell Data")


def _subjects(
    path: Path, wanted: Mapping[int, Key], *, ecg: bool, doing: str
) -> Iterator[tuple[int, _Subject | DataError]]:
    """Walk the file; the facts that stand behind the subjects must be those assumed of them."""
    for variable in matlab.variables(path, doing=doing):
        if variable.name != "DREAMER":
            continue
        for part in variable.fields():
            if part.name == "Data":
                for number, item in enumerate(part.cells(), 1):
                    if number in wanted:
                        yield number, _subject(item, ecg=ecg, key=wanted[number])
            elif part.name in _FACTS:
                _check_fact(part, doing)


_MAX_SUBJECTS = 999
_MAX_SAMPLES = 14 * 128 * 3600  # of a clip: an hour, ten times the longest
_FACTS = {"EEG_SamplingRate": SFREQ, "ECG_SamplingRate": ECG_SFREQ, "EEG_Electrodes": CHANNELS}


def _check_fact(part: matlab.Matrix, doing: str) -> None:
    found: Any
    if part.kind == "cell":
        found = tuple(cell.text() for cell in part.cells(most=99))
    else:
        # The sum of one number is that number; of none it is 0, which is refused.
        found = float(part.array(most=99).sum())
    if found != (expected := _FACTS[part.name]):
        raise _wrong(doing, f"its {part.name} is {found}, expected {expected}")


def _subject(item: matlab.Matrix, *, ecg: bool, key: Key) -> _Subject | DataError:
    subject = _Subject()
    try:
        for part in item.fields():
            if part.name == "Age":
                subject.age = (
                    part.text() if part.kind == "char" else f"{part.array(most=9).sum():g}"
                )
            elif part.name == "Gender":
                subject.sex = part.text()
            elif part.name.startswith("Score"):
                name = part.name.removeprefix("Score").lower()
                subject.scores[name] = part.array(np.float64, most=999).ravel()
            elif part.name == "EEG":
                subject.eeg = {piece.name: _arrays(piece) for piece in part.fields()}
            elif part.name == "ECG" and ecg:
                subject.ecg = {piece.name: _arrays(piece) for piece in part.fields()}
    except DataError as error:
        # The rest of the file may be whole: the walk goes on behind this subject.
        return DataError(release.telling("DREAMER", key), *error.args[1:])
    return subject


def _arrays(piece: matlab.Matrix) -> _Arrays:
    return [clip.array(np.float32, most=_MAX_SAMPLES) for clip in piece.cells(most=N_CLIPS)]


# The JSON edition: a list of objects with the names of the MATLAB file's fields. An object is cut
# out by its braces and parsed alone, since all of them are several gigabytes.

_MARKS = re.compile(rb'\\.|[{}"]', re.DOTALL)  # an escaped character, or a mark
_JSON_CHUNK = 1 << 20
_MAX_OBJECT = 1 << 30  # bytes of a subject; about 200 million in the release


def _count_json(path: Path, doing: str) -> int:
    """Count subjects by a name that each has once."""
    if not path.stat().st_size:
        raise _wrong(doing, "it is empty")
    # Mapped: listing the recordings must not take the memory of several gigabytes.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        n, at = 0, text.find(b'"EEG"')
        while at >= 0:
            n, at = n + 1, text.find(b'"EEG"', at + 1)
    if not n:
        raise _wrong(doing, "it holds no EEG")
    return n


def _subjects_json(
    path: Path, wanted: Mapping[int, Key], *, ecg: bool, doing: str
) -> Iterator[tuple[int, _Subject | DataError]]:
    for number, text in enumerate(_objects(path, wanted, doing), 1):
        if number in wanted:
            yield number, _subject_json(text, ecg=ecg, key=wanted[number])


def _objects(path: Path, wanted: Mapping[int, Key], doing: str) -> Iterator[bytes]:
    """Cut a list of objects into their texts; those not wanted come empty."""
    numbers = set(wanted)
    depth, number, in_text, kept = 0, 1, False, bytearray()
    with path.open("rb") as file:
        while chunk := file.read(_JSON_CHUNK):
            start = 0
            for match in _MARKS.finditer(chunk):
                mark, at = match[0], match.start()
                if mark == b'"':
                    in_text = not in_text
                elif not in_text and mark == b"{":
                    if not depth:
                        start = at
                    depth += 1
                elif not in_text and mark == b"}":
                    depth -= 1
                    if not depth:
                        yield bytes(kept + chunk[start : at + 1]) if number in numbers else b""
                        kept.clear()
                        number += 1
            if depth and number in numbers:
                kept += chunk[start:]
            if depth < 0 or len(kept) > _MAX_OBJECT:
                raise _wrong(doing, f"subject {number} in it has no end")
    if depth:
        raise _wrong(doing, f"it ends within subject {number}")


def _subject_json(text: bytes, *, ecg: bool, key: Key) -> _Subject | DataError:
    try:
        found = json.loads(text)
        with np.errstate(over="ignore"):  # damaged samples become infinite
            signals = {
                what: {
                    # In columns, so that its transpose is in rows of channels.
                    name: [np.array(clip, np.float32, order="F") for clip in found[what][name]]
                    for name in ("baseline", "stimuli")
                }
                for what in (["EEG", "ECG"] if ecg else ["EEG"])
            }
        return _Subject(
            age=str(found.get("Age", "")),
            sex=str(found.get("Gender", "")),
            eeg=signals["EEG"],
            ecg=signals.get("ECG", {}),
            scores={
                name: np.array(found[f"Score{name.capitalize()}"], float).ravel()
                for name in RATINGS
            },
        )
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        return _wrong(release.telling("DREAMER", key), f"its JSON is damaged ({error!r:.200})")


def _recording(key: Key, subject: _Subject | DataError, variant: str) -> Recording | DataError:
    if isinstance(subject, DataError):
        return subject
    doing = release.telling("DREAMER", key)
    try:
        segments = _segments(subject.eeg, len(CHANNELS), "EEG", doing)
        trials = pd.DataFrame(
            {
                # Baseline, clip, baseline, clip: the clips are the odd ones.
                "segment": np.arange(1, 2 * N_CLIPS, 2),
                "onset": 0,
                "length": [clip.shape[1] for clip in segments[1::2]],
                "baseline_segment": np.arange(0, 2 * N_CLIPS, 2),
                "baseline_onset": 0,
                "baseline_length": [baseline.shape[1] for baseline in segments[::2]],
                "stimulus": [str(clip) for clip in range(1, N_CLIPS + 1)],
            }
        )
        for name in RATINGS:
            trials[name] = _scores(subject, name, doing)
        auxiliary = []
        if subject.ecg:
            ecg = _segments(subject.ecg, len(ECG), "ECG", doing)
            auxiliary = [Auxiliary(ECG, ("n/a",) * len(ECG), ECG_SFREQ, ecg)]
        return Recording(
            key=key,
            channels=list(CHANNELS),
            sfreq=SFREQ,
            segments=segments,
            trials=trials,
            auxiliary=auxiliary,
            participant=_participant(subject),
            source={
                "variant": variant,
                "reference": "as recorded",
                "band": None,
                "timing": "cut by the corpus's authors",
            },
        ).check()
    except DataError as error:
        return error


def _segments(pieces: Mapping[str, _Arrays], n_chans: int, what: str, doing: str) -> list[Segment]:
    """Return baseline and clip in turn, (n_chans, n_times) each: the file has time first."""
    counts = {name: len(pieces.get(name, ())) for name in ("baseline", "stimuli")}
    if set(counts.values()) != {N_CLIPS}:
        raise _wrong(
            doing,
            f"its {what} has {counts['baseline']} baselines and {counts['stimuli']} clips, "
            f"expected {N_CLIPS} of each",
        )
    segments: list[Segment] = []
    for number, pair in enumerate(zip(pieces["baseline"], pieces["stimuli"], strict=True), 1):
        for name, array in zip(("baseline", "clip"), pair, strict=True):
            if array.ndim != 2 or array.shape[1] != n_chans or not len(array):
                raise _wrong(
                    doing,
                    f"the {what} of {name} {number} is {' x '.join(map(str, array.shape))}, "
                    f"expected samples x {n_chans}",
                )
            segments.append(array.T)
    return segments


def _scores(subject: _Subject, name: str, doing: str) -> npt.NDArray[np.int64]:
    scores = subject.scores.get(name, np.empty(0))
    low, high = _SCALE
    if len(scores) != N_CLIPS:
        raise _wrong(doing, f"{len(scores)} scores of {name}, expected {N_CLIPS}")
    if not np.isin(scores, np.arange(low, high + 1)).all():
        raise _wrong(doing, f"its scores of {name} are not all whole numbers from {low} to {high}")
    # Signed: of the file's unsigned bytes, 3 - 5 is 254.
    return scores.astype(np.int64)


def _participant(subject: _Subject) -> dict[str, Any]:
    person: dict[str, Any] = {}
    if subject.age.isdigit():
        person["age"] = int(subject.age)
    if sex := _SEX.get(subject.sex.lower()):
        person["sex"] = sex
    return person


def _wrong(doing: str, found: str, action: str = "Download the file again") -> DataError:
    return DataError(doing, found, action)
