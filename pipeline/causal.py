"""The signal path for signals that are still being recorded: block by block, from the past alone.

Method. A store's filters have no phase, since they weigh what comes after a sample as much as what
came before. Here each kernel of ``preprocess`` is replaced by the minimum-phase kernel of the same
length and gain: of all causal filters with that gain it answers first [1]_. Its logarithmic gain
decides its phase, by folding the real cepstrum [1]_. So band, transition and notch are those of a
store, to 0.01 dB down to 1 % of gain; what differs is the phase, a delay of some 20 ms in the
middle of the band and of 0.1 s at its edges.

A change of rate is part of the kernel, which is designed at the least common multiple of the two
rates: each sample of the result has the taps of its own phase (polyphase filtering). It is made as
soon as the last sample that it stands on has come, and is the same however the signal is cut into
blocks.

A channel that begins, or comes back after missing samples, begins anew: as if it had always had the
value of its first sample. Nothing else is known of what came before.

References
----------
.. [1] Oppenheim & Schafer. Discrete-Time Signal Processing. 3rd ed., Prentice Hall (2010),
   ch. 5.6 and 13.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import scipy

from omfa.pipeline.errors import DataError
from omfa.pipeline.preprocess import Preprocessing, kernel, rate_ratio, subtract_reference
from omfa.pipeline.recording import Segment

Float32 = npt.NDArray[np.float32]

FLOOR = 1e-3
"""Least gain of the path, as its phase is computed. A zero has no logarithm, and each decade lower
costs delay in the band: 60 dB is what the stored path's filters reach as well."""

MOST_PHASES = 128
"""Rates are taken as a ratio of a numerator up to this, which is right to 5e-5: less than
amplifiers' clocks differ by. More would only make the design longer."""


@dataclass(frozen=True)
class _Design:
    """Taps of every phase, the newest sample's last: ``taps[phase] @ samples``."""

    up: int
    down: int
    taps: Float32
    gain: npt.NDArray[np.float64]
    """What each phase makes of a constant."""


def _ratio(sfreq: float, to: float | None) -> Fraction:
    ratio = rate_ratio(sfreq, to)
    most = MOST_PHASES if ratio <= 1 else int(MOST_PHASES / ratio)
    return ratio if ratio.numerator <= MOST_PHASES else 1 / (1 / ratio).limit_denominator(most)


def minimum_phase(
    taps: npt.NDArray[np.float64], *, floor: float = FLOOR
) -> npt.NDArray[np.float64]:
    """Return the causal kernel of the same length and gain that answers first.

    Parameters
    ----------
    taps : ndarray, shape (n,)
        Any kernel.
    floor : float
        Share of its largest gain that all lower gains count as.
    """
    # 4 times the length: what falls within a small part of the band has a long cepstrum, whose end
    # would fold back onto its beginning.
    n = 2 * scipy.fft.next_fast_len(2 * len(taps), real=True)
    gain = np.abs(scipy.fft.rfft(taps, n, workers=1))
    cepstrum = scipy.fft.irfft(np.log(np.maximum(gain, floor * gain.max())), n, workers=1)
    cepstrum[1 : n // 2] *= 2
    cepstrum[n // 2 + 1 :] = 0
    spectrum = np.exp(scipy.fft.rfft(cepstrum, n, workers=1))
    return scipy.fft.irfft(spectrum, n, workers=1)[: len(taps)]


@lru_cache(maxsize=16)
def _design(settings: Preprocessing, sfreq: float) -> _Design:
    ratio = _ratio(sfreq, settings.sfreq)
    up, down = ratio.as_integer_ratio()
    settings.check_edges(min(sfreq, settings.sfreq or sfreq) / 2)
    # At the fine rate nothing else would say which of the two rates is the lower.
    lower = replace(settings, sfreq=min(sfreq, settings.sfreq or sfreq))
    designed = kernel(lower if ratio != 1 else settings, sfreq * up)
    if len(designed) == 1:
        return _Design(up, down, np.ones((1, 1), np.float32), np.ones(1))
    # A signal has an image at each multiple of its rate, and what is let through of all adds up.
    fine = minimum_phase(designed, floor=FLOOR / up) * up
    length = -(-len(fine) // up)
    taps = np.pad(fine, (0, length * up - len(fine))).reshape(length, up).T
    # A constant has one gain, whatever the phase: 0 under a high-pass, else 1.
    low = settings.band[0] if settings.band is not None else None
    wanted = 0.0 if low is not None else 1.0
    fade = np.hanning(2 * length + 1)[length + 1 :]
    taps = taps - np.outer(taps.sum(axis=1) - wanted, fade / fade.sum())
    return _Design(up, down, np.ascontiguousarray(taps[:, ::-1], np.float32), np.full(up, wanted))


class CausalPath:
    """Filter, resample and reference a signal block by block, as it comes.

    Parameters
    ----------
    settings : Preprocessing
        Those of the store; ``filter_within`` means nothing here.
    sfreq : float
        Rate of the signal, Hz.
    channels : sequence of str
        Canonical names of the rows.

    Raises
    ------
    DataError
        If the settings do not fit the rate, a channel of the reference is absent, bad channels are
        to be interpolated, or the signal is to be whitened.
    """

    def __init__(self, settings: Preprocessing, sfreq: float, channels: Sequence[str]) -> None:
        if settings.interpolate:
            raise DataError(
                "Filtering a signal as it comes",
                "bad channels are to be interpolated, and which are bad is known at the end",
                "Use interpolate=False: a channel that is missing is masked",
            )
        if settings.whiten:
            raise DataError(
                "Filtering a signal as it comes",
                "it is to be whitened by the covariance of the whole recording, which is known at "
                "the end",
                "Use whiten=False, and a model that learned from signals that are not whitened",
            )
        self.settings, self.sfreq, self.channels = settings, float(sfreq), list(channels)
        self._design = _design(settings, self.sfreq)
        self._check_reference()
        self.reset()

    def _check_reference(self) -> None:
        reference = self.settings.reference
        if isinstance(reference, tuple) and (
            absent := [name for name in reference if name not in self.channels]
        ):
            raise DataError(
                f"Referencing to {', '.join(reference)}",
                f"the signal has no channel {', '.join(absent)}",
                f"Choose among {', '.join(self.channels)}",
            )

    @property
    def reach(self) -> float:
        """Seconds of the past that a sample of the result stands on."""
        return self._design.taps.shape[1] / self.sfreq

    def reset(self) -> None:
        """Forget all that came so far; the next sample is the first."""
        n = len(self.channels)
        self._taken = self._given = 0
        self._past = np.zeros((n, self._design.taps.shape[1] - 1), np.float32)
        self._level = np.zeros(n)
        self._absent = np.ones(n, bool)  # so that each channel begins with its first sample
        self._gap = np.zeros(n, bool)

    def stands_on(self, sample: int) -> int:
        """Return the newest sample of the signal that a sample of the result stands on.

        Both are counted from the start.
        """
        return sample * self._design.down // self._design.up

    def push(self, block: Segment) -> Float32:
        """Take the next samples and return those of the result that they complete.

        Parameters
        ----------
        block : ndarray, shape (n_chans, n_times)
            Microvolts; a sample that is not finite is missing.

        Returns
        -------
        ndarray of float32, shape (n_chans, n_out)
            Sample j since the start is at j / ``settings.sfreq`` seconds, later by the filter's
            delay. NaN where a sample is missing since the one before.
        """
        missing = ~np.isfinite(block)
        # Stretches in which the same channels are missing; nearly always one.
        edges = np.flatnonzero((missing[:, 1:] != missing[:, :-1]).any(axis=0)) + 1
        bounds = [0, *edges.tolist(), block.shape[1]]
        pieces = [
            self._push(block[:, start:stop], missing[:, start])
            for start, stop in pairwise(bounds)
            if stop > start
        ]
        out = np.concatenate([np.empty((len(block), 0), np.float32), *pieces], axis=1)
        if self.settings.reference != "source" and out.size:
            subtract_reference(
                out,
                self.settings.reference,
                np.isnan(out).all(axis=1),
                self.channels,
            )
        return out

    def _push(self, block: Segment, absent: npt.NDArray[np.bool_]) -> Float32:
        """Take samples of which the same channels are missing throughout."""
        begins = self._absent & ~absent
        self._past[begins] = 0
        self._level[begins] = block[begins, 0]
        self._absent, self._gap = absent, self._gap | absent
        # Without its first value an offset of millivolts costs float32 nothing.
        fresh = (block - self._level[:, np.newaxis]).astype(np.float32)
        fresh[absent] = 0
        up, down, taps = self._design.up, self._design.down, self._design.taps
        line = np.concatenate([self._past, fresh], axis=1)
        first = self._given
        # Sample j stands on those up to j * down // up.
        last = ((self._taken + block.shape[1]) * up - 1) // down
        out = np.empty((len(block), last + 1 - first), np.float32)
        for j in range(first, last + 1):
            at, phase = self.stands_on(j) - self._taken, j * down % up
            column = line[:, at : at + taps.shape[1]] @ taps[phase]
            out[:, j - first] = column + self._level * self._design.gain[phase]
        if out.shape[1]:
            out[self._gap, 0] = np.nan
            out[absent] = np.nan
            self._gap = absent.copy()
        self._taken += block.shape[1]
        self._given = last + 1
        self._past = line[:, line.shape[1] - self._past.shape[1] :]
        return out
