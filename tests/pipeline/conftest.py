"""A source small enough to ingest in milliseconds, and trees that several tests share."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
import numpy as np
import pandas as pd
import pytest

from omfa.pipeline import DataError, Key, Recording, simulate

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a conftest

CHANNELS = ("Fp1", "Fp2", "F3", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4", "O1", "O2")


@dataclass(frozen=True)
class TinyReader:
    """Reads ``NN.npz``: ``signal`` in microvolts, ``sfreq``, ``names``."""

    name: str = "tiny"

    def discover(self, root: str | Path) -> Sequence[Key]:
        files = sorted(Path(root).glob("*.npz"))
        if not files:
            raise DataError("Tiny reader", f"there is no .npz in {root}", "Make some")
        return [Key(subject=file.stem, files=(file.name,), root=str(root)) for file in files]

    def read(self, key: Key) -> Recording:
        with np.load(key.paths[0]) as file:
            signal, sfreq, names = file["signal"], float(file["sfreq"]), file["names"].tolist()
        half = signal.shape[1] // 2
        columns = ["segment", "onset", "length", "baseline_onset", "baseline_length", "stimulus"]
        rows = [[0, 50, half - 50, 0, 50, "clip 1"], [0, half, half, 0, 0, "clip 2"]]
        trials = pd.DataFrame(rows, columns=columns).assign(valence=[1.5, 9.0], emotion=[-1, 1])
        return Recording(key, names, sfreq, [signal.astype(np.float32)], trials)


def write_tiny(path, *, seed, channels=CHANNELS, seconds=20, sfreq=200.0, scale=20.0):
    """Write one recording of correlated noise."""
    rng = np.random.default_rng(seed)
    n = int(seconds * sfreq)
    shared = np.cumsum(rng.standard_normal(n)) / np.sqrt(sfreq)
    signal = scale * (rng.standard_normal((len(channels), n)) + shared)
    np.savez(path, signal=signal, sfreq=sfreq, names=np.array(channels))


@pytest.fixture
def reader():
    return TinyReader()


@pytest.fixture
def tiny_file():
    return write_tiny


@pytest.fixture
def tree(tmp_path):
    """Three recordings of the tiny source."""
    root = tmp_path / "raw"
    root.mkdir()
    for i in range(3):
        write_tiny(root / f"{i:02d}.npz", seed=i)
    return root


@pytest.fixture(scope="session")
def seed_tree(tmp_path_factory):
    """Six recordings of simulated SEED, with trials of four seconds."""
    root = tmp_path_factory.mktemp("seed") / "SEED"
    simulate("seed", root, subjects=2, sessions=3, seconds=4, progress=False)
    return root


@pytest.fixture
def bytes_of():
    """Everything below a folder, by relative name."""

    def read(folder):
        root = Path(folder)
        return {
            p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()
        }

    return read


@pytest.fixture
def told():
    """Check that an error has three parts and says these words."""

    def check(caught, *words):
        assert len(caught.value.args) == 3
        assert all(caught.value.args)
        for word in words:
            assert word in str(caught.value), str(caught.value)

    return check
