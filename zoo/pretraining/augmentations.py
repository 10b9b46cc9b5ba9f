"""Views of single-channel windows for contrastive pre-training, made in batches on their device.

Each function changes some rows of a batch (batch, n_times) in microvolts and draws from torch's
global generator, so a seed decides. Amplitude is not varied: every encoder here divides by the
window's spread first, so a factor would change nothing.

The list and its probabilities are this project's choice; the paper's abstract names none.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from omfa.models.front_end import kernel_like, resample
from omfa.zoo.pretraining.settings import Augmentations

RATES = (100.0, 160.0, 200.0, 250.0)
"""Hz that a view may be resampled to."""

STRETCH = (0.97, 0.98, 0.99, 1.01, 1.02, 1.03)
"""Factors of time."""


def augment(x: Tensor, sfreq: float, other: Tensor, chances: Augmentations) -> tuple[Tensor, float]:
    """Make a view of each row.

    Parameters
    ----------
    x : Tensor, shape (batch, n_times)
        Microvolts.
    sfreq : float
        Hz.
    other : Tensor, shape (batch, n_times)
        For each row another channel at the same time.
    chances : Augmentations

    Returns
    -------
    x : Tensor, shape (batch, n_times of the new rate)
    sfreq : float
        Hz, as the encoder is to read them.
    """
    if chances.rereference:
        x = torch.where(_some(x, chances.rereference), x - other, x)
    if chances.band_stop or chances.phase:
        x = change_spectrum(x, sfreq, chances.band_stop, chances.phase)
    # What is added is measured in the row's spread, by which the encoder divides.
    sd = x.std(-1, keepdim=True)
    if chances.drift:
        x = x + _some(x, chances.drift) * sd * slow_wave(x, sfreq)
    if chances.noise:
        amount = chances.noise_sd * torch.rand_like(sd) * _some(x, chances.noise)
        x = x + amount * sd * torch.randn_like(x)
    if chances.time_mask:
        x = torch.where(
            _some(x, chances.time_mask) & short_stretch(x, 0.75 * sfreq),
            x.mean(-1, keepdim=True),
            x,
        )
    # One draw decides on both, since a stretched odd rate would need a kernel of a million taps.
    draw = float(torch.rand(()))
    if draw < chances.rate:
        return change_rate(x, sfreq, RATES[int(torch.randint(len(RATES), ()))])
    if draw < chances.rate + chances.stretch:
        sfreq *= STRETCH[int(torch.randint(len(STRETCH), ()))]
    return x, sfreq


def _some(x: Tensor, chance: float) -> Tensor:
    """Choose rows by chance, shape (batch, 1)."""
    return torch.rand(len(x), 1, device=x.device) < chance


def change_rate(x: Tensor, sfreq: float, wanted: float) -> tuple[Tensor, float]:
    """Resample rows by the kernel that the encoder resamples with.

    Parameters
    ----------
    x : Tensor, shape (batch, n_times)
        Microvolts.
    sfreq, wanted : float
        Hz, as the rows are and as they are to be.

    Returns
    -------
    x : Tensor, shape (batch, about n_times * wanted / sfreq)
    sfreq : float
        The new rate, a ratio of whole numbers up to 1000 times the old one.
    """
    ratio = Fraction(wanted / sfreq).limit_denominator(1000)
    if ratio == 1:
        return x, sfreq
    up, down = ratio.numerator, ratio.denominator
    kernel, reach = kernel_like(x, up, down)
    # The rate that was reached: the ratio is a rounded one.
    return resample(x, kernel, reach, up, down), sfreq * up / down


def change_spectrum(x: Tensor, sfreq: float, band_stop: float, phase: float) -> Tensor:
    """Remove a band from some rows and turn the phases of others, in one Fourier transform.

    Parameters
    ----------
    x : Tensor, shape (batch, n_times)
        Microvolts.
    sfreq : float
        Hz.
    band_stop, phase : float
        Chances of a row that each is done to it.

    Returns
    -------
    Tensor, shape (batch, n_times)
    """
    n_times = x.shape[-1]
    # In single precision: a CPU has no transform of half of it.
    spectrum = torch.fft.rfft(x.float())
    freqs = torch.fft.rfftfreq(n_times, 1 / sfreq, device=x.device)
    # The whole band lies between 5 and 42 Hz, inside the stores' usual 0.5 to 45 Hz.
    low = 5 + (42 - 5 - 5) * torch.rand(len(x), 1, device=x.device)
    high = low + 3 + 2 * torch.rand_like(low)
    inside = (freqs >= low) & (freqs <= high) & _some(x, band_stop)
    angle = 0.5 * torch.randn_like(spectrum.real) * _some(x, phase)
    gain = torch.where(inside, torch.zeros_like(angle), torch.ones_like(angle))
    return torch.fft.irfft(spectrum * torch.polar(gain, angle), n_times)


def slow_wave(x: Tensor, sfreq: float) -> Tensor:
    """Return a wave for each row, under 0.5 Hz and of amplitude up to 1, shape (batch, n_times)."""
    seconds = torch.arange(x.shape[-1], device=x.device) / sfreq
    frequency, phase, size = (torch.rand(len(x), 1, device=x.device) for _ in range(3))
    return size * torch.sin(2 * math.pi * (0.5 * frequency * seconds + phase))


def short_stretch(x: Tensor, longest: float) -> Tensor:
    """Mark a stretch of up to ``longest`` samples in each row, shape (batch, n_times)."""
    place = torch.arange(x.shape[-1], device=x.device)
    length = longest * torch.rand(len(x), 1, device=x.device)
    start = (x.shape[-1] - length) * torch.rand_like(length)
    return (place >= start) & (place < start + length)
