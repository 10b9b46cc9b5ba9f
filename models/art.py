"""ART, the Adaptive Resampling Transformer: one EEG channel in, one vector out.

Everything inside is indexed in seconds, so that the same weights serve windows of any length and
any sampling rate. Six steps; the first two are ``front_end.py``, the others are below:

1. *Rate resampler* (no parameters): Kaiser-windowed sinc to 128 Hz.
2. *Scale*: robust centre and spread per window. What scaling removes is kept as side features.
3. *Stem*: four strided convolutions, 128 Hz -> 2 frames a second.
4. *Adaptive resampler*: frames -> r tokens a second, evenly spaced or placed by content.
5. *Transformer* with rotary phases taken from the token times in seconds, and attention pooling.
6. *Paths of features*, beside steps 3 to 5: two layers from log power in bins of 1 Hz, and two from
   how unevenly the power of each band is spread over the window. The embedding is what all paths
   give, one beside the other.

The name, and that channels are encoded one by one, are from the abstract of arXiv 2511.08444, the
only part at hand when this was written, so each step is this project's reading of it. Rotary
phases are after Su et al. (2021, arXiv 2104.09864), SwiGLU after Shazeer (2020, arXiv 2002.05202),
drop-path after Huang et al. (2016, arXiv 1603.09382). ``docs/models.md`` gives the formulas and the
reasons.

Annotations here are evaluated (there is no ``from __future__ import annotations``), because
TorchScript cannot read them as text.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omfa.models.front_end import BANDS, F0, N_BINS, RESAMPLING, FrontEnd, Resampling

# Taps and strides of the stem's convolutions. All four give 2 frames a second, the first two 8:
# what was trained before there were four keeps those (docs/log.md has the measurements).
TAPS, STRIDES = (33, 9, 5, 5), (4, 4, 2, 2)

# Tokens, and seconds, per turn of the fastest and the slowest rotary phase. A phase that turned
# once or more from one token to the next would be blind to it or take it for another step; twice
# the longest window (60 s) gives no two times in a window the same phases.
FASTEST_TOKENS, SLOWEST_SECONDS = 2.0, 120.0

# Samples that one pass of the encoder may hold on a CPU. Larger batches go through in slices: the
# activations then stay in cache and below malloc's mmap threshold, which takes a third off a step.
CPU_SLICE = 256 * 512


class Encoded(NamedTuple):
    """What an encoder returns for ``batch`` single-channel windows.

    Attributes
    ----------
    h : Tensor
        (batch, ``encoder.dim``), the embedding of the window: of ART, what the tokens were pooled
        to, then what its paths of the spectrum and of bursts give.
    tokens : Tensor
        (batch, n_tokens, dim), the tokens that ``h`` was pooled from.
    times : Tensor
        (batch, n_tokens), the centres of the tokens in seconds from the start of the window.
    side : Tensor
        (batch, 7), the power that scaling removed: log spread (of microvolts, about 10), log power
        of delta, theta, alpha, beta, gamma relative to the spread, and log(min(sfreq, 128) / 128).

    Examples
    --------
    >>> import torch
    >>> from omfa.models import ART
    >>> found = ART()(torch.randn(2, 512), sfreq=128.0)
    >>> found.times.shape, found.side.shape
    (torch.Size([2, 8]), torch.Size([2, 7]))
    """

    h: Tensor
    tokens: Tensor
    times: Tensor
    side: Tensor


class Stem(nn.Sequential):
    """Strided convolutions: (batch, 1, n) at 128 Hz -> (batch, dim, n / 64) at 2 frames/s.

    The 33 taps of the first layer, a quarter of a second, are a learned filter bank. GroupNorm
    normalises over the whole window, so that the course of power within it is kept.

    Parameters
    ----------
    channels, dim : int
        Filters of the first and of the other convolutions, multiples of 8.
    activation : type of nn.Module
        Activation after each convolution.
    n_layers : int
        How many of the four; with the first two it is 8 frames/s.
    """

    def __init__(self, channels: int, dim: int, activation: type[nn.Module], n_layers: int):
        layers: list[nn.Module] = []
        n_in, width = 1, channels
        for taps, stride in zip(TAPS[:n_layers], STRIDES[:n_layers], strict=True):
            layers += [
                nn.Conv1d(n_in, width, taps, stride=stride, padding=taps // 2),
                nn.GroupNorm(8, width),
                activation(),
            ]
            n_in, width = width, dim
        super().__init__(*layers)


class FeaturePath(nn.Sequential):
    """Two layers on features that are measured of a window: (batch, n_features) -> (batch, dim).

    Waves whose frequencies differ by a few Hz are hard to tell for convolutions, and so is whether
    a rhythm comes in bursts or runs on evenly; pre-training does not teach them to. Powers in bins
    of 1 Hz, and how unevenly power is spread over the window, tell both (``docs/log.md``). Each
    such path has its own part of the embedding: added to the stem's frames the spectrum keeps the
    stem from learning, and among 45 powers five numbers of bursts are lost.

    Parameters
    ----------
    n_features : int
        How many are measured.
    dim : int
        Width of both layers.
    activation : type of nn.Module
        Activation between them.
    """

    def __init__(self, n_features: int, dim: int, activation: type[nn.Module]):
        super().__init__(
            nn.Linear(n_features, dim), nn.LayerNorm(dim), activation(), nn.Linear(dim, dim)
        )


class AdaptiveResampler(nn.Module):
    r"""Frames to tokens by Gaussian soft assignment around token centres.

    With density :math:`\rho_f`, the cumulated density :math:`C(t)` from 0 to 1 gives the centres
    :math:`c_l = C^{-1}((l - 1/2)/L)`, and frame f weighs
    :math:`\exp(-(t_f - c_l)^2 / 2\sigma_l^2)` with :math:`\sigma_l = \kappa (D/L) / \rho(c_l)`.
    Uniform tokens have :math:`\rho = 1`. By content, :math:`\rho_f = \exp(\ln 3 \tanh(\alpha
    g(z_f)))`: between a third and three times as dense as uniform.

    Parameters
    ----------
    dim : int
        Features per frame.
    tokens_per_second : float
        r; a window of D seconds gives ``ceil(r D - 1/2)`` tokens, at least one. The half keeps one
        sample more from adding a token.
    by_content : bool
        Place the tokens by a learned density.
    activation : type of nn.Module
        Activation of the two-layer network g.
    frame_seconds : float
        From one frame to the next.

    Raises
    ------
    ValueError
        If ``tokens_per_second`` is not positive.
    """

    def __init__(
        self,
        dim: int,
        tokens_per_second: float,
        by_content: bool,
        activation: type[nn.Module],
        frame_seconds: float,
    ):
        super().__init__()
        if tokens_per_second <= 0:
            raise ValueError(f"ART: tokens_per_second must be positive, got {tokens_per_second}.")
        self.tokens_per_second = float(tokens_per_second)
        self.frame_seconds = frame_seconds
        self.kappa = 1 / 3  # neighbouring tokens overlap, and every frame counts in one at least
        self.density = (
            nn.Sequential(nn.Linear(dim, dim // 2), activation(), nn.Linear(dim // 2, 1))
            if by_content
            else None
        )
        # Nearly uniform at the start. Not exactly: at alpha = 0 no gradient would reach g.
        self.alpha = nn.Parameter(torch.tensor(0.1)) if by_content else None

    def n_tokens(self, seconds: float) -> int:
        """Return the number of tokens of a window of ``seconds``."""
        return max(1, math.ceil(self.tokens_per_second * seconds - 0.5))

    def log_density(self, frames: Tensor) -> Tensor | None:
        """Return log rho (batch, n_frames) of frames (batch, n_frames, dim); None if uniform."""
        if self.density is None or self.alpha is None:
            return None
        return math.log(3.0) * torch.tanh(self.alpha * self.density(frames).squeeze(-1))

    def forward(self, frames: Tensor, seconds: float) -> tuple[Tensor, Tensor]:
        """Pool frames into tokens.

        Parameters
        ----------
        frames : Tensor
            (batch, n_frames, dim), evenly spaced.
        seconds : float
            D, the length of the window.

        Returns
        -------
        tokens : Tensor
            (batch, n_tokens, dim).
        times : Tensor
            (1 or batch, n_tokens), the centres in seconds, float32 at least.
        """
        n_frames, n_tokens = frames.shape[1], self.n_tokens(seconds)
        exact = torch.promote_types(frames.dtype, torch.float32)  # seconds need more than 8 bits
        ranks = (torch.arange(n_tokens, device=frames.device, dtype=exact) + 0.5) / n_tokens
        width = self.kappa * seconds / n_tokens
        log_density = self.log_density(frames)
        if log_density is None:
            times = (ranks * seconds)[None]
            widths = torch.full_like(times, width)
        else:
            density = log_density.to(exact).exp()
            places, at = invert_density(density, ranks)
            times = places * seconds
            widths = width / density.gather(1, at)
        frame_times = torch.arange(n_frames, device=frames.device, dtype=exact)
        distance = (frame_times * self.frame_seconds - times[..., None]) / widths[..., None]
        weights = torch.softmax(-0.5 * distance**2, -1).to(frames.dtype)
        return weights @ frames, times


def invert_density(density: Tensor, ranks: Tensor) -> tuple[Tensor, Tensor]:
    """Find where the cumulated density reaches each rank.

    Parameters
    ----------
    density : Tensor
        (batch, n_frames), positive, constant within a frame.
    ranks : Tensor
        (n_tokens,), between 0 and 1.

    Returns
    -------
    places : Tensor
        (batch, n_tokens), fractions of the window, between 0 and 1.
    at : Tensor
        (batch, n_tokens) int64, the frame in which each place lies.
    """
    n_frames = density.shape[-1]
    total = density.cumsum(-1)
    edges = F.pad(total / total[:, -1:], [1, 0])  # (batch, n_frames + 1), 0 to 1
    wanted = ranks.expand(density.shape[0], -1).contiguous()
    # Which frame a rank falls into has no gradient; where in the frame it falls has.
    at = (edges_below(edges.detach(), wanted) - 1).clamp(0, n_frames - 1)
    low, high = edges.gather(1, at), edges.gather(1, at + 1)
    return (at + (wanted - low) / (high - low)) / n_frames, at


def edges_below(edges: Tensor, wanted: Tensor) -> Tensor:
    """Count for each value the edges that are not above it.

    Parameters
    ----------
    edges : Tensor
        (batch, n_edges), ascending.
    wanted : Tensor
        (batch, n), contiguous.

    Returns
    -------
    Tensor
        (batch, n) int64.
    """
    if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript skips what stands under it alone
        if torch.compiler.is_compiling():  # ONNX has no search
            return (edges[:, None, :] <= wanted[..., None]).sum(-1)
    return torch.searchsorted(edges, wanted, right=True)


def rotary_turns(
    times: Tensor,
    head_dim: int,
    dtype: torch.dtype,
    fastest: float,
    slowest: float = SLOWEST_SECONDS,
) -> Tensor:
    """Compute the cosine and sine of the phases of each token.

    Parameters
    ----------
    times : Tensor
        (batch, n_tokens), seconds or any other unit of position.
    head_dim : int
        Features per attention head, two to a phase.
    dtype : torch.dtype
        Type of the result; phases are computed in the type of ``times``.
    fastest, slowest : float
        Period of the first and of the last phase, in the unit of ``times``; those between are
        spaced geometrically.

    Returns
    -------
    Tensor
        (2, batch, n_tokens, 1, head_dim / 2).
    """
    n = head_dim // 2
    fast, slow = math.log(2 * math.pi / fastest), math.log(2 * math.pi / slowest)
    step = torch.arange(n, device=times.device, dtype=times.dtype) / max(1, n - 1)
    phase = times[..., None, None] * torch.exp(fast + (slow - fast) * step)
    return torch.stack((phase.cos(), phase.sin())).to(dtype)


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Rotate (batch, n_tokens, n_heads, head_dim) by the phases of :func:`rotary_turns`."""
    a, b = x.chunk(2, -1)
    cos, sin = turns[0].to(x.dtype), turns[1].to(x.dtype)
    turned = (torch.addcmul(a * cos, b, sin, value=-1.0), torch.addcmul(a * sin, b, cos))
    return torch.cat(turned, -1)


def drop_path(x: Tensor, drop_prob: float, training: bool) -> Tensor:
    """Zero a residual branch (batch, n, dim) for whole rows of the batch, at random, in training.

    Rows that stay are scaled by ``1 / (1 - drop_prob)``, so that the mean is as without it.
    """
    if drop_prob == 0.0 or not training:
        return x
    keep = torch.rand([x.shape[0], 1, 1], device=x.device, dtype=x.dtype) >= drop_prob
    return x * keep / (1.0 - drop_prob)


def mask_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a mask into a bias on attention scores.

    Parameters
    ----------
    mask : Tensor
        (...) bool, True for what may be attended to.
    dtype : torch.dtype
        Type of the scores.

    Returns
    -------
    Tensor
        (...), 0 where the mask is True, else -30,000: enough to make a weight 0 after softmax, and
        finite, so that a row with nothing to attend to gives no NaN.
    """
    blocked = torch.full([1], -3e4, dtype=dtype, device=mask.device)  # float16 ends at -65,504
    return torch.where(mask, torch.zeros_like(blocked), blocked)


class Block(nn.Module):
    """Pre-norm transformer block: attention with rotary phases, then SwiGLU.

    LayerNorm stands where RMSNorm might: PyTorch has it as one CPU kernel, five times faster there.

    Parameters
    ----------
    dim, n_heads : int
        Width, and attention heads; ``dim / n_heads`` must be even.
    drop_prob, drop_path_prob : float
        Dropout on each branch; chance that a row skips a branch.
    """

    def __init__(self, dim: int, n_heads: int, drop_prob: float, drop_path_prob: float = 0.0):
        super().__init__()
        self.dim, self.n_heads, self.head_dim = dim, n_heads, dim // n_heads
        self.drop_prob, self.drop_path_prob = drop_prob, drop_path_prob
        # 8/3 dim, so that three matrices have as many weights as the usual two of 4 dim; rounded up
        # to the vectors of a CPU.
        hidden = -(-8 * dim // 48) * 16
        self.attention_norm = nn.LayerNorm(dim, bias=False)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.attention_out = nn.Linear(dim, dim, bias=False)
        self.mlp_norm = nn.LayerNorm(dim, bias=False)
        self.mlp_in = nn.Linear(dim, 2 * hidden, bias=False)
        self.mlp_out = nn.Linear(hidden, dim, bias=False)
        self.dropout = nn.Dropout(drop_prob)
        # Blocks begin close to the identity, or a short training hardly gets past them
        # (docs/log.md). Not at 0: no gradient would reach what is before these.
        with torch.no_grad():
            for last in (self.attention_out, self.mlp_out):
                last.weight.mul_(0.01)

    def forward(self, x: Tensor, turns: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Mix tokens.

        Parameters
        ----------
        x : Tensor
            (batch, n_tokens, dim).
        turns : Tensor, optional
            Phases from :func:`rotary_turns`; without, the tokens are a set.
        mask : Tensor, optional
            (batch, n_tokens) bool, True for tokens to attend to.

        Returns
        -------
        Tensor
            (batch, n_tokens, dim).
        """
        x = x + self.branch(self.attend(self.attention_norm(x), turns, mask))
        gate, value = self.mlp_in(self.mlp_norm(x)).chunk(2, -1)
        return x + self.branch(self.mlp_out(F.silu(gate) * value))

    def branch(self, x: Tensor) -> Tensor:
        """Apply dropout and drop-path to a residual branch (batch, n_tokens, dim)."""
        return drop_path(self.dropout(x), self.drop_path_prob, self.training)

    def attend(self, x: Tensor, turns: Tensor | None, mask: Tensor | None) -> Tensor:
        """Attend over the tokens of each row; arguments and result as :meth:`forward`."""
        batch, n_tokens = x.shape[0], x.shape[1]
        qk, v = self.qkv(x).split((2 * self.dim, self.dim), -1)
        qk = qk.view(batch, n_tokens, 2 * self.n_heads, self.head_dim)
        if turns is not None:
            qk = rotate(qk, turns)
        q, k = qk.transpose(1, 2).chunk(2, 1)  # (batch, n_heads, n_tokens, head_dim)
        v = v.view(batch, n_tokens, self.n_heads, self.head_dim).transpose(1, 2)
        bias = None if mask is None else mask_bias(mask, q.dtype)[:, None, None, :]
        dropout = self.drop_prob if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
        return self.attention_out(out.transpose(1, 2).reshape(batch, n_tokens, self.dim))


class AttentionPool(nn.Module):
    """Weighted mean over a set, the weights from one learned query per head.

    Parameters
    ----------
    dim, n_heads : int
        Width of the members and of the result, shared out over the heads.
    """

    def __init__(self, dim: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Linear(dim, n_heads, bias=False)
        self.value = nn.Linear(dim, dim)

    def weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the weights (batch, n_heads, n) of x (batch, n, dim), summing to 1 over n."""
        score = self.query(x).transpose(1, 2)
        if mask is not None:
            score = score + mask_bias(mask, score.dtype)[:, None, :]
        return torch.softmax(score, -1).to(x.dtype)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool (batch, n, dim) to (batch, dim); ``mask`` (batch, n) is True for what counts."""
        value = self.value(x).view(x.shape[0], x.shape[1], self.n_heads, -1).transpose(1, 2)
        return (self.weights(x, mask).to(value.dtype)[:, :, None, :] @ value).flatten(1)


def in_slices(
    encode: Callable[[Tensor, float | None, Tensor | None], Encoded],
    x: Tensor,
    sfreq: float | None,
    mask: Tensor | None,
) -> Encoded:
    """Encode the rows of a batch, on a CPU in slices that stay in its cache.

    Compiled and exported graphs, and GPUs, take the batch whole.

    Parameters
    ----------
    encode : callable
        ``encode(x, sfreq, mask) -> Encoded``.
    x : Tensor
        (batch, n_times), microvolts.
    sfreq : float or None
        Sampling rate of this batch in Hz.
    mask : Tensor or None
        (batch, n_times) bool.

    Returns
    -------
    Encoded
        As ``encode`` gives it, for the whole batch.
    """
    # Asked first: a comparison with the size of the batch would tie an exported graph to it.
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return encode(x, sfreq, mask)
    rows = max(1, CPU_SLICE // max(1, x.shape[-1]))
    if x.shape[0] <= rows:
        return encode(x, sfreq, mask)
    masks = [None] * x.shape[0] if mask is None else mask.split(rows)
    parts = [encode(part, sfreq, m) for part, m in zip(x.split(rows), masks, strict=False)]
    return Encoded(*(torch.cat(part) for part in zip(*parts, strict=True)))


class ART(nn.Module):
    """Adaptive Resampling Transformer, the univariate encoder.

    Parameters
    ----------
    dim : int
        Width of tokens and embedding.
    n_layers, n_heads : int
        Depth, and attention heads.
    stem_channels : int
        Filters of the first convolution, a multiple of 8.
    stem_layers : int
        Convolutions of the stem, 2 to 4.
    tokens_per_second : float
        Tokens for every second of signal.
    resampling : {"off", "rate", "rate+content"}
        ``"off"`` feeds samples as if they were at 128 Hz; ``"rate"`` resamples to 128 Hz and spaces
        the tokens evenly; ``"rate+content"`` also places them by a learned density.
    rotary : bool
        Turn queries and keys by the token times. Without, the tokens are a set.
    rotary_period : float, optional
        Seconds per turn of the fastest phase; two tokens when None.
    spectral, bursts : bool
        Also read the spectrum of the window, and how unevenly the power of each band is spread over
        it, each in a path of its own. They make the embedding wider, by ``dim`` and ``dim / 2``.
    sfreq : float, optional
        Sampling rate in Hz of signals whose rate is not given with the call; 128 when None.
    drop_prob, drop_path_prob : float
        Dropout, and the chance that a row skips a residual branch.
    activation : type of nn.Module
        Activation of the stem and of the density network.

    Raises
    ------
    ValueError
        If a size does not divide, or ``resampling`` is not one of the three.

    Notes
    -----
    Method: this project's reading of ART in Li, Li & Zhang (2025), "One Model for All", arXiv
    2511.08444; rotary phases after Su et al. (2021), SwiGLU after Shazeer (2020).

    Examples
    --------
    >>> import torch
    >>> from omfa.models import ART
    >>> found = ART()(torch.randn(2, 512), sfreq=128.0)
    >>> found.h.shape, found.tokens.shape
    (torch.Size([2, 640]), torch.Size([2, 8, 256]))
    """

    def __init__(
        self,
        *,
        dim: int = 256,
        n_layers: int = 6,
        n_heads: int = 8,
        stem_channels: int = 64,
        stem_layers: int = 4,
        tokens_per_second: float = 2.0,
        resampling: Resampling = "rate",
        rotary: bool = True,
        rotary_period: float | None = None,
        spectral: bool = True,
        bursts: bool = True,
        sfreq: float | None = None,
        drop_prob: float = 0.0,
        drop_path_prob: float = 0.1,
        activation: type[nn.Module] = nn.GELU,
    ):
        super().__init__()
        if resampling not in RESAMPLING:
            raise ValueError(f"ART: resampling {resampling!r} is unknown; known: {RESAMPLING}.")
        if dim % (2 * n_heads) or dim % 8 or stem_channels % 8:
            raise ValueError(
                f"ART: dim {dim} must be a multiple of 8 and of twice n_heads {n_heads}, and "
                f"stem_channels {stem_channels} a multiple of 8."
            )
        if not 2 <= stem_layers <= len(STRIDES):
            raise ValueError(f"ART: stem_layers must be 2 to {len(STRIDES)}, got {stem_layers}.")
        # TorchScript reads attributes, not the module's constants: hence f0.
        self.rotary, self.head_dim, self.f0 = rotary, dim // n_heads, F0
        # Widths of the embedding and of its parts, which pre-training compares one by one.
        # That of bursts is half as wide: five numbers are in it whole, and what is wider there is
        # harder to read elsewhere (docs/log.md).
        self.parts = (dim,) * (1 + spectral) + (dim // 2,) * bursts
        self.dim = sum(self.parts)
        self.front_end = FrontEnd(sfreq, resampling)
        self.stem = Stem(stem_channels, dim, activation, stem_layers)
        frame_seconds = math.prod(STRIDES[:stem_layers]) / F0
        self.resampler = AdaptiveResampler(
            dim, tokens_per_second, resampling == "rate+content", activation, frame_seconds
        )
        # None alone takes the default: 0 would be a division by zero, and is an error.
        period = FASTEST_TOKENS / tokens_per_second if rotary_period is None else rotary_period
        if period <= 0:
            raise ValueError(f"ART: rotary_period must be positive, got {rotary_period}.")
        self.rotary_period = float(period)
        # Later layers are dropped more often: the first ones serve all that follow.
        self.blocks = nn.ModuleList(
            Block(dim, n_heads, drop_prob, drop_path_prob * depth / max(1, n_layers - 1))
            for depth in range(n_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.readout = AttentionPool(dim, n_heads)
        self.spectral = FeaturePath(N_BINS, dim, activation) if spectral else None
        self.bursts = FeaturePath(len(BANDS), dim // 2, activation) if bursts else None

    def forward(self, x: Tensor, sfreq: float | None = None, mask: Tensor | None = None) -> Encoded:
        """Encode single-channel windows.

        Parameters
        ----------
        x : Tensor
            (batch, n_times), microvolts, one channel per row. A row that holds a NaN or does not
            vary is encoded as zeros.
        sfreq : float, optional
            Sampling rate of this batch in Hz; by default the one that ART was built with.
        mask : Tensor, optional
            (batch, n_times) bool, True where a sample was recorded. The values of other samples
            have no effect, and tokens centred there are not attended to.

        Returns
        -------
        Encoded
            ``h (batch, self.dim)``, ``tokens``, ``times`` in seconds, and ``side``.

        Raises
        ------
        ValueError
            If a window is shorter than the resampling filter (0.5 s is always enough).
        """
        if torch.jit.is_scripting():
            return self.encode(x, sfreq, mask)
        else:
            return in_slices(self.encode, x, sfreq, mask)

    def encode(self, x: Tensor, sfreq: float | None, mask: Tensor | None) -> Encoded:
        """Encode a batch in one pass; arguments and result as :meth:`forward`."""
        z, side, spectrum, mask = self.front_end(x, sfreq, mask)
        seconds = z.shape[-1] / self.f0
        dtype = self.norm.weight.dtype
        frames = self.stem(z[:, None].to(dtype)).transpose(1, 2)
        tokens, times = self.resampler(frames, seconds)
        token_mask: Tensor | None = None
        if mask is not None:
            at = (times * self.f0).long().clamp(0, z.shape[-1] - 1).expand(z.shape[0], -1)
            token_mask = mask.gather(1, at)
        turns: Tensor | None = None
        if self.rotary:
            turns = rotary_turns(times, self.head_dim, tokens.dtype, self.rotary_period)
        for block in self.blocks:
            tokens = block(tokens, turns, token_mask)
        tokens = self.norm(tokens)
        h = self.readout(tokens, token_mask)
        if self.spectral is not None:
            h = torch.cat((h, self.spectral(spectrum.to(dtype))), -1)
        if self.bursts is not None:
            h = torch.cat((h, self.bursts(self.front_end.bursts(z, mask).to(dtype))), -1)
        return Encoded(h, tokens, times.expand(z.shape[0], -1), side.to(dtype))
