"""How often does quality control call a clean channel bad?

Simulated corpora without bad channels, each source and variant; with ``--real FOLDER`` also EDF
recordings below a folder, of which nobody knows which channels are clean. Printed are channels,
alarms by reason, and for each limit the largest figure that a channel came to, so that a limit can
be set with room.

    python tests/benchmarks/bench_quality.py
    python tests/benchmarks/bench_quality.py --real eegmmidb --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from omfa.pipeline import simulate
from omfa.pipeline.channels import UCS
from omfa.pipeline.preprocess import Preprocessing, preprocess
from omfa.pipeline.quality import Quality, QualityRules, assess
from omfa.pipeline.readers import get_reader
from omfa.pipeline.recording import Recording
from omfa.pipeline.simulation.corpora.deap import DEAP_GENEVA as DEAP

EMOTIV = ["AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4"]
RULES = QualityRules()

SOURCES = {
    "deap": {"subjects": 8, "seconds": 20},
    "dreamer": {"subjects": 12, "seconds": 20},
    "seed": {"subjects": 3, "sessions": 2, "seconds": 20},
    "seed-iv": {"subjects": 2, "seconds": 12},
    "seed-v": {"subjects": 2, "seconds": 12},
    "seed-vii": {"subjects": 1, "seconds": 12},
    "faced": {"subjects": 8, "seconds": 12},
    "mahnob-hci": {"subjects": 6, "seconds": 12},
    "amigos": {"subjects": 8, "seconds": 12},
    "eav": {"subjects": 1, "seconds": 8},
    "thu-ep": {"subjects": 1, "seconds": 12},
}
"""How much of each is simulated: trials are short, since the limits judge a person's channels."""


def judge(recordings: Iterable[Recording], what: str) -> None:
    """Print the alarms of recordings."""
    n_chans = n_recordings = 0
    reasons: Counter[str] = Counter()
    channels: Counter[str] = Counter()
    worst: dict[str, list[float]] = {}
    for recording in recordings:
        names = UCS.canonicalize(recording.channels)
        found = assess(recording.segments, recording.sfreq, names, UCS.positions(names))
        n_recordings, n_chans = n_recordings + 1, n_chans + len(names)
        for name, why in zip(names, found.reasons, strict=True):
            reasons.update(why)
            channels.update([name] if why else [])
        for figure, value in extremes(found).items():
            worst.setdefault(figure, []).append(value)
    bad = sum(channels.values())
    print(
        f"{what}: {n_recordings} recordings, {n_chans} channels, {bad} called bad "
        f"({100 * bad / max(n_chans, 1):.2f} %): {dict(reasons)} {dict(channels.most_common(6))}"
    )
    for figure, values in worst.items():
        low = figure == "neighbour_correlation"
        at = np.nanquantile(values, [0.5, 0.05, 0.0] if low else [0.5, 0.95, 1.0])
        print(
            f"    {figure}: of recordings' worst the median {at[0]:.3g}, {at[1]:.3g}, {at[2]:.3g}"
        )


def extremes(found: Quality) -> dict[str, float]:
    """Return the figures nearest to their limits, of one recording."""
    both = [  # what must pass two limits at once: the channel's lesser share of the two
        np.nanmax(np.minimum(value / limit, value / np.nanmedian(value) / excess))
        for value, limit, excess in (
            (found.line_ratio, RULES.line_ratio, RULES.line_excess),
            (found.high_frequency_ratio, RULES.high_frequency_ratio, RULES.high_frequency_excess),
        )
        if np.isfinite(value).any()
    ]
    names = ("line, of its limits", "high frequency, of its limits")
    return {
        "flat": float(found.flat.max()),
        "clipped": float(found.clipped.max()),
        "variance_z": float(np.nanmax(np.abs(found.variance_z))),
        "high_frequency_ratio": float(np.nanmax(found.high_frequency_ratio)),
        **dict(zip(names, map(float, both), strict=False)),
        "neighbour_correlation": float(np.nanmin(found.neighbour_correlation)),
    }


def read_all(source: str, root: Path) -> Iterator[Recording]:
    """Yield all recordings of a folder."""
    reader = get_reader(source)
    for key in sorted(reader.discover(root)):
        yield reader.read(key)


def as_emotiv(recording: Recording) -> Recording:
    """Leave a headset's 14 channels, with its offset of 4.2 mV."""
    rows = [UCS.canonicalize(recording.channels).index(name) for name in EMOTIV]
    segments = [segment[rows] + np.float32(4200) for segment in recording.segments]
    return replace(recording, channels=list(EMOTIV), segments=segments)


def as_deap(recording: Recording) -> Recording:
    """Leave DEAP's 32 channels, prepared as its release is: average reference, 4-45 Hz, 128 Hz."""
    rows = [UCS.canonicalize(recording.channels).index(name) for name in DEAP]
    how = Preprocessing(sfreq=128, band=(4, 45), reference="average")
    segments = [preprocess(s[rows], recording.sfreq, how) for s in recording.segments]
    return replace(recording, channels=list(DEAP), segments=segments, sfreq=128.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, nargs="*", default=[])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--sources", nargs="*", choices=SOURCES, default=list(SOURCES))
    args = parser.parse_args()
    for seed in args.seeds:
        for source in args.sources:
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder) / "raw"
                simulate(source, root, bad_channels=0, seed=seed, progress=False, **SOURCES[source])
                judge(read_all(source, root), f"simulated {source}, seed {seed}")
    for root in args.real:
        judge(read_all("files", root), str(root))
        if set(DEAP) <= set(UCS.canonicalize(next(read_all("files", root)).channels)):
            judge(map(as_emotiv, read_all("files", root)), f"{root}, Emotiv's channels")
            judge(map(as_deap, read_all("files", root)), f"{root}, as DEAP")


if __name__ == "__main__":
    main()
