"""The last window of a signal."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class Ring:
    """The newest samples of a signal, always in one piece.

    Each sample is written twice, a window apart, so that the window is a slice and never a copy.

    Parameters
    ----------
    n_chans, n_times : int
        Shape of the window.
    """

    def __init__(self, n_chans: int, n_times: int) -> None:
        self._twice = np.full((n_chans, 2 * n_times), np.nan, np.float32)
        self._n_times = n_times
        self._at = 0

    def add(self, samples: npt.NDArray[np.float32]) -> None:
        """Take samples, (n_chans, n) with n up to the window's, in place of the oldest."""
        n, length = samples.shape[1], self._n_times
        first = min(n, length - self._at)
        for part, start in ((samples[:, :first], self._at), (samples[:, first:], 0)):
            stop = start + part.shape[1]
            self._twice[:, start:stop] = part
            self._twice[:, start + length : stop + length] = part
        self._at = (self._at + n) % length

    @property
    def window(self) -> npt.NDArray[np.float32]:
        """The window (n_chans, n_times), the newest sample last; a view, NaN before the first."""
        return self._twice[:, self._at : self._at + self._n_times]
