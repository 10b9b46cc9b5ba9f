"""Judge each channel of a recording by its raw signal, and average its spectra.

Bad channels are marked; nothing is repaired. The figures are those of common practice: samples
that are flat, clipped or missing, a robust z-score of the log variance over channels and the
correlation with other electrodes as in PREP [1]_, and power ratios of averaged spectra [2]_. What
shows in the samples alone is counted over all of them; what is spectral comes from at most
``MOST_WINDOWS`` windows of ``WINDOW_SECONDS``, spread evenly over the recording.

References
----------
.. [1] Bigdely-Shamlo et al. The PREP pipeline: standardized preprocessing for large-scale EEG
   analysis. Front. Neuroinform. 9 (2015) 16.
.. [2] Welch. The use of fast Fourier transform for the estimation of power spectra. IEEE Trans.
   Audio Electroacoust. 15 (1967) 70-73.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when first used: signal alone takes 0.6 s

from omfa.pipeline.preprocess import bridge
from omfa.pipeline.recording import Segment

Float64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FREQUENCIES = np.arange(1.0, 65.0)
"""Hz. A spectrum's value at each is the mean over the 1 Hz around it, whatever the rate."""

WINDOW_SECONDS = 4.0
LEAST_SECONDS = 1.0
"""Seconds; a recording whose segments are all shorter has no spectral figures."""

MOST_WINDOWS = 60

FLAT_SECONDS = 0.1
"""The shortest stretch without change that counts; rounded ADC steps repeat for less."""

EEG_BAND = (1.0, 40.0)
"""Hz of the variance and of the correlation: neither drift nor mains decides them."""

HIGH_FREQUENCY = 30.0
"""Hz above which muscle outweighs brain at the scalp."""

MAINS = (50.0, 60.0)
NEIGHBOURS = 4

LEAST_SPREAD = 0.4
"""The standard deviation of log variance over channels is taken to be at least this.

Clean channels near one another differ less, and a z-score would then flag harmless differences.
"""

FIGURES = (
    "flat",
    "clipped",
    "missing",
    "variance_z",
    "line_ratio",
    "line_frequency",
    "high_frequency_ratio",
    "neighbour_correlation",
)
"""The figures of ``Quality``, one value per channel each."""


@dataclass(frozen=True)
class QualityRules:
    """The limits beyond which a channel is bad; NaN figures never make one bad.

    Calibrated on clean simulated corpora of every source and on real EEG, with
    ``tests/benchmarks/bench_quality.py``; ``docs/quality.md`` has the rates.

    Attributes
    ----------
    flat, clipped, missing : float
        Largest shares, 0 to 1.
    variance_z : float
        Largest absolute value. With ``LEAST_SPREAD``, 5 is an amplitude 2.7 times the median
        channel's, or 1 / 2.7 of it, at least.
    line_ratio, line_excess : float
        Largest value, and largest multiple of the median channel's: a channel is bad beyond both.
        What all channels share is the room's, or the person's, and work for a filter or the
        report's reader; a channel far above the others has lost contact.
    high_frequency_ratio, high_frequency_excess : float
        Likewise: most of the power is above 30 Hz. White noise has a ratio of 0.47, and is known
        by its neighbours; clean temporal channels of a release without anything below 4 Hz come to
        0.46.
    neighbour_correlation : float
        Smallest value.
    """

    flat: float = 0.05
    clipped: float = 0.001
    missing: float = 0.05
    variance_z: float = 5.0
    line_ratio: float = 100.0
    line_excess: float = 60.0
    high_frequency_ratio: float = 0.5
    high_frequency_excess: float = 2.0
    neighbour_correlation: float = 0.1


@dataclass(frozen=True)
class Quality:
    """Quality figures of a recording: arrays over its channels, NaN where there is no answer.

    Attributes
    ----------
    channels : tuple of str
    flat : ndarray, shape (n_chans,)
        Share of the 0.1 s blocks in which no sample differs from another.
    clipped : ndarray, shape (n_chans,)
        Share of samples at the channel's highest or lowest value whose successor is there too;
        0 for a channel of one value.
    missing : ndarray, shape (n_chans,)
        Share of samples that are not finite.
    variance_z : ndarray, shape (n_chans,)
        Log variance within 1-40 Hz, less the median channel's, in units of 1.4826 times the
        median absolute deviation, but at least ``LEAST_SPREAD``.
    line_ratio, line_frequency : ndarray, shape (n_chans,)
        Highest power density within 0.5 Hz of the mains frequency over the median one 1.5 to 5 Hz
        away; the larger of those at 50 and 60 Hz, and which it is.
    high_frequency_ratio : ndarray, shape (n_chans,)
        Power above 30 Hz over that above 1 Hz, both to 64 Hz and without 2 Hz around the mains.
    neighbour_correlation : ndarray, shape (n_chans,)
        Correlation within 1-40 Hz with each of the 4 nearest electrodes, the median over windows,
        the largest absolute value of the four.
    psd : ndarray, shape (n_chans, 64)
        Power spectral density at ``FREQUENCIES``, uV²/Hz; NaN above the Nyquist frequency.
    reasons : tuple of tuple of str
        For each channel the figures that are beyond their limit.
    """

    channels: tuple[str, ...]
    flat: Float64
    clipped: Float64
    missing: Float64
    variance_z: Float64
    line_ratio: Float64
    line_frequency: Float64
    high_frequency_ratio: Float64
    neighbour_correlation: Float64
    psd: Float64 = field(repr=False)
    reasons: tuple[tuple[str, ...], ...]

    @property
    def bad(self) -> Mask:
        """Which channels have a reason to be called bad, shape (n_chans,)."""
        return np.array([bool(reasons) for reasons in self.reasons], dtype=bool)

    def arrays(self) -> dict[str, npt.NDArray[np.float32] | Mask]:
        """Return the arrays that a store holds: ``FIGURES`` and ``psd`` as float32, and ``bad``."""
        figures = {name: getattr(self, name).astype(np.float32) for name in (*FIGURES, "psd")}
        return {**figures, "bad": self.bad}


# --- samples ------------------------------------------------------------------------------------


def _flat_blocks(segment: Segment, n: int) -> tuple[npt.NDArray[np.int64], int]:
    """Count each channel's blocks of ``n`` samples that are all equal, and all its blocks."""
    n_blocks = segment.shape[1] // n
    blocks = segment[:, : n_blocks * n].reshape(len(segment), n_blocks, n)
    # Few blocks survive the first comparison, so the rest is compared for those alone.
    row, block = np.nonzero(blocks[:, :, 0] == blocks[:, :, n // 2])
    for i in range(1, n):
        same = blocks[row, block, i] == blocks[row, block, 0]
        row, block = row[same], block[same]
    return np.bincount(row, minlength=len(segment)), n_blocks


def _repeats(segment: Segment, extreme: Float64) -> npt.NDArray[np.int64]:
    """Count each channel's samples at an extreme value whose successor is there too."""
    row, at = np.nonzero(segment == extreme[:, None].astype(segment.dtype))
    pairs = (np.diff(row) == 0) & (np.diff(at) == 1)
    return np.bincount(row[:-1][pairs], minlength=len(segment))


def _count(segments: Sequence[Segment], sfreq: float) -> tuple[Float64, Float64, Float64]:
    """Return each channel's shares of flat blocks, clipped and missing samples."""
    n_chans = len(segments[0])
    low, high = np.full(n_chans, np.inf), np.full(n_chans, -np.inf)
    missing, flat, clipped = np.zeros(n_chans), np.zeros(n_chans), np.zeros(n_chans)
    n_blocks = n_times = 0
    # One sample alone is always equal to itself.
    block = max(2, round(FLAT_SECONDS * sfreq))
    extremes = []
    for segment in segments:
        least, most = segment.min(axis=1), segment.max(axis=1)
        gaps = np.flatnonzero(~np.isfinite(least) | ~np.isfinite(most))
        for i in gaps:
            present = segment[i][np.isfinite(segment[i])]
            missing[i] += segment.shape[1] - len(present)
            least[i], most[i] = present.min(initial=np.inf), present.max(initial=-np.inf)
        extremes.append((least, most))
        low, high = np.minimum(low, least), np.maximum(high, most)
        counted, of = _flat_blocks(segment, block)
        flat += counted
        n_blocks += of
        n_times += segment.shape[1]
    for segment, (least, most) in zip(segments, extremes, strict=True):
        # A segment that does not reach a channel's extreme has nothing to count there.
        for mine, extreme in ((least, low), (most, high)):
            rows = np.flatnonzero((mine == extreme) & (low < high))
            clipped[rows] += _repeats(segment[rows], extreme[rows])
    return flat / max(n_blocks, 1), clipped / n_times, missing / n_times


# --- spectra ------------------------------------------------------------------------------------


def _transforms(segments: Sequence[Segment], sfreq: float) -> Iterator[npt.NDArray[np.complex64]]:
    """Yield windows' Fourier transforms, scaled so that their squares are uV²/Hz.

    Shape (n_chans, n_freqs), every 1 / ``WINDOW_SECONDS`` Hz. A row is NaN where more than half
    of its samples are missing.
    """
    size = round(WINDOW_SECONDS * sfreq)
    n = min(size, max(segment.shape[1] for segment in segments))
    if n < LEAST_SECONDS * sfreq:
        return
    onsets = [
        (segment, onset)
        for segment in segments
        # What does not fill a window is left out in equal parts at both ends.
        for onset in range(segment.shape[1] % n // 2, segment.shape[1] - n + 1, n)
    ]
    # Spread evenly and not drawn: the same recording gives the same figures.
    chosen = np.linspace(0, len(onsets) - 1, min(MOST_WINDOWS, len(onsets))).round().astype(int)
    taper = scipy.signal.get_window("hann", n)
    scale = np.float32(np.sqrt(2 / (sfreq * np.sum(taper**2))))
    taper = taper.astype(np.float32)
    for segment, onset in (onsets[i] for i in chosen):
        # The mean goes first: an offset of millivolts would cost float32 its microvolts.
        window = segment[:, onset : onset + n]
        missing = ~np.isfinite(window)
        if missing.any():
            window = window.copy()
            bridge(window)
            window[missing.mean(axis=1) > 0.5] = np.nan
        window = (window - window.mean(axis=1, keepdims=True)).astype(np.float32)
        # A shorter window is padded to the same frequencies, 0.25 Hz apart.
        yield scipy.fft.rfft(window * taper, n=size, workers=1) * scale


def _mean(density: Float64, at: Float64, sfreq: float) -> Float64:
    """Average a fine spectrum over the 1 Hz around each of ``FREQUENCIES``."""
    means = np.full((len(density), len(FREQUENCIES)), np.nan)
    for i, frequency in enumerate(FREQUENCIES):
        near = (np.abs(at - frequency) <= 0.5) & (frequency <= sfreq / 2)
        if near.any():
            means[:, i] = density[:, near].mean(axis=1)
    return means


def _analyse(
    segments: Sequence[Segment], sfreq: float, pairs: npt.NDArray[np.int64] | None = None
) -> tuple[Float64, Float64, Float64]:
    """Return fine frequencies, power densities, and correlations of pairs in each window.

    Shapes (n_freqs,), (n_chans, n_freqs) and (n_windows, *pairs.shape); ``pairs[i]`` lists the
    channels that channel i is paired with.
    """
    size = round(WINDOW_SECONDS * sfreq)
    at = scipy.fft.rfftfreq(size, 1 / sfreq)
    in_band = (at >= EEG_BAND[0]) & (at <= EEG_BAND[1])
    total = np.zeros((len(segments[0]), len(at)))
    count = np.zeros((len(segments[0]), 1))
    correlations = []
    for spectrum in _transforms(segments, sfreq):
        power = spectrum.real**2 + spectrum.imag**2
        there = np.isfinite(power[:, :1])
        total += np.where(there, power, 0)
        count += there
        if pairs is not None:
            # Real and imaginary parts side by side: the dot product is the cross-spectrum's real
            # part, which is the correlation of the band. einsum, unlike a matrix product, starts
            # no threads.
            band = np.ascontiguousarray(spectrum[:, in_band]).view(np.float32)
            norm = np.sqrt(np.einsum("cf,cf->c", band, band))
            cross = np.einsum("cf,cnf->cn", band, band[pairs])
            correlations.append(_divide(cross, norm[:, None] * norm[pairs]))
    return at, _divide(total, count), np.array(correlations, dtype=np.float64)


def _divide(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> Float64:
    """Divide, NaN where there is nothing to divide by."""
    result = np.full(np.broadcast_shapes(a.shape, b.shape), np.nan)
    np.divide(a, b, out=result, where=b > 0)
    return result


def spectrum(segments: Sequence[Segment], sfreq: float) -> Float64:
    """Return the average power spectral density of a recording, raw or preprocessed.

    Parameters
    ----------
    segments : sequence of ndarray, each (n_chans, n_times)
        Microvolts.
    sfreq : float
        Hz.

    Returns
    -------
    ndarray, shape (n_chans, 64)
        uV²/Hz at ``FREQUENCIES``; NaN above the Nyquist frequency and for a channel of which most
        is missing.
    """
    at, density, _ = _analyse(segments, sfreq)
    return _mean(density, at, sfreq)


# --- figures ------------------------------------------------------------------------------------


def _robust_z(values: Float64) -> Float64:
    if not np.isfinite(values).any():
        return np.full_like(values, np.nan)
    distance = values - np.nanmedian(values)
    return distance / max(1.4826 * float(np.nanmedian(np.abs(distance))), LEAST_SPREAD)


def _line(density: Float64, at: Float64) -> tuple[Float64, Float64]:
    """Return the larger mains ratio of each channel and the frequency it is at."""
    ratio, which = np.full(len(density), np.nan), np.full(len(density), np.nan)
    for mains in MAINS:
        away = np.abs(at - mains)
        # From 1.5 Hz on nothing is left of a line, which the taper spreads by 0.5 Hz.
        around = (away >= 1.5) & (away <= 5)
        if at[-1] < mains + 1.5:
            continue
        peak = density[:, away <= 0.5].max(axis=1)
        found = _divide(peak, np.median(density[:, around], axis=1))
        larger = found > np.nan_to_num(ratio, nan=-1)
        ratio[larger], which[larger] = found[larger], mains
    return ratio, which


def _high_frequency(density: Float64, at: Float64) -> Float64:
    # Mains have a figure of their own, and would be taken for muscle here.
    near_mains = np.any([np.abs(at - mains) <= 2 for mains in MAINS], axis=0)
    counted = (at >= EEG_BAND[0]) & (at <= FREQUENCIES[-1]) & ~near_mains
    high = density[:, counted & (at > HIGH_FREQUENCY)].sum(axis=1)
    return _divide(high, density[:, counted].sum(axis=1))


def _neighbours(positions: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """Return the nearest electrodes of each, shape (n_chans, at most NEIGHBOURS).

    An electrode stands in for a neighbour that it lacks, as its own position or the others' are
    not known.
    """
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    np.fill_diagonal(distance, np.nan)
    order = np.argsort(distance, axis=1, kind="stable")  # NaN comes last
    known = np.isfinite(np.take_along_axis(distance, order, axis=1))
    own = np.arange(len(positions))[:, None]
    return np.where(known, order, own)[:, : min(NEIGHBOURS, len(positions) - 1)]


def _agreement(correlations: Float64, pairs: npt.NDArray[np.int64]) -> Float64:
    """Return the largest absolute median correlation of each channel, NaN if there is none."""
    if not correlations.size:
        return np.full(len(pairs), np.nan)
    others = np.where(pairs == np.arange(len(pairs))[:, None], np.nan, correlations)
    median = np.ma.median(np.ma.masked_invalid(others), axis=0).filled(np.nan)
    # One neighbour that agrees is enough: the others may be the bad ones.
    return np.fmax.reduce(np.abs(median), axis=1)


def _stands_out(values: Float64, limit: float, excess: float) -> Mask:
    """Tell which channels are above a limit and above a multiple of the median channel."""
    usual = np.nanmedian(values) if np.isfinite(values).any() else np.nan
    return (values > limit) & (values > excess * usual)


def _reasons(figures: dict[str, Float64], rules: QualityRules) -> tuple[tuple[str, ...], ...]:
    high = figures["high_frequency_ratio"]
    beyond = {
        "flat": figures["flat"] > rules.flat,
        "clipped": figures["clipped"] > rules.clipped,
        "missing": figures["missing"] > rules.missing,
        "variance_z": np.abs(figures["variance_z"]) > rules.variance_z,
        "line_ratio": _stands_out(figures["line_ratio"], rules.line_ratio, rules.line_excess),
        "high_frequency_ratio": _stands_out(
            high, rules.high_frequency_ratio, rules.high_frequency_excess
        ),
        "neighbour_correlation": figures["neighbour_correlation"] < rules.neighbour_correlation,
    }
    return tuple(
        tuple(name for name, is_beyond in beyond.items() if is_beyond[i]) for i in range(len(high))
    )


def assess(
    segments: Sequence[Segment],
    sfreq: float,
    channels: Sequence[str],
    positions: npt.NDArray[np.floating],
    *,
    rules: QualityRules | None = None,
) -> Quality:
    """Return the quality figures of a raw recording and which channels are bad.

    Parameters
    ----------
    segments : sequence of ndarray, each (n_chans, n_times)
        Microvolts, unfiltered, not changed. A sample that is not finite is missing.
    sfreq : float
        Hz.
    channels : sequence of str
        The rows' names.
    positions : ndarray, shape (n_chans, 3)
        Metres; NaN where not known.
    rules : QualityRules, optional
        The limits.
    """
    pairs = _neighbours(np.asarray(positions))
    flat, clipped, missing = _count(segments, sfreq)
    at, density, correlations = _analyse(segments, sfreq, pairs)
    in_band = (at >= EEG_BAND[0]) & (at <= EEG_BAND[1])
    variance = density[:, in_band].sum(axis=1)
    line_ratio, line_frequency = _line(density, at)
    figures = {
        "flat": flat,
        "clipped": clipped,
        "missing": missing,
        # A flat channel has no logarithm; `flat` calls it bad.
        "variance_z": _robust_z(np.log(np.where(variance > 0, variance, np.nan))),
        "line_ratio": line_ratio,
        "line_frequency": line_frequency,
        "high_frequency_ratio": _high_frequency(density, at),
        "neighbour_correlation": _agreement(correlations, pairs),
    }
    return Quality(
        channels=tuple(channels),
        **figures,
        psd=_mean(density, at, sfreq),
        reasons=_reasons(figures, rules or QualityRules()),
    )
