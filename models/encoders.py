"""Encoders of single channels by name and size: ART, and those that it is compared with.

Every encoder is called as ``encoder(x, sfreq=None, mask=None) -> Encoded`` and starts with the same
front end, so that a comparison is one argument apart. Beside ART there are ART without rotary
phases; a plain patch transformer, after EEG foundation models such as LaBraM (Jiang et al. 2024,
arXiv 2405.18765); and a small convolutional network. :func:`make_encoder` builds one by name, in
one of the sizes of :data:`PRESETS`.

Annotations here are evaluated (there is no ``from __future__ import annotations``), because
TorchScript cannot read them as text.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omfa.models.art import ART, FASTEST_TOKENS, Block, Encoded, in_slices, rotary_turns
from omfa.models.front_end import FrontEnd, Resampling

ENCODERS = ("art", "art_no_rotary", "patch", "cnn")


class Preset(NamedTuple):
    """Sizes of a model: those of its encoder, and the width of its graph head's nodes."""

    dim: int
    n_layers: int
    n_heads: int
    stem_channels: int
    node_dim: int


# tiny for tests, small for one CPU, base for the paper's corpora, large beyond them.
PRESETS = {
    "tiny": Preset(64, 2, 2, 32, 32),
    "small": Preset(128, 4, 4, 64, 88),
    "base": Preset(256, 6, 8, 64, 128),
    "large": Preset(512, 8, 8, 96, 256),
}


class _Ablation(nn.Module):
    """What the two plain encoders share: the front end, slices, and the mean as readout."""

    def __init__(self, dim: int, sfreq: float | None, resampling: Resampling):
        super().__init__()
        self.dim, self.parts = dim, (dim,)
        self.front_end = FrontEnd(sfreq, resampling)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, sfreq: float | None = None, mask: Tensor | None = None) -> Encoded:
        """Encode (batch, n_times) windows; arguments as in :meth:`omfa.models.art.ART.forward`."""
        if torch.jit.is_scripting():
            return self.encode(x, sfreq, mask)
        else:
            return in_slices(self.encode, x, sfreq, mask)

    def encode(self, x: Tensor, sfreq: float | None, mask: Tensor | None) -> Encoded:
        """Encode a batch in one pass; the mean of the tokens is the embedding.

        Tokens stand in the middle of the ``hop`` seconds that each covers. A mask only fills absent
        samples: these encoders do not leave tokens out.
        """
        z, side, _, mask = self.front_end(x, sfreq, mask)
        dtype = self.norm.weight.dtype
        tokens, hop = self.tokenize(z.to(dtype))
        tokens = self.norm(tokens)
        times = (torch.arange(tokens.shape[1], device=z.device) + 0.5) * hop
        times = times.to(torch.promote_types(dtype, torch.float32)).expand(z.shape[0], -1)
        return Encoded(tokens.mean(1), tokens, times, side.to(dtype))

    def tokenize(self, z: Tensor) -> tuple[Tensor, float]:
        """Turn (batch, n) at 128 Hz into (batch, n_tokens, dim) and their spacing in seconds."""
        raise NotImplementedError


class PatchTransformer(_Ablation):
    """A plain patch transformer: half-second patches, a linear layer, the blocks of ART.

    Positions are counted in patches, as in vision transformers. A last patch that is not full is
    completed with zeros.

    Parameters
    ----------
    dim, n_layers, n_heads, sfreq, resampling, drop_prob, drop_path_prob
        As in :class:`omfa.models.art.ART`.
    """

    def __init__(
        self,
        *,
        dim: int,
        n_layers: int,
        n_heads: int,
        sfreq: float | None = None,
        resampling: Resampling = "rate",
        drop_prob: float = 0.0,
        drop_path_prob: float = 0.1,
    ):
        super().__init__(dim, sfreq, resampling)
        self.patch = 64  # samples at 128 Hz: as many tokens a second as ART by default
        self.embed = nn.Linear(self.patch, dim)
        self.fastest = FASTEST_TOKENS  # TorchScript reads attributes, not the module's constants
        self.blocks = nn.ModuleList(
            Block(dim, n_heads, drop_prob, drop_path_prob) for _ in range(n_layers)
        )

    def tokenize(self, z: Tensor) -> tuple[Tensor, float]:
        """Cut into patches, embed them, add sinusoidal positions, mix by attention.

        Parameters
        ----------
        z : Tensor
            (batch, n) at 128 Hz, in spreads.

        Returns
        -------
        tokens : Tensor
            (batch, ceil(n / 64), dim).
        hop : float
            0.5, the seconds from one token to the next.
        """
        z = F.pad(z, [0, -z.shape[-1] % self.patch])
        tokens = self.embed(z.unflatten(1, [-1, self.patch]))
        index = torch.arange(tokens.shape[1], device=z.device, dtype=torch.float64)[None]
        turns = rotary_turns(index, self.dim, tokens.dtype, self.fastest)  # (2, 1, n, 1, dim / 2)
        tokens = tokens + torch.cat((turns[0], turns[1]), -1)[:, :, 0]
        for block in self.blocks:
            tokens = block(tokens)
        return tokens, self.patch / self.front_end.f0


class SmallCNN(_Ablation):
    """A small CNN: four strided convolutions, 128 Hz -> 2 frames a second, averaged.

    Parameters
    ----------
    dim, stem_channels, sfreq, resampling, drop_prob, activation
        As in :class:`omfa.models.art.ART`.
    """

    def __init__(
        self,
        *,
        dim: int,
        stem_channels: int,
        sfreq: float | None = None,
        resampling: Resampling = "rate",
        drop_prob: float = 0.0,
        activation: type[nn.Module] = nn.GELU,
    ):
        super().__init__(dim, sfreq, resampling)
        layers: list[nn.Module] = []
        # A quarter of a second first, as ART's stem; 4 * 4 * 2 * 2 = 64 samples to a token.
        widths = (1, stem_channels, stem_channels, dim, dim)
        for i, (taps, stride) in enumerate(((33, 4), (9, 4), (5, 2), (5, 2))):
            layers += [
                nn.Conv1d(widths[i], widths[i + 1], taps, stride=stride, padding=taps // 2),
                nn.GroupNorm(8, widths[i + 1]),
                activation(),
                nn.Dropout(drop_prob),
            ]
        self.layers = nn.Sequential(*layers)

    def tokenize(self, z: Tensor) -> tuple[Tensor, float]:
        """Convolve (batch, n) at 128 Hz to (batch, ceil(n / 64), dim) tokens, 0.5 s apart."""
        return self.layers(z[:, None]).transpose(1, 2), 64 / self.front_end.f0


def size_of(preset: str) -> Preset:
    """Return the widths and depths of a preset.

    Raises
    ------
    ValueError
        If there is no such preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"OMFA: preset {preset!r} is unknown; known: {', '.join(PRESETS)}.")
    return PRESETS[preset]


def make_encoder(
    name: str,
    preset: str,
    *,
    sfreq: float | None = None,
    resampling: Resampling = "rate",
    tokens_per_second: float = 2.0,
    rotary_period: float | None = None,
    stem_layers: int = 4,
    spectral: bool = True,
    bursts: bool = True,
    drop_prob: float = 0.0,
    drop_path_prob: float = 0.1,
    activation: type[nn.Module] = nn.GELU,
) -> nn.Module:
    """Build a single-channel encoder by name and size.

    Parameters
    ----------
    name : {"art", "art_no_rotary", "patch", "cnn"}
        Which encoder.
    preset : {"tiny", "small", "base", "large"}
        Its size.
    sfreq, resampling, tokens_per_second, rotary_period, stem_layers, spectral, bursts
        As in :class:`omfa.models.art.ART`.
    drop_prob, drop_path_prob, activation
        As in :class:`omfa.models.art.ART`.

    Returns
    -------
    nn.Module
        Called as ``encoder(x (batch, n_times), sfreq=None, mask=None)``, gives an
        :class:`omfa.models.art.Encoded`; the embedding's width is ``encoder.dim``, and
        ``encoder.parts`` are the widths of the paths that it is made of.

    Raises
    ------
    ValueError
        If the name or the preset is unknown, or an encoder other than ART is to place its tokens by
        content.

    Examples
    --------
    >>> import torch
    >>> from omfa.models import make_encoder
    >>> encoder = make_encoder("art", "tiny", sfreq=128.0)
    >>> encoder(torch.randn(2, 512)).h.shape
    torch.Size([2, 160])
    """
    size = size_of(preset)
    if name not in ENCODERS:
        raise ValueError(f"OMFA: encoder {name!r} is unknown; known: {', '.join(ENCODERS)}.")
    if name.startswith("art"):
        return ART(
            dim=size.dim,
            n_layers=size.n_layers,
            n_heads=size.n_heads,
            stem_channels=size.stem_channels,
            tokens_per_second=tokens_per_second,
            resampling=resampling,
            rotary=name == "art",
            rotary_period=rotary_period,
            stem_layers=stem_layers,
            spectral=spectral,
            bursts=bursts,
            sfreq=sfreq,
            drop_prob=drop_prob,
            drop_path_prob=drop_path_prob,
            activation=activation,
        )
    if resampling == "rate+content":
        raise ValueError(
            f"OMFA: encoder {name!r} has no tokens to place by content. Use resampling='rate'."
        )
    if name == "patch":
        return PatchTransformer(
            dim=size.dim,
            n_layers=size.n_layers,
            n_heads=size.n_heads,
            sfreq=sfreq,
            resampling=resampling,
            drop_prob=drop_prob,
            drop_path_prob=drop_path_prob,
        )
    return SmallCNN(
        dim=size.dim,
        stem_channels=size.stem_channels,
        sfreq=sfreq,
        resampling=resampling,
        drop_prob=drop_prob,
        activation=activation,
    )
