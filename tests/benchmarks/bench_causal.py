"""What does a path that knows no future change, against the zero-phase path of stores?

    python tests/benchmarks/bench_causal.py --eegmmidb FOLDER

On real EEG (runs 4 of development people of EEGMMIDB, EDF): the cosine between an encoder's
embeddings of a window on either path, beside two that give it a scale, the stored path 16 ms later
and another window of the same channel; and how far a path that has just begun is from one that has
run for long, by the time since its begin. On simulated DREAMER: the accuracy of probes that learned
on the stored path, tested on people that they did not see, on either path.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import pairwise
from pathlib import Path

import mne
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from omfa.pipeline import simulate
from omfa.pipeline.causal import CausalPath
from omfa.pipeline.preprocess import Preprocessing, preprocess
from omfa.pipeline.readers import get_reader
from omfa.zoo import load
from omfa.zoo.estimators.baselines import differential_entropy

SETTINGS = Preprocessing()
WINDOW = 512
LATER = 2
"""Samples, 16 ms."""


def both(x: np.ndarray, sfreq: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a signal on the stored and on the causal path."""
    path = CausalPath(SETTINGS, sfreq, [f"E{i}" for i in range(len(x))])
    return preprocess(x.astype(np.float32), sfreq, SETTINGS), path.push(x)


def embed(model: torch.nn.Module, windows: np.ndarray) -> np.ndarray:
    """Return (n, n_chans, dim) of windows (n, n_chans, n_times)."""
    found = []
    with torch.inference_mode():
        for block in np.array_split(windows, max(1, len(windows) // 16)):
            rows = torch.from_numpy(np.ascontiguousarray(block)).flatten(0, 1)
            found.append(model.encoder(rows, 128.0).h.numpy().reshape(*block.shape[:2], -1))
    return np.concatenate(found)


def cut(signal: np.ndarray, starts: np.ndarray) -> np.ndarray:
    return np.stack([signal[:, start : start + WINDOW] for start in starts])


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def real(folder: Path, people: int, checkpoints: list[str]) -> None:
    """Print cosines, and the error of a path that has just begun."""
    signals = []
    for person in range(1, people + 1):
        raw = mne.io.read_raw_edf(
            folder / f"S{person:03d}/S{person:03d}R04.edf", preload=True, verbose="ERROR"
        )
        signals.append((1e6 * raw.get_data(), raw.info["sfreq"]))
    pairs = [both(*each) for each in signals]
    for name in checkpoints:
        model = load(name, n_outputs=2, n_chans=1, sfreq=128.0)
        found = []
        for stored, causal in pairs:
            starts = np.arange(WINDOW * 2, stored.shape[1] - WINDOW - LATER, WINDOW)
            a, b = (embed(model, cut(each, starts)) for each in (stored, causal))
            shifted = embed(model, cut(stored, starts + LATER))
            delayed = embed(model, cut(causal, starts + LATER))
            found.append(
                [
                    np.median(cosine(a, other))
                    for other in (b, delayed, shifted, np.roll(a, 1, axis=0))
                ]
            )
        medians = np.median(found, axis=0)
        print(
            f"{name}: causal {medians[0]:.3f}, causal 16 ms later {medians[1]:.3f}, stored 16 ms "
            f"later {medians[2]:.3f}, another window {medians[3]:.3f}",
            flush=True,
        )
    bounds = [0, 0.25, 0.5, 1, 2, 4, 6.6]
    errors = []
    for (x, sfreq), (_, warm) in zip(signals, pairs, strict=True):
        for begin in (20, 40, 60, 80):  # s
            cold = both(x[:, round(begin * sfreq) : round((begin + 8) * sfreq)], sfreq)[1]
            part = warm[:, begin * 128 : begin * 128 + cold.shape[1]]
            edges = [round(128 * bound) for bound in bounds]
            errors.append(
                [
                    np.sqrt(np.mean((cold - part)[:, a:b] ** 2) / np.mean(part**2))
                    for a, b in pairwise(edges)
                ]
            )
    print("s since its begin", bounds, np.round(100 * np.median(errors, axis=0), 1), "%")


def simulated(people: int, effect: float, checkpoints: list[str]) -> None:
    """Print balanced accuracies of probes on either path."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "dreamer"
        simulate("dreamer", root, subjects=people, seconds=40, effect=effect, progress=False)
        reader = get_reader("dreamer")
        windows, labels, persons = ([], []), [], []
        for key in reader.discover(root):
            recording = reader.read(key)
            at, ratings = {}, recording.trials["valence"].to_numpy(float)
            for i, trial in recording.trials.iterrows():
                segment = int(trial["segment"])
                if segment not in at:
                    at[segment] = both(np.asarray(recording.segments[segment]), recording.sfreq)
                onset = int(trial["onset"])  # the rate is 128 Hz already
                # After the first window, in which the path of a cut trial has just begun.
                starts = np.arange(onset + WINDOW, onset + int(trial["length"]) - WINDOW, WINDOW)
                if not len(starts):
                    continue
                pair = [cut(signal, starts) for signal in at[segment]]
                # One clip of DREAMER has missing samples.
                whole = np.all([np.isfinite(each).all(axis=(1, 2)) for each in pair], axis=0)
                starts = starts[whole]
                for kept, each in zip(windows, pair, strict=True):
                    kept.append(each[whole])
                labels += [int(ratings[i] > 3)] * len(starts)
                persons += [key.subject] * len(starts)
    stored, causal = (np.concatenate(kept) for kept in windows)
    y, who = np.array(labels), np.array(persons)
    print(f"simulated DREAMER, {people} people, effect {effect}: {len(y)} windows", flush=True)
    makers = {
        "differential entropy": lambda x: differential_entropy(x, np.ones(x.shape[:2], bool), 128.0)
    }
    for name in checkpoints:
        model = load(name, n_outputs=2, n_chans=1, sfreq=128.0)
        makers[name] = lambda x, model=model: embed(model, x)
    for name, make in makers.items():
        features = [make(x).reshape(len(y), -1) for x in (stored, causal)]
        scores = []
        for test in np.array_split(np.unique(who), 4):
            side = np.isin(who, test)
            probe = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=500))
            probe.fit(features[0][~side], y[~side])
            scores.append(
                [balanced_accuracy_score(y[side], probe.predict(x[side])) for x in features]
                + [np.mean(probe.predict(features[0][side]) == probe.predict(features[1][side]))]
            )
        mean = np.mean(scores, axis=0)
        print(
            f"  {name}: stored {mean[0]:.3f}, causal {mean[1]:.3f}, same answer {mean[2]:.3f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eegmmidb", type=Path)
    parser.add_argument("--people", type=int, default=8, help="of EEGMMIDB, from S001")
    parser.add_argument("--simulated-people", type=int, default=12)
    parser.add_argument("--effect", type=float, default=0.5)
    parser.add_argument(
        "--checkpoints", nargs="+", default=["omfa-tiny-openeeg", "omfa-small-openeeg"]
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.eegmmidb:
        real(args.eegmmidb, args.people, args.checkpoints)
    simulated(args.simulated_people, args.effect, args.checkpoints[:1])


if __name__ == "__main__":
    main()
