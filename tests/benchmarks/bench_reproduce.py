"""What all tables of the paper cost on this machine: stores of real size, planned and timed.

``python tests/benchmarks/bench_reproduce.py FOLDER [--device cuda] [options of reproduce]``

Lays stores of SEED (45 sessions), DEAP (32 people) and DREAMER (23 people) in FOLDER, with the
corpora's trials, channels and labels, at 128 Hz, in float16, as ``omfa-ingest`` makes them by
default. The signals are noise, since only their size matters. Then ``omfa-zoo reproduce --dry-run``
plans the tables, and with ``--timed`` measures a few steps of each kind of work.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from omfa.pipeline import store as stores
from omfa.pipeline.channels import UCS, UCS_VERSION
from omfa.pipeline.encoding import FORMAT
from omfa.pipeline.metadata import write_root
from omfa.pipeline.readers.corpora import deap, dreamer, seed
from omfa.pipeline.simulation.corpora.dreamer import DREAMER_SECONDS
from omfa.pipeline.simulation.corpora.seed import SEED_LABELS, SEED_SECONDS

SFREQ = 128
MARGIN = 5 * SFREQ
"""Samples around a trial, so that it is not the whole of a recording."""


@dataclass(frozen=True)
class Corpus:
    """What a corpus has of everything."""

    name: str
    subjects: int
    sessions: int
    channels: tuple[str, ...]
    seconds: tuple[int, ...]
    label: str
    values: tuple[int, ...]


CORPORA = (
    Corpus("seed", 15, 3, tuple(seed.CHANNELS), SEED_SECONDS, "emotion", SEED_LABELS),
    Corpus("deap", 32, 1, tuple(deap.CHANNELS), (60,) * 40, "valence", (2, 8) * 20),
    Corpus("dreamer", 23, 1, tuple(dreamer.CHANNELS), DREAMER_SECONDS, "valence", (2, 5) * 9),
)


def lay(corpus: Corpus, folder: Path, subject: int) -> None:
    """Write the recordings of a person."""
    channels = UCS.in_order(UCS.canonicalize(corpus.channels))
    lengths = SFREQ * np.array(corpus.seconds)
    onsets = MARGIN + np.r_[0, np.cumsum(lengths + MARGIN)[:-1]]
    trials = pd.DataFrame({"onset": onsets, "length": lengths})
    trials = trials.assign(baseline_onset=0, baseline_length=0)
    trials["stimulus"] = [str(i + 1) for i in range(len(trials))]
    trials[corpus.label] = corpus.values
    n_times = int(onsets[-1] + lengths[-1] + MARGIN)
    for session in range(1, corpus.sessions + 1):
        rng = np.random.default_rng([subject, session])
        signal = 20 * rng.standard_normal((len(channels), n_times), dtype=np.float32)
        names = f"{subject:02d}", f"{session}", "1"
        name = "sub-{}_ses-{}_run-{}".format(*names)
        recording = stores.AlignedRecording(
            *(name, *names, channels, float(SFREQ), signal, np.array([[0, n_times]]), trials),
            {"bad": np.zeros(len(channels), dtype=bool)},
            facts={"source": {"simulated": True}},
        )
        for file, content in stores.encode(recording, "float16", "settings").items():
            (folder / name / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / name / file).write_bytes(content)


def lay_all(folder: Path, workers: int) -> Iterator[Path]:
    """Lay the stores that are not there."""
    with ProcessPoolExecutor(workers) as pool:
        for corpus in CORPORA:
            store = folder / f"{corpus.name}.zarr"
            yield store
            if (store / "zarr.json").exists():
                continue
            people = range(1, corpus.subjects + 1)
            list(pool.map(lay, [corpus] * len(people), [store] * len(people), people))
            settings = {
                "format": FORMAT,
                "ucs_version": UCS_VERSION,
                "settings_digest": "settings",
                "source": corpus.name,
                "channels": {"cerebellar": "PO9/PO10", "aliases": {}},
                "preprocessing": {"band": [0.5, 45.0], "reference": "source"},
            }
            write_root(stores.locate(store), settings)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of the stores, 4 GB")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args, more = parser.parse_known_args()
    began = time.monotonic()
    found = [str(store) for store in lay_all(args.folder, args.workers)]
    print(f"{len(found)} stores laid in {time.monotonic() - began:.0f} s", flush=True)
    command = [sys.executable, "-m", "omfa.zoo.cli", "reproduce", "--stores", *found, "--out"]
    command += [str(args.folder / "paper"), "--device", args.device, *more, "--dry-run"]
    for timed in ([], ["--timed"]):
        began = time.monotonic()
        print(f"\n$ omfa-zoo {' '.join([*command[3:], *timed])}", flush=True)
        subprocess.run([*command, *timed], check=True)
        print(f"({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
