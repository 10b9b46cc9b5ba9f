"""What a stream's timestamps say: samples that were lost, and how fast its clock runs.

A sample is lost where two timestamps are further apart than the rate has it. Only steps count, not
the time since the start, so that a clock that runs a little fast or slow loses nothing. A packet
that is merely late makes such a step too, but the next ones make it good by steps that are too
short; samples that were lost never do. So steps up to twice the largest recent step back are taken
for lateness.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LEAST_GAP = 0.004
"""Seconds. A clock's correction over the network moves by about 1 ms, a packet lasts longer."""

FORGETS = 0.98
"""What stays of the largest step back with each block. Our choice: half after 34 blocks."""

DRIFT = 0.01
"""Share by which the rate may be off before that is said: 45 Hz would be read as 45.5 Hz."""

RATE_SECONDS = 10.0
"""How long a rate is measured before it is judged: a packet of 0.1 s is then 1 % of it."""


class Clock:
    """Puts missing samples where a stream lost some.

    Parameters
    ----------
    sfreq : float
        The stream's nominal rate, Hz.
    longest : float
        Seconds of missing samples to put in at most; a longer gap leaves nothing of what was
        before in any window.
    """

    def __init__(self, sfreq: float, longest: float) -> None:
        self.sfreq = sfreq
        self.lost = 0.0
        """Seconds lost so far."""
        self._longest = longest
        self._first = self._last = np.nan
        self._n = 0
        self._back = 0.0

    @property
    def rate(self) -> float:
        """The rate that the timestamps show, Hz; the nominal one until there is enough."""
        lasted = self._last - self._first - self.lost
        return (self._n - 1) / lasted if lasted >= RATE_SECONDS else self.sfreq

    @property
    def drifts(self) -> bool:
        """Whether the rate is further from the nominal one than ``DRIFT``."""
        return abs(self.rate / self.sfreq - 1) > DRIFT

    def fill(
        self, samples: npt.NDArray[np.floating], times: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.float64]]:
        """Take a block and return it with NaN where samples were lost before or within it.

        Parameters
        ----------
        samples : ndarray, shape (n_chans, n_times)
        times : ndarray, shape (n_times,)
            Timestamps in seconds.
        """
        if not len(times):
            return samples, times
        if self._n == 0:
            self._first, self._last = times[0], times[0] - 1 / self.sfreq
        excess = times - np.concatenate([[self._last], times[:-1]]) - 1 / self.sfreq
        self._n, self._last = self._n + len(times), times[-1]
        self._back = max(FORGETS * self._back, -float(excess.min()))
        at = np.flatnonzero(excess > max(LEAST_GAP, 0.5 / self.sfreq, 2 * self._back))
        if not len(at):
            return samples, times
        self.lost += float(excess[at].sum())
        count = np.rint(np.minimum(excess[at], self._longest) * self.sfreq).astype(int)
        where = np.repeat(at, count)
        # Counted back from the sample after the gap, whose time is known.
        steps = np.concatenate([np.arange(n, 0, -1) for n in count]) / self.sfreq
        return (
            np.insert(samples.astype(np.float64), where, np.nan, axis=1),
            np.insert(times, where, times[where] - steps),
        )
