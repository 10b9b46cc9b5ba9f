"""CPU time of the signal path and the quality figures, as ratios within one run.

Run: ``python tests/benchmarks/bench_preprocess.py [--trials 15]``. The signals are simulated at
the sizes of one SEED session (62 channels, 678,815 samples at 200 Hz in 15 trials) and one DEAP
subject (40 trials of 32 channels by 8064 samples at 128 Hz). Times are CPU seconds of the whole
process, the least of three; libraries that start threads are charged for all of them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mne
import numpy as np
from scipy import io, signal

from omfa.pipeline.channels import UCS
from omfa.pipeline.preprocess import Preprocessing, preprocess
from omfa.pipeline.quality import assess, spectrum

SEED_SECONDS = (235, 233, 206, 238, 185, 195, 237, 216, 265, 237, 235, 233, 235, 238, 206)
SETTINGS = Preprocessing()


def cpu(work: Callable[[], object], repeats: int = 3) -> float:
    """Return the least CPU time of some runs in seconds."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def eeg(rng: np.random.Generator, n_chans: int, n_times: int) -> np.ndarray:
    """Simulate drifting noise in whole steps of a 24-bit amplifier, float64 microvolts."""
    walk = rng.standard_normal((n_chans, n_times)).cumsum(axis=1) + 10 * rng.standard_normal()
    return np.round(walk / 0.0298) * 0.0298


def by_scipy(trial: np.ndarray) -> np.ndarray:
    """Filter forwards and backwards and resample, in float64."""
    sos = signal.butter(4, SETTINGS.band, "bandpass", fs=200, output="sos")
    return signal.resample_poly(signal.sosfiltfilt(sos, trial), 16, 25, axis=1)


def by_mne(trial: np.ndarray) -> np.ndarray:
    """Filter and resample by MNE's own FIR filters, in float64."""
    info = mne.create_info(len(trial), 200.0, "eeg")
    raw = mne.io.RawArray(trial * 1e-6, info, verbose="ERROR")
    raw.filter(*SETTINGS.band, verbose="ERROR")
    return raw.resample(128, method="polyphase", verbose="ERROR").get_data()


def load(trials: list[np.ndarray]) -> float:
    """Return the CPU time of reading the trials back from a compressed ``.mat`` file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "session.mat"
        names = {f"eeg{i + 1}": trial for i, trial in enumerate(trials)}
        io.savemat(path, names, do_compression=True)
        return cpu(lambda: io.loadmat(path))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=15, help="trials of the SEED session")
    rng = np.random.default_rng(0)
    n_trials = parser.parse_args().trials
    trials = [eeg(rng, 62, 200 * seconds + 1) for seconds in SEED_SECONDS[:n_trials]]
    single = [trial.astype(np.float32) for trial in trials]
    clips = eeg(rng, 32, 40 * 8064).reshape(32, 40, 8064).transpose(1, 0, 2)
    where = UCS.positions(UCS.names[:62])
    after = [preprocess(trial, 200, SETTINGS) for trial in single]

    ours = cpu(lambda: [preprocess(trial, 200, SETTINGS) for trial in single])
    rows = {
        "preprocess, float32 in": ours,
        "preprocess, float64 in": cpu(lambda: [preprocess(t, 200, SETTINGS) for t in trials]),
        "quality figures": cpu(lambda: assess(single, 200.0, UCS.names[:62], where)),
        "spectra after": cpu(lambda: spectrum(after, 128.0)),
        "scipy: sosfiltfilt + resample_poly": cpu(lambda: [by_scipy(t) for t in trials], 1),
        "MNE: filter + resample": cpu(lambda: [by_mne(t) for t in trials], 1),
        "scipy.io.loadmat of the session": load(trials),
    }
    print(f"SEED session, {n_trials} trials x 62 channels, 200 -> 128 Hz, 0.5-45 Hz")
    for name, seconds in rows.items():
        print(f"  {name:36s} {seconds:7.2f} CPU s  {seconds / ours:6.2f} x preprocess")
    deap = cpu(lambda: [preprocess(clip, 128, SETTINGS) for clip in clips])
    print(f"DEAP subject, 40 trials x 32 channels, 128 Hz: {deap:.2f} CPU s")


if __name__ == "__main__":
    main()
