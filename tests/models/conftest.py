import mne
import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def _same_numbers():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def montage_info():
    """Real MNE channel infos: NaN in the orientation part of loc, FIFF's named ints for kinds."""

    def build(names, sfreq=250.0):
        info = mne.create_info(list(names), sfreq, "eeg")
        return info.set_montage("colin27_1005")

    return build


@pytest.fixture(scope="session")
def tones():
    """The same 60 tones of 1-45 Hz per row, sampled at any rate: (rows, n_times) microvolts."""

    def build(n_times, sfreq, *, seed=0, rows=6):
        rng = np.random.default_rng(seed)
        freqs = rng.uniform(1, 45, (rows, 60, 1))
        phases = rng.uniform(0, 2 * np.pi, (rows, 60, 1))
        size = rng.uniform(0.5, 4, (rows, 60, 1)) / np.sqrt(freqs)
        time = np.arange(n_times) / sfreq
        wave = (size * np.sin(2 * np.pi * freqs * time + phases)).sum(1)
        return torch.tensor(5 * wave, dtype=torch.float32)

    return build
