r"""Functional connectivity: how the channels of one window vary together, band by band.

An encoder of single channels cannot know it, and attention between its embeddings cannot either:
two sources may be coupled while the power of every channel stays as it is. For each pair of
channels and each band :class:`Connectivity` measures the complex coherency. Its real part is what
two channels share at the same time, its imaginary part what they share at a lag, which volume
conduction cannot fake (Nolte et al. 2004, Clin. Neurophysiol. 115, 2292-2307).

Spectra are Welch's: one-second Hann segments, half overlapped, whole hertz from 1 to 45. Each
channel is first taken against its neighbours (Hjorth 1975, Electroencephalogr. Clin. Neurophysiol.
39, 526-530): against a common reference nearly all coherency is the reference's own.

The paper's abstract names a graph attention network and no features of pairs of channels. Giving it
their coherency is this project's choice; ``docs/log.md`` has what it is worth.

Annotations here are evaluated (there is no ``from __future__ import annotations``), because
TorchScript cannot read them as text.
"""

import torch
from torch import Tensor, nn

from omfa.models import graph
from omfa.models.front_end import BANDS, F0, full_precision, spectral_basis

N_CONNECTIVITY = 2 * len(BANDS)  # features of a pair: real and imaginary part in every band
LARGEST = 0.98  # coherency is scaled to stay below 1, where its inverse tangent is infinite


def centred_basis(sfreq: float) -> Tensor:
    """Return the spectral basis with each segment's mean removed, zero above Nyquist.

    Parameters
    ----------
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    Tensor
        (round(sfreq), 90), float64: cosines, then sines, of 1-45 Hz.
    """
    basis, in_band = spectral_basis(sfreq)
    return (basis - basis.mean(0)) * in_band.sum(1)


def local_reference(present: Tensor, positions: Tensor) -> Tensor:
    """Return the matrix that subtracts from each channel the mean of its neighbours.

    Neighbours count by their distance, as in :func:`omfa.models.graph.distance_graph`.

    Parameters
    ----------
    present : Tensor
        (batch, n_chans) bool; absent channels are no neighbours.
    positions : Tensor
        (n_chans, 3) or (batch, n_chans, 3), metres, NaN where unknown.

    Returns
    -------
    Tensor
        (batch, n_chans, n_chans), to be multiplied with signals (batch, n_chans, ...); rows of
        absent channels are 0.
    """
    weights = graph.distance_graph(positions)
    itself = torch.eye(present.shape[1], dtype=torch.bool, device=present.device)
    neighbours = present[:, None, :] & ~itself
    weights = torch.where(neighbours, weights, torch.zeros_like(weights))
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-12)
    return (itself.to(weights.dtype) - weights) * present[..., None].to(weights.dtype)


class Connectivity(nn.Module):
    """Coherency of all pairs of channels; no parameters.

    Parameters
    ----------
    sfreq : float or None
        Sampling rate in Hz of signals whose rate is not given with the call; 128 if None.
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
        """Measure the coherency of windows.

        Parameters
        ----------
        x : Tensor
            (batch, n_chans, n_times), in any unit, which coherency does not depend on.
        present : Tensor
            (batch, n_chans) bool, True for channels that are present.
        positions : Tensor
            (n_chans, 3) or (batch, n_chans, 3), metres, NaN where unknown. Without any, the
            neighbours of a channel are all others.
        sfreq : float, optional
            The rate of this batch in Hz, if not the one it was built with.

        Returns
        -------
        Tensor
            (batch, n_chans, n_chans, 10): Fisher's z of the real parts in five bands, then of the
            imaginary parts; [i, j] is the conjugate of [j, i]. 0 where a channel is absent, and on
            the diagonal.
        """
        if torch.jit.is_scripting():
            return self.measure(x, present, positions, sfreq)
        else:
            with full_precision(x):
                return self.measure(x, present, positions, sfreq)

    def measure(self, x: Tensor, present: Tensor, positions: Tensor, sfreq: float | None) -> Tensor:
        """Do what :meth:`forward` does, in single precision at least."""
        # Half precision has 8 to 11 bits, too few for the power of a signal on an offset.
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
        # Referencing is linear: it costs less on the spectra than on the longer signals.
        spectrum = local_reference(present, positions.to(x.dtype)) @ spectrum.flatten(2)
        spectrum = spectrum.view(x.shape[0], x.shape[1], -1, 2, basis.shape[1] // 2)
        real: list[Tensor] = []
        lagged: list[Tensor] = []
        for low, high in self.bands:
            part = spectrum[..., low - 1 : high - 1]  # the first bin is 1 Hz
            # Summed over segments and frequencies. With S = C - iD, the cross-spectrum S_i S_j* has
            # the real part C_i C_j + D_i D_j and the imaginary part C_i D_j - D_i C_j.
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
