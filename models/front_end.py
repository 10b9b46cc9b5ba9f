"""Any rate to 128 Hz, any amplitude to unit spread: what ART does before it makes tokens."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Resampling = Literal["off", "rate", "rate+content"]

RESAMPLING: tuple[Resampling, ...] = ("off", "rate", "rate+content")

F0 = 128.0  # Hz, the rate at which every signal meets the stem

ZEROS, ROLLOFF, BETA = 16, 0.95, 8.0  # half-width in zero crossings, pass band, Kaiser shape

BANDS = {"delta": (1, 4), "theta": (4, 8), "alpha": (8, 13), "beta": (13, 30), "gamma": (30, 46)}

N_SIDE = 2 + len(BANDS)


def recorded(x: Tensor) -> Tensor:
    """Tell which signals carry anything.

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
    low, high = x.amin(-1), x.amax(-1)
    return torch.isfinite(high - low) & (high > low)


def rate_ratio(sfreq: float) -> tuple[int, int]:
    """Return (up, down) so that 128 Hz is ``sfreq * up / down``, within one part in a million."""
    ratio = Fraction(F0 / sfreq).limit_denominator(2000)
    return ratio.numerator, ratio.denominator


@lru_cache(maxsize=64)
def resampling_kernel(up: int, down: int) -> tuple[Tensor, int]:
    r"""Polyphase form of the Kaiser-windowed sinc that takes ``down`` samples to ``up``.

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
        Samples that an output looks to either side.
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


def resample(x: Tensor, kernel: Tensor, reach: int, up: int, down: int) -> Tensor:
    """Apply a kernel of :func:`resampling_kernel`, the ends mirrored through their last points.

    Parameters
    ----------
    x : Tensor
        (batch, n_times).
    kernel, reach, up, down
        As :func:`resampling_kernel` takes and gives them.

    Returns
    -------
    Tensor
        (batch, round(n_times * up / down)).
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
    # Zeros only complete the last block; outputs that would see them are cut off again.
    x = F.pad(x, [0, max(0, (n_blocks - 1) * down + kernel.shape[0] - x.shape[-1])])
    blocks = x.unfold(-1, kernel.shape[0], down)[:, :n_blocks]  # (batch, n_blocks, taps)
    return (blocks @ kernel).flatten(1)[:, :n_out]


@lru_cache(maxsize=16)
def spectral_basis(sfreq: float = F0) -> tuple[Tensor, Tensor]:
    """Hann-windowed cosines and sines of 1-45 Hz over one second, and the band of each.

    Returns
    -------
    basis : Tensor
        (round(sfreq), 90), float64: the cosines, then the sines.
    in_band : Tensor
        (90, 5), 1 where a frequency is in a band, and can be told at this rate.
    """
    n = round(sfreq)
    time = torch.arange(n, dtype=torch.float64) / sfreq
    freqs = torch.arange(1, 46, dtype=torch.float64)
    window = torch.hann_window(n, dtype=torch.float64)
    angle = 2 * math.pi * time[:, None] * freqs
    basis = torch.cat((angle.cos(), angle.sin()), 1) * window[:, None]
    # One-sided power: a unit-variance signal has powers that sum to 1 over all frequencies.
    basis = basis * math.sqrt(2 / (n * float((window**2).sum())))
    told = freqs < 0.49 * sfreq
    in_band = torch.stack(
        [(freqs >= low) & (freqs < high) & told for low, high in BANDS.values()], 1
    )
    return basis, torch.cat((in_band, in_band)).double()


class FrontEnd(nn.Module):
    """Steps 1 and 2, shared by every encoder: any rate to 128 Hz, any amplitude to unit spread.

    Parameters
    ----------
    sfreq : float or None
        Sampling rate in Hz of signals whose rate is not given with the call; None reads them as
        128.
    resampling : str
        ``"off"`` feeds the samples as if they were taken at 128 Hz, whatever their rate.
    """

    kernel: Tensor
    basis: Tensor
    in_band: Tensor

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
        for name, constant in (("kernel", kernel), ("basis", basis), ("in_band", in_band)):
            self.register_buffer(name, constant.to(torch.get_default_dtype()), persistent=False)

    def forward(
        self, x: Tensor, sfreq: float | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Bring windows to 128 Hz and unit spread.

        Parameters
        ----------
        x : Tensor
            (batch, n_times), microvolts.
        sfreq : float, optional
            The rate of this batch in Hz.
        mask : Tensor, optional
            (batch, n_times) bool, True where a sample was recorded.

        Returns
        -------
        z : Tensor
            (batch, n_frames), at 128 Hz.
        side : Tensor
            (batch, 7), see :class:`Encoded`.
        mask : Tensor or None
            (batch, n_frames), the mask at 128 Hz.
        """
        if x.dtype == torch.float16 or x.dtype == torch.bfloat16:
            x = x.float()
        if mask is not None:
            # Filled before anything looks at them, so what stands in absent samples has no effect.
            x = torch.where(mask, x, masked_mean(x, mask))
        x = torch.where(recorded(x)[:, None], x, torch.zeros_like(x))
        x = x - x.mean(
            -1, keepdim=True
        )  # first, or half precision rounds signals on an offset away
        rate = self.sfreq if sfreq is None or not self.adapts else float(sfreq)
        y = self.to_f0(x, rate)
        if mask is not None:
            index = torch.arange(y.shape[-1], device=y.device) * x.shape[-1] // y.shape[-1]
            mask = mask[:, index]
        z, log_spread = self.scale(y, mask)
        fidelity = math.log(min(rate, self.f0) / self.f0) if self.adapts else 0.0
        side = torch.cat(
            (log_spread, self.log_band_powers(z, mask), torch.full_like(log_spread, fidelity)), -1
        )
        return z, side, mask

    def to_f0(self, x: Tensor, sfreq: float) -> Tensor:
        """Resample (batch, n_times) from ``sfreq`` Hz to 128 Hz; nothing to do in mode ``off``."""
        kernel, reach, up, down = self.kernel, self.reach, self.up, self.down
        if self.adapts and sfreq != self.sfreq:
            if torch.jit.is_scripting():
                raise ValueError("A scripted ART keeps the sampling rate it was built with.")
            else:
                up, down = rate_ratio(sfreq)
                kernel, reach = resampling_kernel(up, down)  # cached, for rates that vary by batch
        if up == down:
            return x
        return resample(x, kernel.to(x), reach, up, down)

    def scale(self, y: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Centre on the median and divide by the spread; also give (batch, 1) log spread.

        The spread is the interquartile range as a standard deviation, but never under a tenth of
        the standard deviation, for signals that are flat half of the time. Values are held within
        20 spreads, so that one artefact does not drive the whole window.
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
        spread = torch.maximum((high - low) / 1.349, 0.1 * sd).clamp(min=1e-12)
        z = ((y - centre) / spread).clamp(-20.0, 20.0)
        if mask is not None:
            z = torch.where(mask, z, torch.zeros_like(z))
        return z, spread.log() - math.log(10.0)

    def log_band_powers(self, z: Tensor, mask: Tensor | None) -> Tensor:
        """Welch's band powers, one-second Hann segments half overlapped: (batch, n_bands)."""
        n = self.basis.shape[0]
        if z.shape[-1] < n:
            z = F.pad(z * math.sqrt(n / z.shape[-1]), [0, n - z.shape[-1]])
        spectrum = z.unfold(-1, n, n // 2) @ self.basis.to(z.dtype)  # (batch, n_segments, 2 * 45)
        power = (spectrum**2).mean(1) @ self.in_band.to(spectrum.dtype)
        if mask is not None:
            power = power / mask.to(power.dtype).mean(-1, keepdim=True).clamp(min=1e-3)
        return (power.to(z.dtype) + 1e-4).log() + 2.0


def nearest_quartiles(x: Tensor, last: Tensor) -> Tensor:
    """Return (batch, 3) quartiles of the values that rank 0 to ``last`` (batch, 1) in each row."""
    parts = torch.stack((0.25 * last, 0.5 * last, 0.75 * last), -1)[:, 0]
    return x.sort(-1)[0].gather(1, parts.round().long())


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the last axis, kept, of what ``mask`` marks True; 0 where there is nothing."""
    total = torch.where(mask, x, torch.zeros_like(x)).sum(-1, keepdim=True)
    return total / mask.sum(-1, keepdim=True).clamp(min=1)
