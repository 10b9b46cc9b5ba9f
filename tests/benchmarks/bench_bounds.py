"""How much of a trial's signal comes from outside the trial, and what does cutting it out change?

Pieces of continuous real EEG stand for trials. "Heard" is what the samples outside a piece add to
it, relative to the piece as it is stored (RMS over all pieces and channels); "apart" is how much a
piece that is filtered by itself (``--filter-within trials``) differs from it. Both are medians over
recordings.

    python tests/benchmarks/bench_bounds.py FOLDER [FOLDER ...]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from omfa.pipeline.preprocess import Preprocessing, preprocess
from omfa.pipeline.readers import get_reader

HOW = Preprocessing(sfreq=None)
SECONDS = (1, 2, 4, 10, 30, 60)
MOST_PIECES = 12
"""Of each recording and length, spread evenly."""


def measure(
    signal: npt.NDArray[np.float32], sfreq: float, seconds: float
) -> tuple[float, float] | None:
    """Return what pieces of one length hear from outside, and how they differ when apart."""
    n = round(seconds * sfreq)
    margin = round(4 * sfreq)  # the ends of the recording itself are another matter
    onsets = np.arange(margin, signal.shape[1] - margin - n + 1, n)
    if not len(onsets):
        return None
    whole = preprocess(signal, sfreq, HOW)
    squares = np.zeros(3)
    for onset in onsets[np.linspace(0, len(onsets) - 1, min(MOST_PIECES, len(onsets))).astype(int)]:
        inside = slice(onset, onset + n)
        outside = signal - signal.mean(axis=1, keepdims=True)
        outside[:, inside] = 0
        heard = preprocess(outside, sfreq, HOW)[:, inside]
        apart = preprocess(signal[:, inside], sfreq, HOW)
        squares += [
            np.sum(np.square(part, dtype=np.float64))
            for part in (whole[:, inside], heard, apart - whole[:, inside])
        ]
    heard_rms, apart_rms = np.sqrt(squares[1:] / squares[0])
    return float(heard_rms), float(apart_rms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--recordings", type=int, default=6)
    args = parser.parse_args()
    for folder in args.folders:
        reader = get_reader("files")
        keys = sorted(reader.discover(folder))
        chosen = [keys[i] for i in np.linspace(0, len(keys) - 1, args.recordings).astype(int)]
        recordings = [reader.read(key) for key in chosen]
        for seconds in SECONDS:
            found = [
                each
                for recording in recordings
                if (each := measure(recording.segments[0], recording.sfreq, seconds))
            ]
            if found:
                heard, apart = np.median(found, axis=0)
                print(f"{folder.name}: {seconds:3d} s, heard {heard:6.1%}, apart {apart:6.1%}")


if __name__ == "__main__":
    main()
