"""Does Euclidean alignment of recordings help the encoder? Writes aligned copies of stores.

``python tests/benchmarks/bench_alignment.py STORE OUT``

Every recording is whitened over its channels by the inverse square root of its own mean covariance,
of windows of 4 s, without labels (He & Wu 2020, IEEE TBME 67:399-410), and brought to the unit that
the store's recordings have in the median, so that all that reads microvolts reads the copy. Then
the same commands run on both: ``omfa-zoo pretrain`` and ``omfa-zoo benchmark``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from omfa.pipeline import store as stores

SECONDS = 4.0
SHRINK = 1e-3
"""Of the mean variance, added to each channel's: an average reference leaves a direction empty."""


def whitener(signal: npt.NDArray[np.float64], n_times: int) -> npt.NDArray[np.float64]:
    """Return the inverse square root of the mean covariance of a signal's windows."""
    n_windows = signal.shape[1] // n_times
    windows = signal[:, : n_windows * n_times].reshape(len(signal), n_windows, n_times)
    windows = windows - windows.mean(-1, keepdims=True)
    mean = np.einsum("cwt,dwt->cd", windows, windows) / (n_windows * n_times)
    values, vectors = np.linalg.eigh(mean + SHRINK * np.trace(mean) / len(mean) * np.eye(len(mean)))
    whitened: npt.NDArray[np.float64] = vectors / np.sqrt(values) @ vectors.T
    return whitened


def align(store: stores.Store, folder: Path) -> None:
    """Write the aligned copy of a store."""
    root = json.loads(json.dumps(dict(store.settings)))
    unit = np.median([recording.signal().std() for recording in store])
    for recording in tqdm(store, unit="recording"):
        signal = recording.signal().astype(np.float64)
        if np.isnan(signal).any():
            raise SystemExit(f"{recording.recording}: signal is missing; alignment needs all of it")
        aligned = unit * whitener(signal, round(SECONDS * recording.sfreq)) @ signal
        names = (recording.attrs[part] for part in ("subject", "session", "run"))
        copy = stores.AlignedRecording(
            recording.recording,
            *names,
            recording.channels,
            recording.sfreq,
            aligned.astype(np.float32),
            np.stack([recording.array(f"segment_{which}") for which in ("onset", "length")], 1),
            recording.trials,
            {"bad": np.isin(recording.channels, recording.bad_channels)},
            facts={name: recording.attrs[name] for name in ("source",) if name in recording.attrs},
        )
        for file, content in stores.encode(copy, "float16", "settings").items():
            (folder / recording.recording / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / recording.recording / file).write_bytes(content)
    root["settings_digest"] = "settings"
    stores.write_root(stores.locate(folder), root)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", help="made by omfa-ingest")
    parser.add_argument("out", type=Path, help="the aligned copy")
    args = parser.parse_args()
    align(stores.open_store(args.store), args.out)


if __name__ == "__main__":
    main()
