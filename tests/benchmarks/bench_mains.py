"""How much of the mains does a signal path let through, and what does it cost of gamma?

Candidates for the default path, measured on real EEG as it is recorded and as the published corpora
release it. A sine at 50 Hz is added to recordings that are free of it, its amplitude drawn for each
channel as the simulator draws it (lognormal, sd 0.5 of the log), before the release's own path.
Printed are, as medians over windows of 4 s and channels, what is left of the sine in dB, how much
the band features move, and what the path takes from gamma of the recording as it was.

A notch chosen for each recording by its spectrum is judged by its decisions: on simulated corpora
that have no line, on real EEG, and whether recordings of one person are treated differently.

    python tests/benchmarks/bench_mains.py --eegmmidb FOLDER --eegmat FOLDER --ssvep FOLDER

The folders hold EDF files; only people before S037, 19 and S09 are read, for the others are held
out from every choice.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy
import torch

from omfa.models.front_end import FrontEnd
from omfa.pipeline import simulate
from omfa.pipeline.channels import UCS
from omfa.pipeline.preprocess import Preprocessing, preprocess
from omfa.pipeline.quality import assess
from omfa.pipeline.readers import get_reader
from omfa.pipeline.recording import Recording
from omfa.zoo.estimators.baselines import BANDS, differential_entropy

Floats = npt.NDArray[np.floating]

PATHS = {
    "0.5-45, MNE's transition (recipe 2)": Preprocessing(transition=None),
    "the same, notch 50": Preprocessing(transition=None, notch=(50,)),
    "0.5-40, MNE's transition": Preprocessing(band=(0.5, 40), transition=None),
    "0.5-45, transition 4 Hz": Preprocessing(),
}
RELEASES: dict[str, Preprocessing | None] = {
    "as recorded": None,
    "as SEED, 0-75 Hz, 200 Hz": Preprocessing(sfreq=200, band=(None, 75), transition=None),
    "as DEAP, 4-45 Hz, 128 Hz, average": Preprocessing(
        band=(4, 45), transition=None, reference="average"
    ),
    "as DREAMER, 128 Hz": Preprocessing(band=None),
}
SECONDS = 4
AMPLITUDES = (10.0, 20.0)


def of(recording: Recording, how: Preprocessing) -> Recording:
    """Send a recording through a path."""
    segments = [preprocess(s, recording.sfreq, how) for s in recording.segments]
    return replace(recording, segments=segments, sfreq=how.sfreq or recording.sfreq)


def add_line(recording: Recording, amplitude: float) -> Recording:
    """Add a 50 Hz sine, microvolts in a typical channel."""
    each = np.random.default_rng(0).lognormal(0, 0.5, len(recording.channels))
    segments = []
    for segment in recording.segments:
        sine = np.sin(2 * np.pi * 50 / recording.sfreq * np.arange(segment.shape[1]))
        segments.append((segment + amplitude * each[:, None] * sine).astype(np.float32))
    return replace(recording, segments=segments)


def windows(recording: Recording) -> Floats:
    """Cut (n_windows, n_chans, n_times)."""
    n = round(SECONDS * recording.sfreq)
    cut = [
        s[:, : s.shape[1] // n * n].reshape(len(s), -1, n).swapaxes(0, 1)
        for s in recording.segments
        if s.shape[1] >= n
    ]
    return np.concatenate(cut)


def entropies(X: Floats) -> Floats:
    """Measure differential entropy (n_windows, n_bands, n_chans), nats."""
    out = differential_entropy(X, np.ones(X.shape[:2], bool), 128.0)
    return out.reshape(len(X), len(BANDS), -1)


def side(X: Floats) -> Floats:
    """Measure the five log band powers that OMFA's front end gives (n_windows * n_chans, 5)."""
    rows = torch.from_numpy(np.ascontiguousarray(X.reshape(-1, X.shape[-1])))
    with torch.no_grad():
        return FrontEnd(128.0, "rate")(rows, None, None)[1][:, 1:6].numpy()


def within(X: Floats, low: float, high: float) -> Floats:
    """Measure power between two frequencies, Hann-tapered."""
    at, density = scipy.signal.periodogram(X, 128.0, "hann", axis=-1)
    return density[..., (at >= low) & (at < high)].sum(axis=-1)


def in_words(values: Floats) -> str:
    return " ".join(f"{v:+.3f}" for v in values)


def compare(recordings: list[Recording]) -> None:
    """Print a row for each path."""
    for release, how in RELEASES.items():
        ceiling = min(r.sfreq for r in recordings) / 2
        if how and how.band and how.band[1] and how.band[1] > ceiling - 0.5:
            continue
        print(f"  {release}")

        def released(amplitude: float, how: Preprocessing | None = how) -> Iterator[Recording]:
            for r in recordings:
                with_line = add_line(r, amplitude) if amplitude else r
                yield of(with_line, how) if how else with_line

        plain = list(released(0))
        lined = {amplitude: list(released(amplitude)) for amplitude in AMPLITUDES}
        base: list[float] = []
        for name, path in PATHS.items():
            clean = [windows(of(r, path)) for r in plain]
            power = [
                float(np.median(np.concatenate([within(X, 31, high).ravel() for X in clean])))
                for high in (45, 50)
            ]
            base = base or power
            loss = 10 * np.log10(np.divide(power, base))
            text = f"    {name:36s} 31-45 Hz {loss[0]:+5.2f} dB, 31-50 Hz {loss[1]:+5.2f} dB"
            for amplitude, many in lined.items():
                dirty = [windows(of(r, path)) for r in many]
                if amplitude == AMPLITUDES[0]:
                    left, put = [], []
                    for a, b, source, r in zip(clean, dirty, plain, many, strict=True):
                        left += np.std(b - a, axis=-1).mean(axis=0).tolist()
                        added = r.segments[0] - source.segments[0]
                        put += np.std(added, axis=-1).tolist()
                    ratio = 20 * np.log10(np.median(np.array(left) / np.array(put)))
                    text += f"; line {ratio:+.1f} dB"
                moved = [
                    np.median(np.abs(entropies(b) - entropies(a)), axis=(0, 2))
                    for a, b in zip(clean, dirty, strict=True)
                ]
                sides = [
                    np.median(side(b) - side(a), axis=0) for a, b in zip(clean, dirty, strict=True)
                ]
                text += (
                    f"\n      {amplitude:g} uV: DE moves by {in_words(np.median(moved, axis=0))} "
                    f"nats, side by {in_words(np.median(sides, axis=0))}"
                )
            print(text, flush=True)


def own_line(recordings: list[Recording]) -> None:
    """Print what the recordings' own mains are of gamma."""
    for name, path in PATHS.items():
        shares = []
        for recording in recordings:
            X = windows(of(recording, path))
            shares.append(np.median(within(X, 49, 51) / within(X, 31, 51)))
        print(
            f"    {name:36s} 49-51 Hz are {100 * np.median(shares):.3f} % of 31-51 Hz "
            f"(median recording), {100 * max(shares):.2f} % (worst)"
        )


def decisions(recordings: Iterable[Recording], limits: Floats) -> None:
    """Print which recordings each limit on the median channel's mains ratio would notch."""
    found = []
    for recording in recordings:
        names = UCS.canonicalize(recording.channels)
        q = assess(recording.segments, recording.sfreq, names, UCS.positions(names))
        found.append((person(recording), *line(q.line_ratio, q.line_frequency)))
    for limit in limits:
        at = defaultdict(int)
        people = defaultdict(set)
        for subject, ratio, mains in found:
            chosen = mains if ratio > limit else 0
            at[chosen] += 1
            people[subject].add(chosen)
        mixed = sum(len(chosen) > 1 for chosen in people.values())
        print(
            f"    limit {limit:g}: {at[50]} notched at 50 Hz, {at[60]} at 60 Hz, {at[0]} not; "
            f"{mixed} of {len(people)} people have recordings of both kinds"
        )


def person(recording: Recording) -> str:
    """Return the number in the file's name, or the subject of a corpus."""
    number = re.search(r"(\d+)", Path(recording.key.files[0]).name)
    return number[1] if number else recording.key.subject


def line(ratio: Floats, mains: Floats) -> tuple[float, float]:
    """Return the median channel's mains ratio and the frequency that most channels have."""
    if not np.isfinite(ratio).any():
        return 0.0, 0.0
    return float(np.nanmedian(ratio)), float(50 if np.nanmean(mains == 50) >= 0.5 else 60)


def read(root: Path, last: int, *, most: int | None = None) -> list[Recording]:
    """Read the recordings of the people up to a number, at most ``most`` of each."""
    reader, count, out = get_reader("files"), defaultdict(int), []
    for key in sorted(reader.discover(root)):
        number = re.search(r"(\d+)", Path(key.files[0]).name)
        if number is None or int(number[1]) > last:
            continue
        count[number[1]] += 1
        if most is None or count[number[1]] <= most:
            out.append(reader.read(key))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("eegmmidb", "eegmat", "ssvep"):
        parser.add_argument(f"--{name}", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    limits = np.array([3.0, 5.0, 10.0, 20.0])
    for source, size in (
        ("deap", {"subjects": 8, "seconds": 20}),
        ("dreamer", {"subjects": 12, "seconds": 20}),
        ("seed", {"subjects": 3, "sessions": 2, "seconds": 20}),
    ):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "raw"
            simulate(source, root, bad_channels=0, seed=0, progress=False, **size)
            reader = get_reader(source)
            print(f"simulated {source}: a notch chosen by recording")
            decisions((reader.read(key) for key in sorted(reader.discover(root))), limits)
    for name, last in (("eegmmidb", 36), ("eegmat", 18), ("ssvep", 8)):
        root = getattr(args, name)
        if root is None:
            continue
        print(f"{name}: a notch chosen by recording")
        all_ = read(root, last)
        decisions(all_, limits)
        print(f"{name}: own mains")
        some = read(root, last, most=1)
        own_line(some)
        print(f"{name}: 50 Hz added")
        compare(some)


if __name__ == "__main__":
    main()
