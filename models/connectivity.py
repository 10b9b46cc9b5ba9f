r"""Functional connectivity: how the channels of one window vary together, band by band.

An encoder of single channels cannot know it, and attention between its embeddings cannot either:
two sources may be coupled while the power of every channel stays as it is. For each pair of
channels and each band this gives the complex coherency, whose real part tells what is shared at
once and whose imaginary part what is shared at a lag, which volume conduction cannot fake (Nolte et
al. 2004, Clin. Neurophysiol. 115, 2292-2307).

Spectra are Welch's: one-second Hann segments, half overlapped, whole hertz from 1 to 45. Each
channel is first taken against its neighbours (Hjorth 1975, Electroencephalogr. Clin. Neurophysiol.
39, 526-530): against a common reference nearly all coherency is the reference's own.

The paper's abstract names a graph attention network and not what it knows of pairs of channels;
that it is told their coherency is this project's choice, measured in ``docs/results.md``.
"""

import torch
from torch import Tensor, nn

from omfa.models import graph
from omfa.models.front_end import BANDS, F0, spectral_basis

N_CONNECTIVITY = 2 * len(BANDS)
LARGEST = 0.98  # coherency is held within it, so that its inverse tangent is finite


class Connectivity(nn.Module):
    """Coherency of all pairs of channels; no parameters.

    Parameters
    ----------
    sfreq : float or None
        Sampling rate in Hz of signals whose rate is not given with the call; None reads them as
        128.
    """

    basis: Tensor

    def __init__(self, sfreq: float | None = None):
        super().__init__()
        self.sfreq = float(sfreq or F0)
        self.bands = list(BANDS.values())
        self.largest = LARGEST  # TorchScript reads attributes, not the module's constants
        basis = centred_basis(self.sfreq).to(torch.get_default_dtype())
        self.register_buffer("basis", basis, persistent=False)

    def forward(
        self, x: Tensor, present: Tensor, positions: Tensor, sfreq: float | None = None
    ) -> Tensor:
        """Measure windows.

        Parameters
        ----------
        x : Tensor
            (batch, n_chans, n_times), in any unit.
        present : Tensor
            (batch, n_chans) bool.
        positions : Tensor
            (n_chans, 3) or (batch, n_chans, 3), metres, NaN where unknown. Without any, the
            neighbours of a channel are all others.
        sfreq : float, optional
            The rate of this batch in Hz.

        Returns
        -------
        Tensor
            (batch, n_chans, n_chans, 10): Fisher's z of the real parts in five bands, then of the
            imaginary parts; [i, j] is the conjugate of [j, i]. 0 where a channel is absent, and on
            the diagonal.
        """
        if x.dtype == torch.float16 or x.dtype == torch.bfloat16:
            x = x.float()
        basis = self.basis
        if sfreq is not None and sfreq != self.sfreq:
            if torch.jit.is_scripting():
                raise ValueError("A scripted OMFA keeps the sampling rate it was built with.")
            else:
                basis = centred_basis(float(sfreq))
        basis = basis.to(x)
        x = torch.where(present[..., None], x, torch.zeros_like(x))
        x = x - x.mean(-1, keepdim=True)  # or half precision rounds signals on an offset away
        n = basis.shape[0]
        if x.shape[-1] < n:
            x = nn.functional.pad(x, [0, n - x.shape[-1]])
        spectrum = x.unfold(-1, n, max(1, n // 2)) @ basis  # (batch, n_chans, n_segments, 90)
        spectrum = local_reference(present, positions.to(x.dtype)) @ spectrum.flatten(2)
        spectrum = spectrum.view(x.shape[0], x.shape[1], -1, 2, basis.shape[1] // 2)
        real: list[Tensor] = []
        lagged: list[Tensor] = []
        for low, high in self.bands:
            part = spectrum[..., low - 1 : high - 1]
            cosine, sine = part[:, :, :, 0].flatten(2), part[:, :, :, 1].flatten(2)
            in_phase = cosine @ cosine.transpose(1, 2) + sine @ sine.transpose(1, 2)
            quadrature = cosine @ sine.transpose(1, 2)
            quadrature = quadrature - quadrature.transpose(1, 2)
            power = torch.diagonal(in_phase, 0, 1, 2)
            scale = torch.where(power > 0, power, torch.ones_like(power)).rsqrt()
            scale = scale[:, :, None] * scale[:, None]
            real.append(in_phase * scale)
            lagged.append(quadrature * scale)
        coherency = torch.stack(real + lagged, -1).clamp(-1.0, 1.0)
        itself = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        return torch.atanh(coherency * self.largest).masked_fill(itself[..., None], 0.0)


def centred_basis(sfreq: float) -> Tensor:
    """Spectral basis that takes no notice of a segment's mean, nor of what a rate cannot tell."""
    basis, in_band = spectral_basis(sfreq)
    return (basis - basis.mean(0)) * in_band.sum(1)


def local_reference(present: Tensor, positions: Tensor) -> Tensor:
    """Return (batch, n, n): each present channel less the mean of its neighbours, by distance."""
    weights = graph.distance_graph(positions)
    itself = torch.eye(present.shape[1], dtype=torch.bool, device=present.device)
    heard = present[:, None, :] & ~itself
    weights = torch.where(heard, weights, torch.zeros_like(weights))
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-12)
    return (itself.to(weights.dtype) - weights) * present[..., None].to(weights.dtype)
