"""Filter, resample, interpolate and reference a continuous piece of signal.

Method. The filters are linear-phase FIR low-passes, windowed by Hamming's window and applied
without delay; a high-pass is the unit impulse less a low-pass, a notch the unit impulse less the
difference of two. Lengths and the transition below the band are those of MNE's ``Raw.filter``
[1]_, [2]_; the transition above it is narrower by default, which takes the mains out. An FIR
filter's reach is finite and known, so what an edge or a gap disturbs is known too; and its phase is
exactly zero, which an IIR filter comes near only by running forwards and backwards.

All filters are one kernel. Its spectrum multiplies the spectrum of the whole padded segment, and
the product is cut (or extended by zeros) at the new Nyquist frequency and transformed back at the
new length. The low-pass ends at or below both Nyquist frequencies, so this is polyphase resampling
by that kernel, of which nothing at all folds back.

Segments are filtered, never windows: the kernel of a high-pass at 0.5 Hz is 6.6 s long. At its
ends a segment is continued by its mirror image. The point reflection that MNE takes instead hangs
the continuation on a single sample; on real EEG its error at the ends was three to seven times as
large (``docs/signal-path.md``).

References
----------
.. [1] Widmann, Schröger & Maess. Digital filter design for electrophysiological data: a practical
   approach. J. Neurosci. Methods 250 (2015) 34-46.
.. [2] Gramfort et al. MEG and EEG data analysis with MNE-Python. Front. Neurosci. 7 (2013) 267.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when first used: signal alone takes 0.6 s

from omfa.pipeline.channels import UCS
from omfa.pipeline.errors import DataError
from omfa.pipeline.recording import Segment
from omfa.pipeline.words import nearest

Float32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

HAMMING_FACTOR = 3.3
"""Length of a Hamming-windowed low-pass, in samples, times transition band over rate."""

NARROWEST_TRANSITION = 0.5
"""Hz between a pass band's upper edge and the Nyquist frequency, at least."""

PASSED_WITHOUT_BAND = 0.9
"""Share of the lower Nyquist frequency that resampling without an upper band edge leaves alone."""

LARGEST_DENOMINATOR = 20_000
"""Two rates are taken as a ratio of integers up to this: right to 10 us in an hour."""

# Samples transformed together. Rows in blocks of this size stay in a core's cache, and four rows
# at least fill its vector registers.
_BLOCK = 1 << 18
_ROWS = 4


Reference = Literal["source", "average"] | tuple[str, ...]
"""The reference as it was recorded, the mean of all channels, or that of the channels named."""


@dataclass(frozen=True)
class Preprocessing:
    """What is done to a signal between the reader and the store.

    Lists are taken for tuples and integers for floats, so that what ``dataclasses.asdict`` gives
    comes back unchanged through JSON. ``filter_within`` is for ``align``, which knows the trials.

    Attributes
    ----------
    sfreq : float or None
        Hz of the result. None keeps the source's.
    band : (float or None, float or None) or None
        Edges of the pass band in Hz. None leaves a side, or both, open.
    transition : float or None
        Hz above the band's upper edge in which the low-pass falls. 4 takes 50 Hz mains out of a
        signal that ends at 45 Hz. None falls as MNE does, within a quarter of the edge and at
        least 2 Hz: 11.25 Hz above 45, which leaves most of the mains in.
    notch : tuple of float
        Frequencies in Hz to take out.
    reference : "source", "average" or tuple of str
        ``"source"`` leaves the reference as recorded; ``"average"`` subtracts the mean of the
        channels that are not bad; channel names, in any spelling, subtract the mean of those.
    interpolate : bool
        Replace bad channels by spherical splines of the others.
    filter_within : {"segments", "trials"}
        How far the filters reach: over all that the source holds contiguously, or over each trial
        by itself, with its own baseline where the two touch, so that no trial holds anything of
        its neighbours.
    whiten : bool
        Whiten each recording over its good channels (Euclidean alignment), to 10 uV: recordings
        of different people and caps become alike. It takes the whole recording, without labels,
        so that no window of it is causal.

    Raises
    ------
    DataError
        If a setting is impossible.

    Examples
    --------
    >>> from omfa.pipeline import Preprocessing
    >>> Preprocessing(band=(4.0, 45.0), reference="average").sfreq
    128.0
    """

    sfreq: float | None = 128.0
    band: tuple[float | None, float | None] | None = (0.5, 45.0)
    transition: float | None = 4.0
    notch: tuple[float, ...] = ()
    reference: Reference = "source"
    interpolate: bool = False
    filter_within: Literal["segments", "trials"] = "segments"
    whiten: bool = field(default=False, metadata={"quiet": True})

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        if self.sfreq is not None:
            set_(self, "sfreq", float(self.sfreq))
        if self.band is not None:
            if len(self.band) != 2:
                raise _impossible("band", self.band, "it takes two edges", "Give LOW HIGH in Hz")
            low, high = (float(edge) if edge else None for edge in self.band)
            set_(self, "band", None if low is None and high is None else (low, high))
        if self.transition is not None:
            set_(self, "transition", float(self.transition))
        set_(self, "notch", tuple(float(frequency) for frequency in self.notch))
        if self.reference not in ("source", "average"):
            names = (self.reference,) if isinstance(self.reference, str) else self.reference
            for name in names:
                if name not in UCS:
                    near = nearest(name, ("source", "average", *UCS.names))
                    found = f"it is no reference and no channel of the schema{near}"
                    action = "Give source, average, or channels by their names"
                    raise _impossible("reference", name, found, action)
            set_(self, "reference", tuple(UCS.canonicalize(names, where="Setting reference")))
            if not names:
                raise _impossible("reference", names, "it names no channel", "Name one")
        if self.sfreq is not None and not (np.isfinite(self.sfreq) and self.sfreq > 0):
            raise _impossible(
                "sfreq", self.sfreq, "a rate is above 0 Hz", "Give a rate such as 128"
            )
        if self.filter_within not in ("segments", "trials"):
            raise _impossible(
                "filter_within", self.filter_within, "it is unknown", "Use 'segments' or 'trials'"
            )
        if self.transition is not None and not NARROWEST_TRANSITION <= self.transition < np.inf:
            raise _impossible(
                "transition",
                self.transition,
                f"a low-pass needs at least {NARROWEST_TRANSITION} Hz to fall off",
                "Give its width in Hz, such as 4, or None for MNE's",
            )
        self.check_edges(np.inf if self.sfreq is None else self.sfreq / 2)

    def check_edges(self, ceiling: float) -> None:
        """Check that no filter reaches below 0 Hz or to the Nyquist frequency.

        Parameters
        ----------
        ceiling : float
            The lower of the Nyquist frequencies before and after resampling, Hz.

        Raises
        ------
        DataError
            If one does.
        """
        low, high = self.band or (None, None)
        at_most = f"only frequencies below {ceiling:g} Hz exist at that rate"
        for edge in (low, high):
            if edge is not None and not 0 < edge < np.inf:
                raise _impossible("band", self.band, "an edge is not above 0 Hz", "Give it in Hz")
        if low is not None and high is not None and low >= high:
            raise _impossible("band", self.band, "it is empty", "Give LOW HIGH in Hz")
        if low is not None and low >= ceiling:
            raise _impossible("band", self.band, at_most, "Lower the band's edges")
        if high is not None and high > ceiling - NARROWEST_TRANSITION:
            raise _impossible(
                "band",
                self.band,
                f"{at_most} and a low-pass needs {NARROWEST_TRANSITION} Hz to fall off",
                "Lower the upper edge, or leave it open with None",
            )
        for frequency in self.notch:
            first, *_, last = _notch_edges(frequency)
            if not 0 < first < np.inf:
                raise _impossible("notch", self.notch, "a notch reaches 0 Hz", "Use the band")
            if last >= ceiling:
                raise _impossible("notch", self.notch, at_most, f"Leave {frequency:g} Hz out")


def _impossible(setting: str, value: Any, found: str, action: str) -> DataError:
    return DataError(f"Setting {setting} to {value}", found, action)


def _ceiling(sfreq: float, settings: Preprocessing) -> float:
    """Return the lower Nyquist frequency, after checking the settings against the source's rate."""
    ceiling = min(sfreq, settings.sfreq or sfreq) / 2
    settings.check_edges(ceiling)
    return ceiling


# --- time ---------------------------------------------------------------------------------------


@lru_cache
def rate_ratio(sfreq: float, to: float | None) -> Fraction:
    """Return the ratio of the new rate ``to`` to the old one, in Hz; 1 where ``to`` is None."""
    if to is None or to == sfreq:
        return Fraction(1)
    # A rate in a file is a decimal number, whose float is not the fraction that was meant.
    exact = Fraction(to).limit_denominator(10**6) / Fraction(sfreq).limit_denominator(10**6)
    return exact.limit_denominator(LARGEST_DENOMINATOR)


def n_resampled(n: int, sfreq: float, to: float | None) -> int:
    """Return how many samples ``n`` become: those of the new grid within the segment's time.

    Sample j of the result is at j / ``to`` seconds after the segment's first sample, and the
    segment lasts ``n`` / ``sfreq`` seconds, so ``n`` times the ratio of the rates, rounded up.

    Parameters
    ----------
    n : int
        Samples at ``sfreq``.
    sfreq, to : float
        Old and new rate, Hz. ``to=None`` keeps the old.
    """
    up, down = rate_ratio(sfreq, to).as_integer_ratio()
    return -(-n * up // down)


def resample_spans(
    onset: npt.ArrayLike, duration: npt.ArrayLike, to: float, *, n_times: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return which samples of a resampled segment belong to spans of time.

    A span's length follows from its duration alone, as the length of a window does, and not from
    its two ends, whose roundings would make spans of one duration differ by a sample: one of d
    seconds has ``d * to`` samples, a half rounded up. It is shorter only where the segment ends
    before. A span begins with the first sample that is not before it; with the last one that is,
    where it would else reach past the segment's end or into a span that begins after it. So two
    spans that touch share at most one sample.

    Parameters
    ----------
    onset, duration : array of float, shape (n,)
        All spans of one segment, in seconds from its first sample.
    to : float
        Rate of the resampled segment, Hz.
    n_times : int
        Its samples.

    Returns
    -------
    onset, length : ndarray of int64, shape (n,)
        In samples. A duration of 0 gives a length of 0.
    """
    first, lasting = np.asarray(onset, dtype=float), np.asarray(duration, dtype=float)
    after, before = _after(first, to), np.floor(first * to + _EXACT).astype(np.int64)
    # A half goes up: a window, whose half goes to the even number, is never longer.
    count = np.floor(lasting * to + 0.5 + _EXACT).astype(np.int64) * (lasting > 0)
    begins = np.sort(first[lasting > 0])
    # Seconds to float's precision: a span that begins where another ends comes after it.
    following = np.searchsorted(begins, first + lasting - _EXACT / to)
    limits = np.append(np.minimum(_after(begins, to), n_times), n_times)
    start = np.where(after + count > limits[following], before, after)
    return start, np.clip(count, 0, np.maximum(n_times - start, 0))


_EXACT = 1 / 32
"""Samples. Times miss the samples that they mean by less: a FIF file keeps them in 32 bits, which
is 1.2e-4 s or 1/64 of a sample at 128 Hz after an hour."""


def _after(seconds: npt.NDArray[np.float64], to: float) -> npt.NDArray[np.int64]:
    """Return the first sample that is not before a time."""
    return np.ceil(seconds * to - _EXACT).astype(np.int64)


# --- filter design ------------------------------------------------------------------------------


def _low_pass(keep: float, stop: float, sfreq: float) -> npt.NDArray[np.float64]:
    """Return a low-pass of odd length that falls from 1 to 0 between two frequencies."""
    n = round(HAMMING_FACTOR * sfreq / (stop - keep))
    # Odd, so that the delay is a whole number of samples, which the plan takes out.
    return scipy.signal.firwin(n + 1 - n % 2, (keep + stop) / 2, window="hamming", fs=sfreq)


def _sum(*kernels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Add kernels of odd lengths about their centres."""
    half = max(len(kernel) for kernel in kernels) // 2
    return np.sum([np.pad(kernel, half - len(kernel) // 2) for kernel in kernels], axis=0)


def _notch_edges(frequency: float) -> tuple[float, float, float, float]:
    """Return where a notch starts to fall, reaches 0, leaves it and is back at 1, in Hz."""
    # MNE's default notch: f / 200 wide, and 0.5 Hz to fall on either side.
    stop, fall = frequency / 400, 0.5
    return (
        frequency - stop - fall,
        frequency - stop,
        frequency + stop,
        frequency + stop + fall,
    )


def kernel(settings: Preprocessing, sfreq: float) -> npt.NDArray[np.float64]:
    """Return the impulse response at the source's rate of all that the settings filter.

    Transition bands are ``min(max(f / 4, 2), f)`` Hz wide below a low edge f and ``transition``
    above a high one, or as much as the lower Nyquist frequency leaves. Where the
    rate changes and no high edge is set, the pass band ends at 0.9 of that Nyquist frequency.

    Parameters
    ----------
    settings : Preprocessing
    sfreq : float
        The source's rate, Hz.

    Returns
    -------
    ndarray, shape (odd,)
        Symmetric about its centre, which is at no delay; ``[1.0]`` if nothing is filtered.

    Raises
    ------
    DataError
        If a filter reaches the lower Nyquist frequency.
    """
    ceiling = _ceiling(sfreq, settings)
    low, high = settings.band or (None, None)
    impulse = np.ones(1)
    band = impulse
    if high is not None:
        falls = max(high / 4, 2) if settings.transition is None else settings.transition
        band = _low_pass(high, min(high + falls, ceiling), sfreq)
    # A change of rate needs a low-pass whether or not one was asked for, or what is above the
    # new Nyquist frequency would be cut off without a transition and ring.
    elif rate_ratio(sfreq, settings.sfreq) != 1:
        band = _low_pass(PASSED_WITHOUT_BAND * ceiling, ceiling, sfreq)
    if low is not None:
        band = _sum(band, -_low_pass(low - min(max(low / 4, 2), low), low, sfreq))
    for frequency in settings.notch:
        fall, stop, leave, back = _notch_edges(frequency)
        notch = _sum(impulse, _low_pass(fall, stop, sfreq), -_low_pass(leave, back, sfreq))
        band = scipy.signal.fftconvolve(band, notch)
    return band


@dataclass(frozen=True)
class _Plan:
    """How a segment of one length is transformed.

    The padded length is ``down * k`` and the result's ``up * k``, and the segment starts at a
    multiple of ``down``: so the new grid begins exactly on the segment's first sample.
    """

    left: int
    """Samples of padding before the segment."""
    length: int
    """Samples of the padded segment."""
    start: int
    """The segment's first sample after resampling."""
    resampled: int
    """Samples of the padded segment after resampling."""
    response: Float32
    """The kernel's real spectrum, times the ratio of the lengths, up to the lower Nyquist."""


@lru_cache(maxsize=64)
def _plan(settings: Preprocessing, sfreq: float, n: int) -> _Plan | None:
    taps = kernel(settings, sfreq)
    up, down = rate_ratio(sfreq, settings.sfreq).as_integer_ratio()
    if len(taps) == 1:
        return None
    half = len(taps) // 2
    left = -(-half // down) * down
    k = scipy.fft.next_fast_len(-(-(left + n + half) // down), real=True)
    centred = np.zeros(down * k)
    centred[: half + 1] = taps[half:]
    centred[-half:] = taps[:half]
    # Real, since the kernel is symmetric about 0. One thread: a worker has one core.
    response = scipy.fft.rfft(centred, workers=1).real[: min(up, down) * k // 2 + 1] * up / down
    if up != down and min(up, down) * k % 2 == 0:
        response[-1] = 0  # at the Nyquist frequency itself two spectra overlap
    return _Plan(left, down * k, left // down * up, up * k, response.astype(np.float32))


# --- the signal ---------------------------------------------------------------------------------


def bridge(rows: Segment) -> Mask:
    """Fill gaps in place by straight lines, and hold the nearest sample at the ends.

    Parameters
    ----------
    rows : ndarray, shape (n_chans, n_times)
        A row with no finite sample is set to zero.

    Returns
    -------
    ndarray of bool, shape (n_chans, n_times)
        True where a sample was missing.
    """
    missing = ~np.isfinite(rows)
    for row, gaps in zip(rows, missing, strict=True):
        here = np.flatnonzero(~gaps)
        row[gaps] = np.interp(np.flatnonzero(gaps), here, row[here]) if len(here) else 0
    return missing


def _pad(padded: Float32, left: int, n: int) -> None:
    """Extend a segment by its mirror image, over and over if it is short."""
    for start in range(left, 0, -n):
        m = min(n, start)
        padded[:, start - m : start] = padded[:, start : start + m][:, ::-1]
    for stop in range(left + n, padded.shape[1], n):
        m = min(n, padded.shape[1] - stop)
        padded[:, stop : stop + m] = padded[:, stop - m : stop][:, ::-1]


def _spread(missing: Mask, ratio: Fraction, n_out: int) -> Mask:
    """Return which output samples lie within one sample of the slower rate of a missing one."""
    up, down = ratio.as_integer_ratio()
    reach = max(up, down)
    edges = np.zeros((len(missing), n_out + 1), dtype=np.int32)
    row, at = np.nonzero(missing)
    # Each missing sample opens a stretch and closes it; their running sum is above 0 inside any.
    np.add.at(edges, (row, np.maximum((at * up - reach) // down + 1, 0)), 1)
    np.add.at(edges, (row, np.minimum(-((-at * up - reach) // down), n_out)), -1)
    return np.cumsum(edges, axis=1)[:, :n_out] > 0


def _filter(segment: Segment, sfreq: float, settings: Preprocessing, out: Float32) -> None:
    n, n_out = segment.shape[1], out.shape[1]
    plan = _plan(settings, sfreq, n)
    if plan is None:
        out[:] = segment
        # Infinities are missing samples too, and NaN is the one mark of these in a store.
        out[~np.isfinite(out)] = np.nan
        return
    keeps_offset = settings.band is None or settings.band[0] is None
    rows = max(_ROWS, _BLOCK // plan.length)
    padded = np.empty((min(rows, len(segment)), plan.length), dtype=np.float32)
    for start in range(0, len(segment), rows):
        block = segment[start : start + rows]
        target = out[start : start + rows]
        work = padded[: len(block)]
        # The mean goes first: an offset of millivolts would cost float32 its microvolts.
        with np.errstate(invalid="ignore", over="ignore"):
            offset = block.mean(axis=1, keepdims=True)
        gaps = None
        if not np.isfinite(offset).all():
            block = block.copy()
            gaps = bridge(block)
            offset = block.mean(axis=1, keepdims=True)
        np.subtract(block, offset, out=work[:, plan.left : plan.left + n], casting="same_kind")
        _pad(work, plan.left, n)
        spectrum = scipy.fft.rfft(work, workers=1)[:, : len(plan.response)]
        spectrum *= plan.response
        result = scipy.fft.irfft(spectrum, n=plan.resampled, overwrite_x=True, workers=1)
        target[:] = result[:, plan.start : plan.start + n_out]
        if keeps_offset:
            np.add(target, offset, out=target, casting="same_kind")
        if gaps is not None:
            target[_spread(gaps, rate_ratio(sfreq, settings.sfreq), n_out)] = np.nan


@lru_cache(maxsize=64)
def _spline(positions: bytes, bad: bytes) -> Float32:
    """Return the weights (n_bad, n_good) of MNE's spherical spline interpolation."""
    # MNE takes seconds to import and only this option needs it.
    import mne

    where = np.frombuffer(positions).reshape(-1, 3)
    flagged = np.frombuffer(bad, dtype=bool)
    names = [str(i) for i in range(len(where))]
    info = mne.create_info(names, sfreq=1.0, ch_types="eeg", verbose="ERROR")
    montage = mne.channels.make_dig_montage(
        dict(zip(names, where, strict=True)), coord_frame="head"
    )
    info.set_montage(montage, verbose="ERROR")
    info["bads"] = [name for name, is_bad in zip(names, flagged, strict=True) if is_bad]
    # Interpolation is linear: what it makes of unit signals are its weights.
    units = mne.io.RawArray(np.eye(len(where)), info, verbose="ERROR")
    weights = units.interpolate_bads(reset_bads=False, verbose="ERROR").get_data()
    return np.ascontiguousarray(weights[flagged][:, ~flagged], dtype=np.float32)


def _interpolate(out: Float32, bad: Mask, positions: npt.NDArray[np.floating] | None) -> None:
    if positions is None or not np.isfinite(positions).all():
        raise DataError(
            "Interpolating bad channels",
            "electrode positions are not known",
            "Give positions, or do not interpolate",
        )
    if np.count_nonzero(~bad) < 4:
        raise DataError(
            "Interpolating bad channels",
            f"{np.count_nonzero(bad)} of {len(bad)} channels are bad",
            "Leave this recording out, or do not interpolate",
        )
    weights = _spline(np.asarray(positions, dtype=np.float64).tobytes(), bad.tobytes())
    out[bad] = np.einsum("bg,gt->bt", weights, out[~bad])  # unlike @, starts no threads


def subtract_reference(
    out: Float32,
    reference: Literal["average"] | tuple[str, ...],
    bad: Mask,
    channels: Sequence[str] | None,
) -> None:
    """Subtract the mean of the reference channels, each where it is present, in place.

    Parameters
    ----------
    out : ndarray of float32, shape (n_chans, n_times)
    reference : "average" or tuple of str
        As ``Preprocessing.reference``.
    bad : ndarray of bool, shape (n_chans,)
        Rows that stay out of the reference.
    channels : sequence of str or None
        Canonical names of the rows; needed to reference to named channels.

    Raises
    ------
    DataError
        If a channel of the reference is absent, or all of them are bad.
    """
    chosen = ~bad
    if reference != "average":
        absent = [name for name in reference if name not in (channels or ())]
        if absent:
            raise DataError(
                f"Referencing to {', '.join(reference)}",
                f"the recording has no channel {', '.join(absent)}",
                f"Choose among {', '.join(channels or ())}",
            )
        chosen = chosen & np.isin(np.asarray(channels), reference)
    if not chosen.any():
        raise DataError(
            f"Referencing to {reference if isinstance(reference, str) else ', '.join(reference)}",
            "every channel of the reference is bad",
            "Choose another reference, or leave this recording out",
        )
    members = out[chosen]
    present = np.isfinite(members)
    if present.all():
        out -= members.mean(axis=0)
        return
    count = present.sum(axis=0)
    total = np.where(present, members, 0).sum(axis=0)
    out -= np.where(count > 0, total / np.maximum(count, 1), np.float32(np.nan)).astype(np.float32)


def preprocess(
    segment: Segment,
    sfreq: float,
    settings: Preprocessing,
    *,
    channels: Sequence[str] | None = None,
    positions: npt.NDArray[np.floating] | None = None,
    bad: Mask | None = None,
    out: Float32 | None = None,
) -> Float32:
    """Filter, resample, interpolate and reference one contiguous segment.

    Parameters
    ----------
    segment : ndarray, shape (n_chans, n_times)
        Microvolts; not changed. A sample that is not finite is missing: it is bridged for the
        filters and is NaN again in the result.
    sfreq : float
        Hz.
    settings : Preprocessing
    channels : sequence of str, optional
        Canonical names of the rows; needed to reference to named channels.
    positions : ndarray, shape (n_chans, 3), optional
        Head frame, metres; needed to interpolate.
    bad : ndarray of bool, shape (n_chans,), optional
        The rows that are interpolated and stay out of the reference. A row without a finite
        sample always counts as bad.
    out : ndarray of float32, shape (n_chans, n_out), optional
        Where the result goes.

    Returns
    -------
    ndarray of float32, shape (n_chans, n_resampled(n_times, sfreq, settings.sfreq))
        Microvolts; column j is at j / ``settings.sfreq`` seconds.

    Raises
    ------
    DataError
        If the settings do not fit the rate, a reference is absent, or bad channels cannot be
        interpolated.
    """
    sfreq = float(sfreq)
    shape = (len(segment), n_resampled(segment.shape[1], sfreq, settings.sfreq))
    out = np.empty(shape, dtype=np.float32) if out is None else out
    if out.shape != shape or out.dtype != np.float32:
        raise ValueError(f"out is {out.dtype} {out.shape}, expected float32 {shape}")
    _filter(segment, sfreq, settings, out)
    if settings.reference == "source" and not settings.interpolate:
        return out
    flagged = np.asarray(np.isnan(out).all(axis=1), dtype=bool)
    if bad is not None:
        flagged |= bad
    if settings.interpolate and flagged.any():
        _interpolate(out, flagged, positions)
    if settings.reference != "source":
        subtract_reference(out, settings.reference, flagged, channels)
    return out
