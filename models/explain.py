"""Pictures of what a model attends to: channels on the scalp, tokens over time.

:func:`channel_attention` reads the weights of the graph attention (``heads.py``), the share of each
channel in the messages of the last layer, and :func:`attention_topomap` draws them.
:func:`token_density` draws where ART places its tokens. Attention is what the model mixed, which
need not be what caused its answer (Jain & Wallace 2019, arXiv 1902.10186).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from omfa.models.heads import GATHead, GATv2


def channel_attention(model: Any, x: Tensor, **options: Any) -> Tensor:
    """Measure how much attention each channel receives in the last graph layer.

    Parameters
    ----------
    model : OMFA
        A model with ``head="gat"``.
    x : Tensor
        (batch, n_chans, n_times), microvolts.
    **options
        ``mask``, ``positions``, ``sfreq``, as the model's forward takes them.

    Returns
    -------
    Tensor
        (batch, n_chans), the attention that a channel receives from the present channels, averaged
        over heads; it sums to 1 over the channels and is 0 for absent ones.

    Raises
    ------
    ValueError
        If the model's head has no attention between channels.

    Examples
    --------
    >>> import mne, torch
    >>> from omfa.models import OMFA, channel_attention
    >>> info = mne.create_info(["Fp1", "C3", "C4", "O2"], 128.0, "eeg")
    >>> chs_info = info.set_montage("standard_1005", verbose="error")["chs"]
    >>> model = OMFA(n_outputs=2, chs_info=chs_info, n_times=256, sfreq=128.0, preset="tiny").eval()
    >>> channel_attention(model, 20 * torch.randn(3, 4, 256)).shape
    torch.Size([3, 4])
    """
    if not isinstance(model.head, GATHead):
        raise ValueError(
            f"channel_attention: the model's head is {type(model.head).__name__}, which does not "
            "attend between channels. Build the model with head='gat'."
        )
    caught: dict[str, Tensor] = {}

    # A hook, so that forward need not return weights that only this function reads.
    def catch(layer: GATv2, inputs: tuple[Tensor, Tensor, Tensor | None]) -> None:
        caught["weights"], caught["edges"] = layer.attention(*inputs), inputs[1]

    training = model.training
    hook = model.head.layers[-1].register_forward_pre_hook(catch)
    try:
        with torch.no_grad():
            model.eval()(x, **options)
    finally:
        hook.remove()
        model.train(training)
    present = caught["edges"][:, 0].to(caught["weights"].dtype)  # (batch, n_chans)
    # Rows of absent channels hold weights too, of messages that nothing reads.
    received = (caught["weights"].mean(1) * present[:, :, None]).sum(1) * present
    return received / received.sum(-1, keepdim=True).clamp(min=1e-12)


def attention_topomap(
    model: Any, x: Tensor, *, axes: Any = None, **options: Any
) -> tuple[Any, np.ndarray]:
    """Draw :func:`channel_attention`, averaged over the batch, on the scalp.

    Parameters
    ----------
    model : OMFA
        A model with ``head="gat"`` and channels whose positions are known.
    x : Tensor
        (batch, n_chans, n_times), microvolts.
    axes : matplotlib Axes, optional
        Where to draw; a new figure by default.
    **options
        ``mask``, ``positions``, ``sfreq``, as the model's forward takes them.

    Returns
    -------
    figure : matplotlib Figure
    attention : ndarray
        (n_chans,), shares times the number of channels: 1 is an even share.

    Raises
    ------
    ValueError
        If the head does not attend between channels, or a position is unknown.

    Examples
    --------
    >>> import mne, torch
    >>> from omfa.models import OMFA, attention_topomap
    >>> info = mne.create_info(["Fp1", "Fp2", "C3", "C4", "O1", "O2"], 128.0, "eeg")
    >>> chs_info = info.set_montage("standard_1005", verbose="error")["chs"]
    >>> model = OMFA(n_outputs=2, chs_info=chs_info, n_times=256, sfreq=128.0, preset="tiny").eval()
    >>> figure, weights = attention_topomap(model, 20 * torch.randn(3, 6, 256))
    >>> weights.shape
    (6,)
    """
    import matplotlib.pyplot as plt
    import mne

    positions = options.get("positions", model.positions)
    places = positions.detach().cpu().double().numpy()
    if places.shape != (x.shape[1], 3) or not np.isfinite(places).all():
        unknown = int((~np.isfinite(places).all(-1)).sum()) if places.ndim == 2 else "per-window"
        raise ValueError(
            f"attention_topomap: {unknown} positions of {x.shape[1]} channels are unknown. Build "
            "the model with chs_info that has them, or drop these channels."
        )
    attention = (channel_attention(model, x, **options).mean(0) * x.shape[1]).float().cpu().numpy()
    names = [f"{i}" for i in range(len(places))]
    info = mne.create_info(names, 100.0, "eeg")
    for ch, place in zip(info["chs"], places, strict=True):
        ch["loc"][:3] = place
    if axes is None:
        _, axes = plt.subplots(figsize=(4, 3.4))
    image, _ = mne.viz.plot_topomap(attention, info, axes=axes, show=False, cmap="viridis")
    figure = axes.figure
    figure.colorbar(image, ax=axes, shrink=0.7, label="attention received (1 = even share)")
    return figure, attention


def token_density(
    model: Any,
    x: Tensor,
    *,
    sfreq: float | None = None,
    axes: Any = None,
) -> tuple[Any, Tensor, Tensor]:
    """Draw one channel's signal with ART's tokens per second over it.

    Parameters
    ----------
    model : OMFA or ART
        ART, or a model whose encoder is ART.
    x : Tensor
        (n_times,) of one channel, microvolts.
    sfreq : float, optional
        Sampling rate of ``x`` in Hz, if not that of the model.
    axes : matplotlib Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    figure : matplotlib Figure
    times : Tensor
        (n_tokens,), the centres of the tokens in seconds.
    density : Tensor
        (n_tokens,), tokens per second at each: constant unless tokens are placed by content.

    Raises
    ------
    ValueError
        If the encoder has no adaptive resampler.

    Examples
    --------
    >>> import torch
    >>> from omfa.models import ART, token_density
    >>> figure, times, density = token_density(ART(), 20 * torch.randn(512), sfreq=128.0)
    >>> times.shape
    torch.Size([8])
    """
    import matplotlib.pyplot as plt

    encoder = getattr(model, "encoder", model)
    if not hasattr(encoder, "resampler"):
        raise ValueError(
            f"token_density: {type(encoder).__name__} does not place tokens. Use encoder='art'."
        )
    rate = sfreq or encoder.front_end.sfreq
    with torch.no_grad():
        times = encoder(x[None], sfreq).times[0]
    seconds = x.shape[-1] / rate
    # The share of each token in the window reaches half-way to its neighbours.
    edges = torch.cat(
        (times.new_zeros(1), (times[1:] + times[:-1]) / 2, times.new_tensor([seconds]))
    )
    density = 1 / edges.diff()
    if axes is None:
        _, axes = plt.subplots(figsize=(8, 2.6))
    axes.plot(np.arange(x.shape[-1]) / rate, x.detach().cpu().numpy(), lw=0.6, color="0.4")
    axes.set(xlabel="time (s)", ylabel="signal (µV)", xlim=(0, seconds))
    right = axes.twinx()
    right.stairs(density.cpu().numpy(), edges.cpu().numpy(), color="C1")
    right.plot(times.cpu().numpy(), density.cpu().numpy(), ".", color="C1")
    right.set(ylabel="tokens per second", ylim=(0, None))
    return axes.figure, times, density
