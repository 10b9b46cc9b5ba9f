"""Reads THU-EP: 80 subjects, 28 film clips, 32 electrodes at 250 Hz.

Each subject is a MATLAB 7.3 file that holds the last 30 s of every clip six times: in five narrow
bands and in the broad one, which is what is read. One more file holds everybody's ratings (Shen et
al. 2021, arXiv:2109.09559).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline import matlab73
from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.corpora import release
from omfa.pipeline.readers.folder import left_out
from omfa.pipeline.recording import Key, Recording

# fmt: off
CHANNELS = (
    "Fp1", "Fp2", "Fz", "F3", "F4", "F7", "F8", "FC1", "FC2", "FC5", "FC6", "Cz", "C3", "C4", "T7",
    "T8", "A1", "A2", "CP1", "CP2", "CP5", "CP6", "Pz", "P3", "P4", "P7", "P8", "PO3", "PO4", "Oz",
    "O1", "O2",
)
# fmt: on
"""The channels in the file's order: the ears in the middle, where FACED has them last."""

SFREQ = 250.0
BAND = (0.5, 47.0)
"""The broad band, Hz."""

N_SUBJECTS, N_CLIPS, N_BANDS = 80, 28, 6
BROAD = 5
"""Where the broad band is among the six."""

EMOTIONS = (
    *("anger",) * 3,
    *("disgust",) * 3,
    *("fear",) * 3,
    *("sadness",) * 3,
    *("neutral",) * 4,
    *("amusement",) * 3,
    *("inspiration",) * 3,
    *("joy",) * 3,
    *("tenderness",) * 3,
)
"""What each clip was chosen to elicit; the clips are FACED's."""

RATINGS = (
    *("anger", "disgust", "fear", "sadness", "amusement", "joy", "inspiration", "tenderness"),
    *("arousal", "valence", "familiarity", "liking"),
)
"""The items of the ratings in the file's order, which is not FACED's."""

_MAX_SAMPLES = 7500 * len(CHANNELS) * N_CLIPS * N_BANDS


@dataclass(frozen=True)
class ThuEpReader:
    """Reads THU-EP's recordings, one per subject.

    Labels: ``emotion``, what the clip was chosen to elicit, and the twelve ratings of ``RATINGS``.
    Stimuli are the clips' numbers, 1 to 28.
    """

    name: str = field(default="thu-ep", init=False)

    def discover(self, root: str | Path) -> Sequence[Key]:
        """List the subjects below a folder: THU-EP's, or ``EEG data``."""
        files = release.find(
            root, ["EEG data"], r"sub_\d+\.mat", corpus="THU-EP", known=r"ratings\.mat"
        )
        ratings = release.beside(files[0], "ratings.mat")
        numbered: dict[int, Path] = {}
        for file in files:  # sub_1 before sub_01, which is no name of the corpus
            number = int(file.stem.split("_")[1])
            if number not in numbered or file.stem == f"sub_{number}":
                numbered[number] = file
        if others := [file.name for file in files if file not in numbered.values()]:
            where = f"THU-EP reader: {root}"
            left_out(where, others, "are of subjects that are read from another file")
        return sorted(
            release.key(number, 1, [file, ratings], root) for number, file in numbered.items()
        )

    def read(self, key: Key) -> Recording:
        """Read one subject."""
        doing = release.telling("THU-EP", key)
        with release.opening(doing, key.paths[0]):
            if len(key.paths) < 2:
                raise _wrong(
                    doing,
                    "there is no ratings.mat in its folder or beside it",
                    "Copy the corpus's folder Ratings beside its folder",
                )
            ratings = _read_ratings(key.paths[1], int(key.subject), doing)
            signal = _read_signal(key.paths[0], doing)
        return Recording(
            key=key,
            channels=list(CHANNELS),
            sfreq=SFREQ,
            segments=list(signal),
            trials=pd.DataFrame(
                {
                    "segment": np.arange(N_CLIPS),
                    "onset": 0,
                    "length": signal.shape[2],
                    "baseline_onset": 0,
                    "baseline_length": 0,
                    "stimulus": [str(clip) for clip in range(1, N_CLIPS + 1)],
                    "emotion": list(EMOTIONS),
                    **dict(zip(RATINGS, ratings, strict=True)),
                }
            ),
            source={
                "variant": "preprocessed",
                "reference": "unknown",
                "band": list(BAND),
                "timing": "cut by the corpus's authors",
            },
        ).check()


def _read_signal(path: Path, doing: str) -> npt.NDArray[np.float32]:
    """Read the broad band, (clip, channel, time)."""
    with matlab73.opened(path, doing=doing) as file:
        found = matlab73.dataset(file, "data", most=_MAX_SAMPLES, doing=doing)
        if found.ndim != 4 or found.shape[1:] != (len(CHANNELS), N_CLIPS, N_BANDS):
            raise _wrong(
                doing,
                f"its data are {matlab73.shape(found)}, expected samples x {len(CHANNELS)} x "
                f"{N_CLIPS} x {N_BANDS}",
            )
        signal = np.empty((N_CLIPS, len(CHANNELS), found.shape[0]), np.float32)
        with np.errstate(over="ignore"):  # damaged samples become infinite
            for start, block in matlab73.blocks(found):
                signal[:, :, start : start + len(block)] = block[..., BROAD].transpose(2, 1, 0)
    return signal


def _read_ratings(path: Path, subject: int, doing: str) -> npt.NDArray[np.float64]:
    """Read a subject's ratings, (item, clip), where the file bears out which is which."""
    with matlab73.opened(path, doing=f"{doing}: {path.name}") as file:
        most = len(RATINGS) * N_CLIPS * N_SUBJECTS
        found = matlab73.dataset(file, "ratings", most=most, doing=doing)
        if found.shape != (len(RATINGS), N_CLIPS, N_SUBJECTS):
            raise _wrong(
                doing,
                f"the ratings in {path.name} are {matlab73.shape(found)}, expected "
                f"{len(RATINGS)} x {N_CLIPS} x {N_SUBJECTS}",
            )
        ratings = found[:].astype(float)
    if not 1 <= subject <= N_SUBJECTS:
        raise _wrong(
            doing,
            f"{path.name} has ratings of {N_SUBJECTS} subjects",
            "Check that the file has its own name",
        )
    # The order of items and clips has one source. If it holds, an emotion is rated higher for the
    # clips that were chosen for it than for the others, by all subjects together.
    if not np.isfinite(ratings).any(axis=2).all():
        raise _wrong(doing, f"an item or a clip in {path.name} has no ratings at all")
    typical = np.nanmean(np.where(np.isfinite(ratings), ratings, np.nan), axis=2)
    for item, rated in zip(RATINGS[:8], typical, strict=False):
        own = np.array(EMOTIONS) == item
        if not rated[own].mean() > rated[~own].mean():
            raise _wrong(
                doing,
                f"in {path.name} the clips of {item} are rated {rated[own].mean():.2f} for {item} "
                f"and the others {rated[~own].mean():.2f}, so that items or clips are in another "
                "order than the known one",
            )
    own_ratings: npt.NDArray[np.float64] = ratings[:, :, subject - 1]
    return own_ratings


def _wrong(
    doing: str, found: str, action: str = "Download the file as the corpus distributes it"
) -> DataError:
    return DataError(doing, found, action)
