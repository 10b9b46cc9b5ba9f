"""A stored recording, and how to read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from omfa.pipeline.location import locate
from omfa.pipeline.store import StoredRecording

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """A stored recording, and what is needed to read it without asking again.

    Attributes
    ----------
    address, options, recording
        Where it lies.
    digest : str
        Of its metadata, the signal's checksum included.
    dtype : str
        Of the stored signal.
    sfreq : float
        Hz.
    channels, bad_channels : tuple of str
    n_times : int
    simulated : bool
        Whether ingest found that the signals are.
    """

    address: str
    options: tuple[tuple[str, Any], ...] = field(repr=False)
    recording: str
    digest: str
    dtype: str
    sfreq: float
    channels: tuple[str, ...]
    bad_channels: tuple[str, ...]
    n_times: int
    simulated: bool = False

    @property
    def n_samples(self) -> int:
        """Samples of all channels."""
        return len(self.channels) * self.n_times

    @property
    def nbytes(self) -> int:
        """Decoded size."""
        return self.n_samples * np.dtype(self.dtype).itemsize

    def read(self, start: int = 0, stop: int | None = None) -> npt.NDArray[np.floating]:
        """Decode from the store, shape (n_chans, n_times)."""
        location = locate(self.address, dict(self.options))
        return StoredRecording(location, self.recording).signal(start, stop)


def has_gaps(signal: npt.NDArray[np.floating]) -> bool:
    """Return whether a sample is missing: NaN, or infinite."""
    # NaN and infinity have every bit of the exponent set. NumPy's isfinite of float16 is slow.
    top = {2: 0x7C00, 4: 0x7F800000, 8: 0x7FF0000000000000}[signal.itemsize]
    bits = signal.view(f"u{signal.itemsize}")
    return any(bool((row & top).max(initial=0) == top) for row in bits)
