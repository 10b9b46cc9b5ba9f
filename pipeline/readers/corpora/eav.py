"""Reads EAV: 42 subjects in 200 turns of conversation, 30 electrodes at 500 Hz.

The makers cut each subject's recording into turns of 20 s and gave all of them in one array of a
MATLAB file, with the labels in another (Lee et al. 2024, Scientific Data,
doi:10.1038/s41597-024-03838-4).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline import matlab
from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.corpora import release
from omfa.pipeline.readers.folder import left_out, walk
from omfa.pipeline.recording import Key, Recording

# fmt: off
CHANNELS = (
    "Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "FC5", "FC1", "FC2", "FC6", "T7", "C3", "Cz", "C4",
    "T8", "CP5", "CP1", "CP2", "CP6", "P7", "P3", "Pz", "P4", "P8", "PO9", "O1", "Oz", "O2", "PO10",
)
# fmt: on
"""The channels in the order that users of the corpus agree on; no file names them."""

SFREQ = 500.0
N_TRIALS = 200
EMOTIONS = ("neutral", "sadness", "anger", "happiness", "calmness")
CONDITIONS = ("listening", "speaking")
"""Row of the labels = 2 * emotion + condition."""

_MAX_SAMPLES = 10_000 * 30 * N_TRIALS
_FILE = re.compile(r"subject(\d+)_eeg\.mat", re.IGNORECASE)
_LABEL = re.compile(r"subject\d+_eeg_label\.mat", re.IGNORECASE)


@dataclass(frozen=True)
class EavReader:
    """Reads EAV's recordings, one per subject.

    Labels: ``emotion`` (neutral, sadness, anger, happiness, calmness) and ``condition`` (listening,
    speaking). The files name no clip, so a stimulus is the turn's number, 1 to 200.

    Attributes
    ----------
    channels : tuple of str
        The 30 names in the file's order. The files hold none: the default is the order that
        independent users of the corpus agree on, and another one is yours to vouch for.
    """

    channels: tuple[str, ...] = CHANNELS
    name: str = field(default="eav", init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        if len(self.channels) != len(CHANNELS):
            raise DataError(
                "EAV reader: naming the channels",
                f"{len(self.channels)} names were given, and the recordings have {len(CHANNELS)}",
                "Give one name per channel in the file's order, or leave --channels out",
            )

    def discover(self, root: str | Path) -> Sequence[Key]:
        """List the subjects below a folder: the corpus's, or a subject's own."""
        root = Path(root)
        where = f"EAV reader: {root}"
        files = [path for path in walk(root) if path.suffix.lower() == ".mat"]
        found = [path for path in files if _FILE.fullmatch(path.name)]
        if not found:
            raise DataError(
                where,
                "there is no subject{N}_eeg.mat in it or in a folder below it",
                "Give the folder that EAV was unpacked to",
            )
        taken: dict[int, Path] = {}
        # Of two files of one subject the one whose folder has the same number.
        for path in sorted(found, key=lambda path: (_number(path) != _folder_number(path), path)):
            taken.setdefault(_number(path), path)
        others = [path for path in found if path not in taken.values()]
        odd = [p for p in files if not (_FILE.fullmatch(p.name) or _LABEL.fullmatch(p.name))]
        for paths, why in (
            (others, "are of subjects that are read from another file"),
            (odd, "are not named as recordings of the corpus are"),
        ):
            if paths:
                left_out(where, [path.relative_to(root).as_posix() for path in paths], why)
        return sorted(
            release.key(number, 1, [path, _label_file(path)], root)
            for number, path in taken.items()
        )

    def read(self, key: Key) -> Recording:
        """Read one subject."""
        doing = release.telling("EAV", key)
        path = key.paths[0]
        with release.opening(doing, path):
            if _folder_number(path) not in (None, _number(path)):
                raise _wrong(
                    doing,
                    f"its folder is called {path.parts[-3]}, another subject's",
                    "Put the file back into its own folder",
                )
            if len(key.paths) < 2:
                raise _wrong(
                    doing,
                    f"there is no {path.stem}_label.mat beside it",
                    "Copy the labels of the same subject into its folder",
                )
            labels = _read_labels(key.paths[1], doing)
            signal = _read_signal(path, doing)
        if signal.shape[2] != len(labels["emotion"]):
            raise _wrong(
                doing,
                f"{signal.shape[2]} trials in it and {len(labels['emotion'])} in "
                f"{key.paths[1].name}",
                "Download both files again",
            )
        n_times = signal.shape[0]
        return Recording(
            key=key,
            channels=list(self.channels),
            sfreq=SFREQ,
            # Time is the fastest axis in the file, so that each is in rows of channels.
            segments=[signal[:, :, trial].T for trial in range(signal.shape[2])],
            trials=pd.DataFrame(
                {
                    "segment": np.arange(signal.shape[2]),
                    "onset": 0,
                    "length": n_times,
                    "baseline_onset": 0,
                    "baseline_length": 0,
                    "stimulus": [str(trial + 1) for trial in range(signal.shape[2])],
                    **labels,
                }
            ),
            source={
                "variant": "preprocessed",
                "reference": "unknown",
                "band": None,
                "timing": "cut by the corpus's authors",
            },
        ).check()


def _number(path: Path) -> int:
    match = _FILE.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def _folder_number(path: Path) -> int | None:
    """Return the subject that a file's folder names: ``subject3/EEG/subject3_eeg.mat``."""
    name = path.parts[-3] if len(path.parts) > 2 else ""
    match = re.match(r"subject(\d+)", name, re.IGNORECASE)
    return int(match[1]) if match else None


def _label_file(path: Path) -> Path | None:
    wanted = f"{path.stem}_label.mat".lower()
    return next((p for p in sorted(path.parent.iterdir()) if p.name.lower() == wanted), None)


def _read_labels(path: Path, doing: str) -> dict[str, list[str]]:
    """Read which emotion and condition each trial is of: one row of ten is 1."""
    for variable in matlab.variables(path, doing=f"{doing}: {path.name}"):
        if variable.name != "label":
            continue
        if len(variable.shape) != 2 or variable.shape[0] != 10:
            raise _wrong(
                doing,
                f"label in {path.name} is {_shape(variable)}, expected 10 x {N_TRIALS}",
            )
        one_hot = variable.array(most=10 * N_TRIALS)
        if not (np.isin(one_hot, (0, 1)).all() and (one_hot.sum(axis=0) == 1).all()):
            raise _wrong(doing, f"a trial in {path.name} has not exactly one of the ten labels")
        rows = one_hot.argmax(axis=0)
        return {
            "emotion": [EMOTIONS[row // 2] for row in rows],
            "condition": [CONDITIONS[row % 2] for row in rows],
        }
    raise _wrong(doing, f"{path.name} holds no variable 'label'")


def _read_signal(path: Path, doing: str) -> npt.NDArray[np.float32]:
    """Read the trials, (time, channel, trial): ``seg1`` where it has them, or else ``seg``."""
    found: npt.NDArray[np.float32] | None = None
    preferred, seen = False, list[str]()
    for variable in matlab.variables(path, doing=doing):
        seen.append(f"{variable.name} ({_shape(variable)})")
        if variable.name not in ("seg", "seg1") or len(variable.shape) != 3 or preferred:
            continue
        n_times, n_chans, n_trials = variable.shape
        if not n_times or n_chans != len(CHANNELS) or n_trials != N_TRIALS:
            raise _wrong(
                doing,
                f"{variable.name} is {_shape(variable)}, expected samples x {len(CHANNELS)} x "
                f"{N_TRIALS}",
            )
        found = None  # two of them would be a gigabyte
        found = variable.array(np.float32, most=_MAX_SAMPLES)
        preferred = variable.name == "seg1"
    if found is None:
        raise _wrong(
            doing,
            f"it holds no array of trials seg1 or seg, but {', '.join(seen[:5]) or 'nothing'}",
        )
    return found


def _shape(variable: matlab.Matrix) -> str:
    return " x ".join(map(str, variable.shape))


def _wrong(doing: str, found: str, action: str = "Download the file again") -> DataError:
    return DataError(doing, found, action)
