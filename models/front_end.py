"""The front end of every encoder: any sampling rate to 128 Hz, any amplitude to unit spread.

Corpora differ in sampling rate and in amplitude, and one set of weights is to serve them all. Two
steps without parameters bring a single-channel window to a common form:

1. *Rate resampler*: a Kaiser-windowed sinc filter (Kaiser & Schafer 1980, IEEE Trans. Acoust.,
   Speech, Signal Process. 28, 105-107), applied in polyphase form (Crochiere & Rabiner 1981, Proc.
   IEEE 69, 300-331), resamples any rate to 128 Hz.
2. *Scale*: the median is subtracted and the interquartile range divided by, both of which a few
   artefacts do not move. What this removes, the spread and the share of each frequency band in the
   power (Welch 1967, IEEE Trans. Audio Electroacoust. 15, 70-73), is returned as side features,
   since emotion decoding needs it, beside the spectrum in bins of 1 Hz. ``FrontEnd.bursts``
   measures how unevenly the power of each band is spread over the window.

``docs/models.md`` gives the formulas and the reasons. Annotations here are evaluated (there is no
``from __future__ import annotations``), because TorchScript cannot read them as text.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from functools import lru_cache
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omfa.models.names import Resampling

RESAMPLING: tuple[Resampling, ...] = get_args(Resampling)

# Hz. DEAP and DREAMER are published at this rate, so their samples pass as they are, and half of it
# is above the 45 Hz at which the stores' signals end.
F0 = 128.0

# Half-width in zero crossings, pass band as a share of the lower Nyquist frequency, Kaiser's shape.
# The filter to 128 Hz then passes up to 51 Hz and stops, by 60 dB, from 70 Hz, which would
# come back as 58 Hz: the 1 to 45 Hz that matter are untouched.
ZEROS, ROLLOFF, BETA = 16, 0.95, 8.0

# Hz, the upper edge excluded.
BANDS = {"delta": (1, 4), "theta": (4, 8), "alpha": (8, 13), "beta": (13, 30), "gamma": (30, 46)}

N_SIDE = 2 + len(BANDS)  # log spread, log band powers, log of the rate

N_BINS = 45  # Hz, 1 to 45

# Seconds: of a stretch whose power may be that of one burst, and from one such stretch to the next.
BURST, BURST_STEP = 0.5, 0.125


PLAUSIBLE = (0.1, 5000.0)
"""Microvolts RMS that a channel may have. Volts and millivolts fall below, nanovolts above;
signals that were scaled to about 1, and unfiltered drift, lie between.
"""

EQUAL = 1e-3
"""How little the channels of a standardised window differ in mean and deviation: rounding in half
precision stays below, and channels of a recording are never so alike.
"""


class UnitWarning(UserWarning):
    """A signal looks as if it were in another unit than microvolts.

    Examples
    --------
    >>> import warnings
    >>> import torch
    >>> from omfa.models import OMFA, UnitWarning
    >>> warnings.simplefilter("ignore")
    >>> model = OMFA(n_outputs=2, n_chans=4, n_times=256, sfreq=128.0, preset="tiny").eval()
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     logits = model(2e-5 * torch.randn(1, 4, 256))  # volts
    >>> said[-1].category.__name__
    'UnitWarning'
    """


class PlaceWarning(UserWarning):
    """The place of a channel is not known.

    Examples
    --------
    >>> import warnings
    >>> from omfa.models import OMFA, PlaceWarning
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     somewhere = [{"ch_name": "X1"}, {"ch_name": "X2"}]
    ...     model = OMFA(n_outputs=2, chs_info=somewhere, n_times=256, sfreq=128.0, preset="tiny")
    >>> any(issubclass(one.category, PlaceWarning) for one in said)
    True
    """


def may_look(device: str, *, training: bool, looked: bool) -> bool:
    """Return whether the values of a batch may be looked at.

    On an accelerator the host then waits for all that is under way: there it is one batch, and
    none in training.

    Parameters
    ----------
    device : str
        The kind of device that the batch is on; on ``"meta"`` there are no values.
    training : bool
        Whether the model is in training mode.
    looked : bool
        Whether an earlier batch was looked at.
    """
    return device == "cpu" or (device != "meta" and not training and not looked)


def doubtful_unit(x: Tensor) -> str:
    """Say that a signal is not in microvolts, if it looks so; else return nothing.

    Where signals are in standard deviations of more than the window, their amplitude is as a weak
    recording's, and nothing tells them apart.

    Parameters
    ----------
    x : Tensor
        (..., n_times). The median over signals of the deviation from each one's own mean decides;
        those without a recording do not count. Three or more that all have mean 0 and deviation 1
        were standardised.
    """
    x = x.detach()
    x = x if x.dtype == torch.float64 else x.float()  # squares of float16 overflow
    x = x[recorded(x)]
    if not x.numel():  # torch warns of the deviation of nothing
        return ""
    deviation, mean = x.std(-1, correction=0), x.mean(-1)
    low, high = PLAUSIBLE
    # A deviation over n - 1 samples is 1 where that over n is a little less: equal, and near 1.
    near = deviation.max() - deviation.min() < EQUAL and (deviation[0] - 1).abs() < 10 * EQUAL
    if len(x) >= 3 and near and mean.abs().max() < EQUAL:
        return (
            "the signal looks standardised: all channels have mean 0 and deviation 1 within the "
            "window, which takes away the power that is read. Give the microvolts from before"
        )
    if low <= (typical := float(deviation.median())) <= high:
        return ""
    unit = "volts" if typical < 1e-3 else "millivolts" if typical < low else "nanovolts"
    return (
        f"the signal looks like {unit}: a channel has {typical:.2g} RMS, and scalp EEG has some 1 "
        "to 100 microvolts. Scale it to microvolts (MNE's get_data gives volts: times 1e6)"
    )


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Leave mixed precision on the device of a tensor, where it is on.

    There matrix products take 8 bits of a number: too few to resample a signal, to measure its
    power, or to compare similarities that are nearly 1.
    """
    kind = x.device.type
    if kind == "meta" or not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)


def recorded(x: Tensor) -> Tensor:
    """Mark the signals that hold a recording.

    Parameters
    ----------
    x : Tensor
        (..., n_times).

    Returns
    -------
    Tensor
        (...), False where a signal holds a NaN or an infinity, or is constant (a zero-filled or
        disconnected channel).
    """
    if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript skips what stands under it alone
        if torch.compiler.is_compiling():
            # Runtimes of exported graphs do not agree on the largest of numbers and a NaN.
            finite = torch.isfinite(x).all(-1, keepdim=True)
            x = torch.where(finite, x, torch.zeros_like(x))
    low, high = x.amin(-1), x.amax(-1)
    return torch.isfinite(high - low) & (high > low)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Average along the last axis over the values that a mask marks.

    Parameters
    ----------
    x : Tensor
        (..., n), in any unit.
    mask : Tensor
        (..., n) bool, broadcast against ``x``; True where a value counts.

    Returns
    -------
    Tensor
        (..., 1), in the unit of ``x``; 0 where nothing is marked.
    """
    total = torch.where(mask, x, torch.zeros_like(x)).sum(-1, keepdim=True)
    return total / mask.sum(-1, keepdim=True).clamp(min=1)


def rate_ratio(sfreq: float) -> tuple[int, int]:
    """Return (up, down), so that 128 Hz is ``sfreq`` Hz times ``up / down`` within 1e-6 of it."""
    # A kernel has ``up`` columns and about ``down`` rows; 2000 keeps it small for any rate.
    ratio = Fraction(F0 / sfreq).limit_denominator(2000)
    return ratio.numerator, ratio.denominator


@lru_cache(maxsize=64)
def resampling_kernel(up: int, down: int) -> tuple[Tensor, int]:
    r"""Build the Kaiser-windowed sinc that turns ``down`` samples into ``up``, in polyphase form.

    With f_s the input rate, f_c = rho min(f_s, f_0) / 2 and t_w = Z / (2 f_c), output m is

    .. math:: y_m = \sum_n x_n\, k(m/f_0 - n/f_s), \qquad
        k(t) \propto \mathrm{sinc}(2 f_c t)\, I_0(\beta \sqrt{1 - (t/t_w)^2}), \quad |t| \le t_w,

    with the weights of each output normalised to sum 1. The pattern of weights repeats every ``up``
    outputs, so a block of ``down`` inputs times one matrix gives ``up`` outputs.

    Returns
    -------
    kernel : Tensor
        (down + 2 * reach + 1, up), float64.
    reach : int
        How many input samples on either side an output depends on.
    """
    cutoff = 0.5 * ROLLOFF * min(1.0, up / down)  # in cycles per input sample
    half_width = ZEROS / (2 * cutoff)  # in input samples
    reach = math.ceil(half_width)
    outputs = torch.arange(up, dtype=torch.float64) * (down / up)
    inputs = torch.arange(-reach, down + reach + 1, dtype=torch.float64)
    lag = outputs[None, :] - inputs[:, None]
    window = torch.special.i0(BETA * (1 - (lag / half_width) ** 2).clamp(min=0).sqrt())
    kernel = torch.sinc(2 * cutoff * lag) * window * (lag.abs() <= half_width)
    return kernel / kernel.sum(0), reach


def kernel_like(x: Tensor, up: int, down: int) -> tuple[Tensor, int]:
    """Return :func:`resampling_kernel` in the type and on the device of signals.

    On an accelerator it is kept there: the copy would wait for all that is under way.
    """
    if x.device.type in ("cpu", "meta") or torch.compiler.is_compiling():
        kernel, reach = resampling_kernel(up, down)
        return kernel.to(x), reach
    return _kernel_on(up, down, x.device, x.dtype)


@lru_cache(maxsize=64)
def _kernel_on(up: int, down: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, int]:
    with torch.inference_mode(False):  # what is kept from an inference is of no use in training
        kernel, reach = resampling_kernel(up, down)
        return kernel.to(device, dtype), reach


def resample(x: Tensor, kernel: Tensor, reach: int, up: int, down: int) -> Tensor:
    """Resample signals with a kernel of :func:`resampling_kernel`.

    The ends are continued by mirroring them through their last points.

    Parameters
    ----------
    x : Tensor
        (batch, n_times), in any unit.
    kernel, reach, up, down
        As :func:`resampling_kernel` takes and gives them.

    Returns
    -------
    Tensor
        (batch, round(n_times * up / down)), in the unit of ``x``.

    Raises
    ------
    ValueError
        If a window has no more than ``reach + 1`` samples.
    """
    n_times = x.shape[-1]
    if n_times <= reach + 1:
        raise ValueError(
            f"ART: a window of {n_times} samples is too short to resample, whose filter reaches "
            f"{reach} samples to either side. Give longer windows (0.5 s is always enough)."
        )
    n_out = (2 * n_times * up + down) // (2 * down)
    n_blocks = (n_out + up - 1) // up
    # Mirrored through the end points, which keeps value and slope. Mirrored in time alone, the ends
    # of a signal would depend on its rate ten times more.
    before = 2 * x[:, :1] - x[:, 1 : reach + 1].flip([1])
    after = 2 * x[:, -1:] - x[:, -reach - 2 : -1].flip([1])
    x = torch.cat((before, x, after), 1)
    # Zeros only complete the last block; outputs that depend on them are cut off again.
    x = F.pad(x, [0, max(0, (n_blocks - 1) * down + kernel.shape[0] - x.shape[-1])])
    blocks = x.unfold(-1, kernel.shape[0], down)[:, :n_blocks]  # (batch, n_blocks, taps)
    return (blocks @ kernel).flatten(1)[:, :n_out]


def nearest_quartiles(x: Tensor, last: Tensor) -> Tensor:
    """Find quartiles as the nearest values that occur.

    Rows may count different numbers of values, which ``torch.quantile`` cannot do. It interpolates;
    among the 64 samples or more of a window that makes little difference.

    Parameters
    ----------
    x : Tensor
        (batch, n).
    last : Tensor
        (batch, 1), the highest rank that counts in each row, from 0; values that rank higher do
        not count.

    Returns
    -------
    Tensor
        (batch, 3), lower quartile, median and upper quartile.
    """
    parts = torch.stack((0.25 * last, 0.5 * last, 0.75 * last), -1)[:, 0]
    return x.sort(-1)[0].gather(1, parts.round().long())


@lru_cache(maxsize=16)
def spectral_basis(sfreq: float = F0, seconds: float = 1.0) -> tuple[Tensor, Tensor]:
    """Build Hann-windowed cosines and sines of up to 45 Hz over a segment, and their bands.

    A segment times the basis is its spectrum. One second gives a resolution of 1 Hz, which the
    narrowest band (delta, 3 Hz) needs; 45 Hz is where the stores' signals end.

    Parameters
    ----------
    sfreq : float
        Sampling rate of the segments in Hz.
    seconds : float
        Length of a segment.

    Returns
    -------
    basis : Tensor
        (round(sfreq * seconds), 2 * n_bins), float64: the cosines, then the sines, of the multiples
        of ``1 / seconds`` Hz up to 45 Hz.
    in_band : Tensor
        (2 * n_bins, 5) float64, 1 where a frequency is in a band and below the Nyquist frequency,
        else 0.
    """
    n = round(sfreq * seconds)
    time = torch.arange(n, dtype=torch.float64) / sfreq
    freqs = torch.arange(1, int(N_BINS * seconds) + 1, dtype=torch.float64) / seconds
    window = torch.hann_window(n, dtype=torch.float64)
    angle = 2 * math.pi * time[:, None] * freqs
    basis = torch.cat((angle.cos(), angle.sin()), 1) * window[:, None]
    # One-sided power: a unit-variance signal has powers that sum to 1 over all frequencies.
    basis = basis * math.sqrt(2 / (n * float((window**2).sum())))
    sampled = freqs < 0.49 * sfreq  # not 0.5: at the Nyquist frequency the sine vanishes
    in_band = torch.stack(
        [(freqs >= low) & (freqs < high) & sampled for low, high in BANDS.values()], 1
    )
    return basis, torch.cat((in_band, in_band)).double()


class FrontEnd(nn.Module):
    """Resample windows to 128 Hz and scale them to unit spread; no parameters to learn.

    Every encoder starts with it, so that encoders differ in nothing but what follows.

    Parameters
    ----------
    sfreq : float or None
        Sampling rate in Hz of signals whose rate is not given with the call; 128 if None.
    resampling : {"off", "rate", "rate+content"}
        ``"off"`` feeds the samples as if they were taken at 128 Hz, whatever their rate; the other
        two are the same here.

    Raises
    ------
    ValueError
        If ``sfreq`` is negative.
    """

    kernel: Tensor
    basis: Tensor
    in_band: Tensor
    short_basis: Tensor
    short_in_band: Tensor

    def __init__(self, sfreq: float | None = None, resampling: Resampling = "rate"):
        super().__init__()
        self.adapts = resampling != "off"
        self.f0 = F0  # TorchScript reads attributes, not the module's constants
        self.sfreq = float(sfreq or F0)
        if self.sfreq <= 0:
            raise ValueError(f"ART: sfreq must be positive, got {sfreq} Hz.")
        self.up, self.down = rate_ratio(self.sfreq) if self.adapts else (1, 1)
        kernel, self.reach = resampling_kernel(self.up, self.down)
        basis, in_band = spectral_basis()
        short_basis, short_in_band = spectral_basis(seconds=BURST)
        self.burst_step = round(BURST_STEP * F0)
        for name, constant in (
            ("kernel", kernel),
            ("basis", basis),
            ("in_band", in_band),
            ("short_basis", short_basis),
            ("short_in_band", short_in_band),
        ):
            self.register_buffer(name, constant.to(torch.get_default_dtype()), persistent=False)

    def forward(
        self, x: Tensor, sfreq: float | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Bring windows to 128 Hz and unit spread.

        Parameters
        ----------
        x : Tensor
            (batch, n_times), microvolts, one channel per row. A row that is constant or holds a
            NaN or an infinity counts as zero.
        sfreq : float, optional
            The rate of this batch in Hz.
        mask : Tensor, optional
            (batch, n_times) bool, True where a sample was recorded.

        Returns
        -------
        z : Tensor
            (batch, n_times at 128 Hz), in spreads, between -20 and 20.
        side : Tensor
            (batch, 7), the power that scaling removed: see :class:`omfa.models.art.Encoded`.
        spectrum : Tensor
            (batch, 45), log power in bins of 1 Hz from 1 to 45 Hz, relative to the spread.
        mask : Tensor or None
            (batch, n_times at 128 Hz) bool, the mask at 128 Hz.

        Raises
        ------
        ValueError
            If a window is shorter than the resampling filter (0.5 s is always enough).
        """
        if torch.jit.is_scripting():
            return self.bring(x, sfreq, mask)
        else:
            with full_precision(x):
                return self.bring(x, sfreq, mask)

    def bring(
        self, x: Tensor, sfreq: float | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Do what :meth:`forward` does, in single precision at least."""
        # Half precision has 8 to 11 bits, too few for the power of a signal on an offset.
        if x.dtype == torch.float16 or x.dtype == torch.bfloat16:
            x = x.float()
        if mask is not None:
            # First of all, so that the values of absent samples have no effect.
            x = torch.where(mask, x, masked_mean(x, mask))
        x = torch.where(recorded(x)[:, None], x, torch.zeros_like(x))
        # Before resampling, or half precision would round away a signal on a large offset.
        x = x - x.mean(-1, keepdim=True)
        rate = self.sfreq if sfreq is None or not self.adapts else float(sfreq)
        y = self.to_f0(x, rate)
        if mask is not None:
            index = torch.arange(y.shape[-1], device=y.device) * x.shape[-1] // y.shape[-1]
            mask = mask[:, index]
        z, log_spread = self.scale(y, mask)
        fidelity = math.log(min(rate, self.f0) / self.f0) if self.adapts else 0.0
        bands, spectrum = self.log_powers(z, mask)
        side = torch.cat((log_spread, bands, torch.full_like(log_spread, fidelity)), -1)
        return z, side, spectrum, mask

    def to_f0(self, x: Tensor, sfreq: float) -> Tensor:
        """Resample (batch, n_times) from ``sfreq`` Hz to 128 Hz; ``"off"`` returns it as it is."""
        kernel, reach, up, down = self.kernel, self.reach, self.up, self.down
        if self.adapts and sfreq != self.sfreq:
            if torch.jit.is_scripting():
                raise ValueError("A scripted ART keeps the sampling rate it was built with.")
            else:
                up, down = rate_ratio(sfreq)
                kernel, reach = kernel_like(x, up, down)  # cached, for rates that vary by batch
        if up == down:
            return x
        return resample(x, kernel.to(x), reach, up, down)

    def scale(self, y: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Subtract the median and divide by the spread.

        The spread is the interquartile range as a standard deviation, but at least a tenth of the
        standard deviation, for signals that are flat half of the time. Values are limited to 20
        spreads, so that one artefact does not drive the whole window.

        Parameters
        ----------
        y : Tensor
            (batch, n), microvolts at 128 Hz.
        mask : Tensor or None
            (batch, n) bool, True where a sample was recorded.

        Returns
        -------
        z : Tensor
            (batch, n), in spreads; 0 where nothing was recorded.
        log_spread : Tensor
            (batch, 1), log of the spread over 10 microvolts.
        """
        if mask is None:
            quartiles = nearest_quartiles(y, torch.full_like(y[:, :1], y.shape[-1] - 1))
            sd = y.std(-1, unbiased=False, keepdim=True)
        else:
            last = (mask.sum(-1, keepdim=True) - 1).clamp(min=0).to(y.dtype)
            quartiles = nearest_quartiles(torch.where(mask, y, torch.full_like(y, math.inf)), last)
            quartiles = torch.nan_to_num(quartiles, posinf=0.0)  # of rows that are all absent
            sd = masked_mean((y - masked_mean(y, mask)) ** 2, mask).sqrt()
        low, centre, high = quartiles[:, 0:1], quartiles[:, 1:2], quartiles[:, 2:3]
        # A normal distribution's quartiles are 1.349 standard deviations apart.
        spread = torch.maximum((high - low) / 1.349, 0.1 * sd).clamp(min=1e-12)
        z = ((y - centre) / spread).clamp(-20.0, 20.0)
        if mask is not None:
            z = torch.where(mask, z, torch.zeros_like(z))
        return z, spread.log() - math.log(10.0)  # near 0 for EEG, whose spread is about 10 uV

    def log_powers(self, z: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Measure log powers by Welch's method, one-second Hann segments half overlapped.

        Parameters
        ----------
        z : Tensor
            (batch, n), in spreads at 128 Hz.
        mask : Tensor or None
            (batch, n) bool, True where a sample was recorded.

        Returns
        -------
        bands : Tensor
            (batch, 5), log power of delta, theta, alpha, beta and gamma, relative to the spread.
        bins : Tensor
            (batch, 45), log power in bins of 1 Hz, relative to the spread.
        """
        n = self.basis.shape[0]
        if z.shape[-1] < n:  # completed with zeros, and scaled to keep its power
            z = F.pad(z * math.sqrt(n / z.shape[-1]), [0, n - z.shape[-1]])
        spectrum = z.unfold(-1, n, n // 2) @ self.basis.to(z.dtype)  # (batch, n_segments, 2 * 45)
        power = (spectrum**2).mean(1)
        if mask is not None:
            power = power / mask.to(power.dtype).mean(-1, keepdim=True).clamp(min=1e-3)
        in_band = power @ self.in_band.to(power.dtype)
        cosines, sines = power.chunk(2, -1)
        # What is added keeps the log of nothing finite: 1e-4, and a tenth of it where a bin is a
        # few hundredths of the power at most. 2 and 4 bring EEG's powers to the order of 0.
        in_bin = (cosines + sines).to(z.dtype)
        return (in_band.to(z.dtype) + 1e-4).log() + 2.0, (in_bin + 1e-5).log() + 4.0

    def bursts(self, z: Tensor, mask: Tensor | None) -> Tensor:
        """Measure how unevenly the power of each band is spread over the window.

        The logarithm of the arithmetic over the geometric mean of the powers of short segments:
        what Bartlett's test (1937, Proc. R. Soc. A 160, 268-282) takes to ask whether variances are
        equal. Neither the power of a band nor the spectrum changes it.

        Parameters
        ----------
        z : Tensor
            (batch, n), in spreads at 128 Hz, as :meth:`forward` returns them.
        mask : Tensor or None
            (batch, n) bool, True where a sample was recorded.

        Returns
        -------
        Tensor
            (batch, 5), of delta, theta, alpha, beta and gamma, without unit. Narrow bands fluctuate
            by themselves: white noise has about 1.4, 0.9, 0.6, -0.2 and -0.2, and noise that is
            silent every other half second 2.8 in all.
        """
        if torch.jit.is_scripting():
            return self.unevenness(z, mask)
        else:
            with full_precision(z):
                return self.unevenness(z, mask)

    def unevenness(self, z: Tensor, mask: Tensor | None) -> Tensor:
        """Do what :meth:`bursts` does, in single precision at least."""
        n = self.short_basis.shape[0]
        pad = max(0, n - z.shape[-1])
        segments = F.pad(z, [0, pad]).unfold(-1, n, self.burst_step)
        power = (segments @ self.short_basis.to(z.dtype)) ** 2 @ self.short_in_band.to(z.dtype)
        power = power.transpose(1, 2) + 1e-4  # keeps the log of nothing finite
        if mask is None:
            uneven = power.mean(-1).log() - power.log().mean(-1)
        else:
            # Segments that hold absent samples would be silence between bursts.
            whole = F.pad(mask, [0, pad]).unfold(-1, n, self.burst_step).all(-1)[:, None]
            uneven = masked_mean(power, whole)[..., 0].clamp(min=1e-4).log()
            uneven = uneven - masked_mean(power.log(), whole)[..., 0]
            uneven = uneven * whole.any(-1)
        # By rounding it may be a little below 0. The logarithm evens out how far noise spreads it,
        # and what is added, of which 2 brings it to the order of 1, keeps it finite.
        return (uneven.clamp(min=0) + 0.01).log() + 2.0
