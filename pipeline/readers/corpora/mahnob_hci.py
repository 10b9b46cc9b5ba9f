"""Reads MAHNOB-HCI: 27 people with EEG, 20 film clips, 32 electrodes and 14 other signals.

Each clip is a session of its own: a folder with a BioSemi recording and ``session.xml``, which
holds what the person felt (Soleymani et al. 2012, IEEE Trans Affect Comput 3:42). The neutral clips
between them and the experiment on implicit tagging are sessions too, without a felt emotion.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.biosemi import open_bdf
from omfa.pipeline.readers.corpora import release
from omfa.pipeline.readers.folder import is_listed, is_service, left_out
from omfa.pipeline.recording import Auxiliary, Key, Recording, SourceWarning
from omfa.pipeline.words import some

CHANNELS = (
    *("Fp1", "AF3", "F3", "F7", "FC5", "FC1", "C3", "T7", "CP5", "CP1", "P3", "P7", "PO3", "O1"),
    *("Oz", "Pz", "Fp2", "AF4", "Fz", "F4", "F8", "FC6", "FC2", "Cz", "C4", "T8", "CP6", "CP2"),
    *("P4", "P8", "PO4", "O2"),
)

AUXILIARY = {f"EXG{i}": "uV" for i in range(1, 9)} | {
    "GSR1": "n/a",
    "GSR2": "n/a",
    "Erg1": "n/a",
    "Erg2": "n/a",
    "Resp": "n/a",
    "Temp": "n/a",
}
"""The other channels; the release names no unit for six of them."""

EMOTIONS = {
    0: "neutral",
    1: "anger",
    2: "disgust",
    3: "fear",
    4: "joy",
    5: "sadness",
    6: "surprise",
    11: "amusement",
    12: "anxiety",
}
"""What ``feltEmo`` stands for; the other numbers up to 12 are not in the release."""

RATINGS = {
    "valence": "feltVlnc",
    "arousal": "feltArsl",
    "dominance": "feltCtrl",
    "predictability": "feltPred",
}
"""The attributes of ``session.xml`` that hold the ratings."""

SFREQ = 256.0
BASELINE_SECONDS = 30
_SCALE = (1, 9)
_FILE = re.compile(r"part_(\d+)_([sn])_trial(\d+)_emotion\.bdf", re.IGNORECASE)
_XML = "session.xml"
_MAX_XML = 1 << 20  # bytes; the release's have about two thousand

# Why a session is left out.
_NEUTRAL = "tell of no felt emotion (neutral clips, implicit tagging)"
_SILENT = "tell of no EEG"
_UNREADABLE = "cannot be read, lie beside no recording"
_WITHOUT = (_NEUTRAL, _SILENT, _UNREADABLE)


@dataclass(frozen=True)
class MahnobHciReader:
    """Reads MAHNOB-HCI's emotion elicitation, one recording per clip.

    A recording's run is the trial's number in the name of its file, in the order of presentation.
    Labels: ``emotion``, a word of ``EMOTIONS``; ``valence``, ``arousal``, ``dominance`` (control)
    and ``predictability``, 1 to 9. Stimuli are the names of the films' files in lower case. The
    30 s before a clip are its baseline. Sessions without a felt emotion are left out.

    Attributes
    ----------
    auxiliary : bool
        Whether to keep the channels that are not EEG.
    """

    auxiliary: bool = True
    name: str = field(default="mahnob-hci", init=False)

    def discover(self, root: str | Path) -> Sequence[Key]:
        """List the sessions with EEG and a felt emotion below a folder."""
        root = Path(root)
        where = f"MAHNOB-HCI reader: {root}"
        keys: dict[str, Key] = {}
        without: dict[str, list[str]] = {why: [] for why in _WITHOUT}
        try:
            listed = {folder: _listed(folder, where) for folder in _session_folders(root)}
        except OSError as error:
            raise DataError(
                where,
                f"{error.filename} cannot be read ({error.strerror})",
                "Change its permissions, or give another folder",
            ) from error
        for folder, found in listed.items():
            if not isinstance(found, Path):
                without[found].append(f"{folder.name}/{_XML}")
                continue
            key = _key(found, folder, root)
            if (other := keys.setdefault(key.recording, key)) is not key:
                raise DataError(
                    where,
                    f"{key.files[0]} and {other.files[0]} are both subject {key.subject}'s trial "
                    f"{key.run}",
                    "Take one of the two folders away",
                )
        for why, names in without.items():
            if names:
                left_out(where, names, why)
        if not keys:
            raise DataError(
                where,
                "none of its sessions has EEG and a felt emotion",
                "Give the folder that MAHNOB-HCI was unpacked to, or download the sessions again",
            )
        return sorted(keys.values())

    def read(self, key: Key) -> Recording:
        """Read one session."""
        doing = f"{release.telling('MAHNOB-HCI', key)} trial {int(key.run)}"
        with release.opening(doing, key.paths[0]):
            return _read(key, doing, auxiliary=self.auxiliary).check()


def _session_folders(root: Path) -> list[Path]:
    """Return the numbered folders: of the root, or of a folder Sessions up to two levels down."""
    doing = f"MAHNOB-HCI reader: looking in {root}"
    if not root.is_dir():
        raise DataError(doing, "there is no such folder", "Give the folder that holds the corpus")
    seen: set[str] = set()
    for globs in ([""], ["Sessions"], ["*/Sessions"], ["*/*/Sessions"]):
        places = [root] if globs == [""] else sorted(p for g in globs for p in root.glob(g))
        found: dict[Path, list[Path]] = {}
        for place in places:
            real = os.path.realpath(place)
            if real in seen or any(map(is_service, place.relative_to(root).parts)):
                continue
            seen.add(real)
            if folders := [p for p in place.iterdir() if p.is_dir() and _is_session(p)]:
                found[place] = folders
        if len(found) > 1:
            raise DataError(
                doing,
                f"the sessions are in {len(found)} folders, {', '.join(map(str, found))}",
                "Give one of these folders",
            )
        for folders in found.values():
            _name_copies(folders, where=f"MAHNOB-HCI reader: {root}")
            numbered = [folder for folder in folders if folder.name.isdigit()]
            if numbered:
                return sorted(numbered, key=lambda folder: int(folder.name))
    inside = some(sorted(path.name for path in root.iterdir()), 5) or "nothing"
    raise DataError(
        doing,
        "there is no numbered folder with a session.xml in it or in a folder Sessions; it holds "
        f"{inside}",
        "Give the folder that MAHNOB-HCI was unpacked to, or another source",
    )


def _is_session(folder: Path) -> bool:
    if is_service(folder.name):
        return False
    return is_listed(folder / _XML) or any(_FILE.fullmatch(path.name) for path in folder.iterdir())


def _name_copies(folders: Sequence[Path], *, where: str) -> None:
    if odd := sorted(folder.name for folder in folders if not folder.name.isdigit()):
        warnings.warn(
            SourceWarning(
                f"{where}: {len(odd)} folders with a session are not named by a number and are "
                f"left out: {some(odd, 5)}"
            ),
            stacklevel=2,
        )


def _listed(folder: Path, where: str) -> Path | str:
    """Return the recording that a folder has or ought to have, or why it is left out."""
    suffixed = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() == ".bdf" and path.name[0] != "." and is_listed(path)
    ]
    there = [path for path in suffixed if _FILE.fullmatch(path.name)]
    session: _Session | None
    try:
        session = _session(folder / _XML, where)
    except (DataError, OSError):  # read again, and told, with its recording
        session = None
    named = session.bdf.lower() if session else ""
    # The one that session.xml names comes first.
    of_emotion = sorted(
        (path for path in there if not _is_neutral(path)),
        key=lambda path: path.name.lower() != named,
    )
    if odd := [path for path in suffixed if path not in there] + of_emotion[1:]:
        names = [f"{folder.name}/{path.name}" for path in odd]
        left_out(where, names, "are not named as their session's recording is")
    if session and not session.of_emotion:
        return _NEUTRAL
    if of_emotion:
        return of_emotion[0]
    if there:
        return _NEUTRAL
    if not session:
        return _UNREADABLE
    if _FILE.fullmatch(session.bdf) and not _is_neutral(Path(session.bdf)):
        return folder / session.bdf  # it ought to be there
    return _SILENT


def _is_neutral(path: Path) -> bool:
    match = _FILE.fullmatch(path.name)
    return match is not None and match[2].upper() == "N"


def _key(file: Path, folder: Path, root: Path) -> Key:
    match = _FILE.fullmatch(file.name)
    assert match
    files = tuple(path.relative_to(root).as_posix() for path in (file, folder / _XML))
    return Key(f"{int(match[1]):02d}", "1", f"{int(match[3]):02d}", files, str(root))


@dataclass
class _Session:
    """What ``session.xml`` tells: the attributes of its root, the person, the recording's file."""

    attributes: dict[str, str] = field(default_factory=dict)
    subject: str = ""
    bdf: str = ""

    @property
    def of_emotion(self) -> bool:
        """Whether the person told what was felt: neutral clips and image tagging have no answer."""
        return self.attributes.get("isStim", "1") != "0" and "feltArsl" in self.attributes


def _session(path: Path, doing: str) -> _Session:
    """Read a session's description; nothing is expanded, and no element is kept."""
    session = _Session()
    root = ""

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal root
        if not root:
            root, session.attributes = name, attributes
        elif name == "subject":
            session.subject = attributes.get("id", "").strip()
        elif name == "track" and attributes.get("type", "").lower() == "physiological":
            session.bdf = attributes.get("filename", "").strip()

    def refuse(*_: Any) -> None:
        raise _wrong(
            doing, f"{path.name} declares a document type or entities", "Do not trust this file"
        )

    if (size := path.stat().st_size) > _MAX_XML:
        raise _wrong(doing, f"{path.name} has {size} bytes, more than {_MAX_XML}")
    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        if isinstance(error, DataError):
            raise
        raise _wrong(doing, f"{path.name} is damaged ({error})") from error
    if root != "session":
        raise _wrong(doing, f"{path.name} holds <{root}>, expected <session>")
    return session


def _read(key: Key, doing: str, *, auxiliary: bool) -> Recording:
    bdf, xml = key.paths
    session = _session(xml, doing)
    _check_together(key, session, doing)
    labels = _labels(session, doing)
    file = open_bdf(bdf, doing=doing)
    if file.sfreq != SFREQ:
        raise _wrong(doing, f"it was sampled at {file.sfreq:g} Hz, expected {SFREQ:g} Hz")
    rest = [name for name in AUXILIARY if name in file.channels] if auxiliary else []
    *picks, status = release.pick(file.channels, [*CHANNELS, *rest, "Status"], doing)
    n_eeg = len(CHANNELS)
    file.check_scales(picks[:n_eeg], doing=doing)
    signal, codes = file.read(picks, status=status)
    onset, end, idle = _marks(codes, doing)
    baseline = min(onset, int(BASELINE_SECONDS * SFREQ))
    trial = {
        "segment": 0,
        "onset": onset,
        "length": end - onset,
        "baseline_onset": onset - baseline,
        "baseline_length": baseline,
        **labels,
    }
    notes = []
    number = session.attributes.get("sessionId", "")
    if number != xml.parent.name:
        notes.append(
            f"{doing}: its folder is called {xml.parent.name}, and {xml.name} says that it is "
            f"session {number or 'without a number'}."
        )
    return Recording(
        key=key,
        channels=list(CHANNELS),
        sfreq=SFREQ,
        segments=[signal[:n_eeg]],
        trials=pd.DataFrame([trial]),
        auxiliary=[
            Auxiliary(tuple(rest), tuple(AUXILIARY[n] for n in rest), SFREQ, [signal[n_eeg:]])
        ]
        if rest
        else [],
        source={
            "variant": "raw",
            "reference": "as recorded (BioSemi CMS)",
            "band": None,
            "timing": "the two marks of the status channel",
            "status_idle": idle,
            "session_id": number,
        },
        notes=notes,
    )


def _check_together(key: Key, session: _Session, doing: str) -> None:
    """Raise if the description is another session's, in which case its labels are, too."""
    bdf = key.paths[0].name
    told = {
        "its file": (session.bdf.lower(), {"", bdf.lower()}),
        "its subject": (session.subject, {"", str(int(key.subject))}),
        # The neutral clips are counted with the others, before each.
        "its cutNr": (
            session.attributes.get("cutNr", ""),
            {"", *(str(2 * int(key.run) + i) for i in range(2))},
        ),
    }
    for what, (found, fitting) in told.items():
        if found not in fitting:
            raise _wrong(
                doing,
                f"{_XML} says that {what} is {found}, which does not go with {bdf}",
                "Take both from one session of the release again",
            )


def _labels(session: _Session, doing: str) -> dict[str, Any]:
    attributes = session.attributes
    stimulus = attributes.get("mediaFile", "").strip().lower()
    if not stimulus:
        raise _wrong(doing, f"{_XML} names no mediaFile, which is what was shown")
    code = _whole(attributes.get("feltEmo"))
    if code not in EMOTIONS:
        raise _wrong(
            doing,
            f"{_XML} has feltEmo {attributes.get('feltEmo')!r}, expected one of "
            f"{', '.join(map(str, EMOTIONS))}",
        )
    labels: dict[str, Any] = {"stimulus": stimulus, "emotion": EMOTIONS[code]}
    low, high = _SCALE
    for name, attribute in RATINGS.items():
        text = attributes.get(attribute)
        rating = _whole(text)
        if text is None and name not in ("valence", "arousal"):
            labels[name] = np.nan
        elif rating is None or not low <= rating <= high:
            raise _wrong(
                doing, f"{_XML} has {attribute} {text!r}, expected a number from {low} to {high}"
            )
        else:
            labels[name] = rating
    return labels


def _whole(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"\s*\d{1,2}\s*", text, re.ASCII) else None


def _marks(codes: npt.NDArray[np.uint16], doing: str) -> tuple[int, int, int]:
    """Return where the clip starts and stops, and the value between the marks."""
    counts = np.bincount(codes)
    idle = int(counts.argmax())  # of the recordings not all rest at 0
    marked = codes != idle
    begins = np.flatnonzero(marked & ~np.concatenate([[False], marked[:-1]]))
    values = np.flatnonzero(counts)
    if len(begins) != 2 or len(values) != 2:
        raise _wrong(
            doing,
            f"its status channel has {len(begins)} marks, with the values {some(values, 5)}, "
            "expected two of one value: the clip's start and its end",
            "Download the file again; if it is whole, leave the session out",
        )
    return int(begins[0]), int(begins[1]), idle


def _wrong(doing: str, found: str, action: str = "Download the session again") -> DataError:
    return DataError(doing, found, action)
