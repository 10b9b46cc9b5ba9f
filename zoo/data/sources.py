"""A recording in a store as the tiers know it: where it lies, and what shape its signal has.

A ``Source`` is read from the metadata of the store once. Threads and worker processes then decode
signals with it alone, without listing the store again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from omfa.pipeline.location import locate
from omfa.pipeline.signal_path import SignalPath
from omfa.pipeline.store import StoredRecording
from omfa.zoo.protocols.identity import Recorded

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """A stored recording, with all that is needed to decode its signal.

    Attributes
    ----------
    address : str
        Path or URL of the store.
    options : tuple of (str, value)
        What fsspec's file system takes for the address; hashable, and left out of ``repr``, since
        it may hold credentials.
    recording : str
        The name of the recording in the store.
    digest : str
        Digest of the recording's metadata, which holds the checksum of the signal.
    dtype : str
        Type of the stored signal: ``"float16"`` or ``"float32"``.
    sfreq : float
        Hz.
    channels : tuple of str
        UCS names of the signal's rows.
    bad_channels : tuple of str
        The channels that quality control marked.
    n_times : int
        Samples of each channel.
    recorded : Recorded
        Its names and digests, by which it is known again under another name.
    path : SignalPath
        What was done to the signal, at its source and at ingest.
    simulated : bool
        Whether the signal is simulated, as ingest recorded.
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
    recorded: Recorded
    path: SignalPath
    simulated: bool = False

    @property
    def n_samples(self) -> int:
        """Samples of all channels together."""
        return len(self.channels) * self.n_times

    @property
    def nbytes(self) -> int:
        """Bytes of the decoded signal in its stored type."""
        return self.n_samples * np.dtype(self.dtype).itemsize

    def read(self, start: int = 0, stop: int | None = None) -> npt.NDArray[np.floating]:
        """Decode the signal, or a part of it, from the store.

        Parameters
        ----------
        start, stop : int
            Samples from the start of the recording; by default all.

        Returns
        -------
        ndarray of ``dtype``, shape (n_chans, stop - start)
            Microvolts; NaN where a sample is missing.
        """
        location = locate(self.address, dict(self.options))
        return StoredRecording(location, self.recording).stored_signal(start, stop)


def has_gaps(signal: npt.NDArray[np.floating]) -> bool:
    """Return whether a sample of a signal, shape (n_chans, n_times), is NaN or infinite."""
    # NaN and infinity have every bit of the exponent set. NumPy's isfinite of float16 is slow, as
    # it converts every sample.
    top = {2: 0x7C00, 4: 0x7F800000, 8: 0x7FF0000000000000}[signal.itemsize]
    bits = signal.view(f"u{signal.itemsize}")
    return any(bool((row & top).max(initial=0) == top) for row in bits)
