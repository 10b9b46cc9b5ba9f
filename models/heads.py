r"""Graph heads: the embeddings of a window's channels to one vector for the window.

Every head is called the same way, ``head(nodes, present, positions, pairs) -> (batch, dim)``, and
is built from the same :class:`HeadSettings`; :data:`HEADS` maps its name to its class, so that a
comparison is one argument apart. Channels are a set: no head depends on their order or number, and
absent ones are masked, never zero-filled. Features of pairs of channels (their coherency) are read
out beside any of them, in one way, so that what a graph is worth can be told from what they are
worth; ``coherency`` is that readout alone.

``GATv2`` (Brody, Alon & Yahav 2022, arXiv 2105.14491) and ``GCN`` (Kipf & Welling 2017, arXiv
1609.02907) are written for batches of small complete graphs, where dense products are many times
faster than the gather-scatter of sparse libraries; they compute what torch_geometric's
``GATv2Conv`` and ``GCNConv`` compute.

Annotations here are evaluated (there is no ``from __future__ import annotations``), because
TorchScript cannot read them as text.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from omfa.models import graph
from omfa.models.art import AttentionPool, Block, mask_bias
from omfa.models.front_end import N_SIDE, masked_mean


def drop_channels(present: Tensor, drop_prob: float) -> Tensor:
    """Mark channels absent at random, but leave at least one to every window that has any.

    Parameters
    ----------
    present : Tensor
        (batch, n_chans) bool.
    drop_prob : float
        Chance that a channel is dropped.

    Returns
    -------
    Tensor
        (batch, n_chans) bool.
    """
    chance = torch.rand(present.shape, device=present.device)
    chance = torch.where(present, chance, torch.full_like(chance, -1.0))
    luckiest = chance == chance.amax(-1, keepdim=True)
    return present & ((chance >= drop_prob) | luckiest)


def normalised(h: Tensor) -> Tensor:
    """Bring embeddings (..., dim) to mean 0 and variance 1: LayerNorm without its weights."""
    return F.layer_norm(h, [h.shape[-1]])


class Nodes(nn.Module):
    """Node features: embedding, power, power relative to the other channels, and place.

    Parameters
    ----------
    encoder_dim, dim : int
        Width of the embedding of the encoder, and of the nodes.
    """

    def __init__(self, encoder_dim: int, dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(encoder_dim)
        self.mix = nn.Linear(encoder_dim + 2 * N_SIDE + graph.N_POSITION, dim)

    def forward(self, h: Tensor, side: Tensor, present: Tensor, positions: Tensor) -> Tensor:
        """Build nodes.

        Parameters
        ----------
        h : Tensor
            (batch, n_chans, encoder_dim), the embedding of every channel.
        side : Tensor
            (batch, n_chans, 7), see :class:`omfa.models.art.Encoded`.
        present : Tensor
            (batch, n_chans) bool, True for channels that are present.
        positions : Tensor
            (n_chans, 3) or (batch, n_chans, 3), metres, NaN where unknown.

        Returns
        -------
        Tensor
            (batch, n_chans, dim).
        """
        return self.of_normalised(normalised(h), side, present, positions)

    def of_normalised(self, h: Tensor, side: Tensor, present: Tensor, positions: Tensor) -> Tensor:
        """Build nodes of embeddings that are :func:`normalised`; arguments as for ``forward``.

        So that something can come in between, such as taking away a person's mean: behind it a
        norm would delete how far an embedding is from that mean.
        """
        h = h * self.norm.weight + self.norm.bias
        common = masked_mean(side.transpose(1, 2), present[:, None]).transpose(1, 2)
        place = graph.position_features(positions).to(h.dtype).expand(h.shape[0], -1, -1)
        return self.mix(torch.cat((h, side, side - common, place), -1))


def block_diagonal(score: Tensor) -> Tensor:
    """Lay (n_heads, head_dim) out as (n_heads, n_heads * head_dim), zero off its own head."""
    own = torch.eye(score.shape[0], dtype=score.dtype, device=score.device)
    return (own[:, :, None] * score).flatten(1)


class PairScores(torch.autograd.Function):
    r"""Scores :math:`a_h^\top \mathrm{LeakyReLU}(s_j + t_i)_h` of all pairs, in slices.

    The sums of all pairs are a hundred times larger than the input and the output. Slices keep them
    in the cache of a CPU, and the backward pass computes them again instead of reading them from
    memory. It needs their signs only: with :math:`H = [s_j + t_i > 0]`, slope :math:`m` and the
    gradient g of the scores, :math:`u_j = \sum_i g_{ij} (m + (1 - m) H_{ij})` and likewise
    :math:`v_i`, the gradients are :math:`a u` of s, :math:`a v` of t, and
    :math:`\sum_j s_j u_j + \sum_i t_i v_i` of a, since LeakyReLU(x) = x LeakyReLU'(x).
    """

    SLICE = 2**18  # numbers, 1 MB as float32, so that a slice stays in the cache of a core

    @staticmethod
    def forward(source: Tensor, target: Tensor, score: Tensor, slope: float) -> Tensor:
        """Compute the scores.

        Parameters
        ----------
        source, target : Tensor
            (batch, n, n_heads * head_dim), s and t.
        score : Tensor
            (n_heads, head_dim), a.
        slope : float
            Slope of LeakyReLU below 0.

        Returns
        -------
        Tensor
            (batch, n_heads, n, n), at [i, j] the score of source j for target i.
        """
        batch, n, _ = source.shape
        matrix = block_diagonal(score)
        scores = source.new_empty(batch, len(score), n, n)
        for rows, pair in PairScores.pairs(source, target):
            F.leaky_relu_(pair, slope)
            # The tall factor on the right: four times faster than pair @ matrix.T.
            part = matrix @ pair.flatten(0, 2).T
            scores[rows] = part.unflatten(1, pair.shape[:3]).transpose(0, 1)
        return scores

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, float], output: Tensor
    ) -> None:
        """Keep what the backward pass needs."""
        ctx.save_for_backward(*inputs[:3])
        ctx.slope = inputs[3]

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor | float
    ) -> tuple[Tensor, int]:
        """Compute the scores of several graphs, each with weights of its own, one by one."""

        def one(i: int) -> list[Any]:
            return [
                value.select(dim, i) if isinstance(value, Tensor) and dim is not None else value
                for value, dim in zip(inputs, in_dims, strict=True)
            ]

        return torch.stack([PairScores.apply(*one(i)) for i in range(info.batch_size)]), 0

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Return the gradients of source, target and score, from that of the scores."""
        source, target, score = ctx.saved_tensors
        to_source, to_target = torch.empty_like(source), torch.empty_like(target)
        for rows, pair in PairScores.pairs(source, target):
            positive = pair.gt_(0)
            # Contiguous: else every number read would be from another line of the cache.
            weight = grad[rows].permute(0, 2, 3, 1).contiguous()
            positive.unflatten(-1, score.shape).mul_(weight[..., None])
            torch.sum(positive, 1, out=to_source[rows])
            torch.sum(positive, 2, out=to_target[rows])
        for to, pairs in ((to_source, grad.sum(2)), (to_target, grad.sum(3))):
            to.mul_(1 - ctx.slope).unflatten(-1, score.shape).add_(
                pairs.transpose(1, 2)[..., None], alpha=ctx.slope
            )
        to_score = (source * to_source + target * to_target).sum((0, 1)).view_as(score)
        return to_source * score.flatten(), to_target * score.flatten(), to_score, None

    @staticmethod
    def pairs(source: Tensor, target: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield slices of the batch, each with the sums (rows, n, n, dim) of its pairs.

        The sums are overwritten by the next slice, and may be changed in place: one buffer serves
        all slices, since new memory for each costs more than the sums.
        """
        batch, n, dim = source.shape
        size = max(1, min(batch, PairScores.SLICE // max(1, n * n * dim)))
        buffer = source.new_empty(size, n, n, dim)
        for start in range(0, batch, size):
            rows = slice(start, min(start + size, batch))
            pair = buffer[: rows.stop - start]
            yield rows, torch.add(source[rows, None], target[rows, :, None], out=pair)


def pair_scores(source: Tensor, target: Tensor, score: Tensor, slope: float) -> Tensor:
    """Compute the scores of :class:`PairScores`; arguments and result as its ``forward``.

    On an eager CPU by its slices, elsewhere by one expression that compilers can fuse.
    """
    if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript skips what stands under it alone
        if source.device.type == "cpu" and not torch.compiler.is_compiling():
            return PairScores.apply(source, target, score.to(source.dtype), slope)
    pair = F.leaky_relu(source[:, None] + target[:, :, None], slope)
    return (pair @ block_diagonal(score).to(pair.dtype).t()).permute(0, 3, 1, 2)


class GATv2(nn.Module):
    r"""Dense multi-head graph attention, version 2.

    .. math:: e_{ij} = a^\top \mathrm{LeakyReLU}(W_l x_j + W_r x_i) + b_{ij}, \qquad
        x_i' = \textstyle\sum_j \mathrm{softmax}_j(e_{ij})\, W_l x_j + c

    Parameters
    ----------
    in_dim, out_dim, n_heads : int
        Widths of the nodes before and after, and attention heads; ``out_dim`` is shared out over
        the heads.

    Notes
    -----
    Brody, Alon & Yahav (2022). Equal to torch_geometric's ``GATv2Conv`` with the edges of ``edges``
    and no self loops added, when there is no ``bias``, which is ours.
    """

    def __init__(self, in_dim: int, out_dim: int, n_heads: int):
        super().__init__()
        # The slope is that of the papers on graph attention, and of torch_geometric.
        self.n_heads, self.head_dim, self.slope = n_heads, out_dim // n_heads, 0.2
        self.source = nn.Linear(in_dim, out_dim)
        self.target = nn.Linear(in_dim, out_dim)
        self.score = nn.Parameter(torch.empty(n_heads, self.head_dim))
        self.shift = nn.Parameter(torch.zeros(out_dim))
        nn.init.xavier_uniform_(self.score)

    def attention(self, x: Tensor, edges: Tensor, bias: Tensor | None = None) -> Tensor:
        """Compute the weight of each node j in the new features of each node i.

        Parameters
        ----------
        x : Tensor
            (batch, n, in_dim).
        edges : Tensor
            (batch, n, n) bool, True at [i, j] where i attends to j.
        bias : Tensor, optional
            (1 or batch, n_heads, n, n), added to the scores.

        Returns
        -------
        Tensor
            (batch, n_heads, n, n), rows summing to 1.
        """
        return self.weights(self.source(x), self.target(x), edges, bias)

    def weights(self, source: Tensor, target: Tensor, edges: Tensor, bias: Tensor | None) -> Tensor:
        """Compute :meth:`attention` from nodes that are transformed, (batch, n, out_dim) each."""
        score = pair_scores(source, target, self.score, self.slope)
        if bias is not None:
            score = score + bias
        return torch.softmax(score + mask_bias(edges, score.dtype)[:, None], -1).to(source.dtype)

    def forward(self, x: Tensor, edges: Tensor, bias: Tensor | None = None) -> Tensor:
        """Pass messages: (batch, n, in_dim) to (batch, n, out_dim).

        Arguments are those of :meth:`attention`.
        """
        source, target = self.source(x), self.target(x)
        alpha = self.weights(source, target, edges, bias)
        value = source.view(x.shape[0], x.shape[1], self.n_heads, self.head_dim).transpose(1, 2)
        return (alpha @ value).transpose(1, 2).flatten(2) + self.shift


class GCN(nn.Module):
    r"""Dense graph convolution, :math:`x' = D^{-1/2} A D^{-1/2} x W + c`.

    Parameters
    ----------
    in_dim, out_dim : int
        Widths of the nodes before and after.

    Notes
    -----
    Kipf & Welling (2017). Equal to torch_geometric's ``GCNConv`` with ``A`` as edge weights, self
    loops included in ``A``.
    """

    def __init__(self, in_dim: int, out_dim: int):
        super().__init__()
        self.lin = nn.Linear(in_dim, out_dim, bias=False)
        self.shift = nn.Parameter(torch.zeros(out_dim))

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """Pass messages: (batch, n, in_dim) to (batch, n, out_dim).

        ``adjacency`` (batch, n, n), not negative, has at [i, j] the weight of the edge from j to i.
        """
        root = adjacency.sum(-1).clamp(min=1e-6).rsqrt()  # finite for nodes without an edge
        passed = root[..., :, None] * adjacency * root[..., None, :]
        return passed.to(x.dtype) @ self.lin(x) + self.shift


class PairReadout(nn.Module):
    r"""Readout of features of pairs of channels, weighed by the places of both.

    .. math:: r_c = \frac{s^2}{n^2} \sum_{ij} (V \phi_i)_c \, (W (\phi_j \otimes p_{ij}))_c,

    with places :math:`\phi` and features of pairs p: for each output c, a weight for every pair
    that varies smoothly over both places, of rank 1 in them. It is linear in p, since a few dozen
    subjects suffice for that and for little more; and it carries over to other montages.

    Parameters
    ----------
    pair_dim, dim : int
        Width of p, and of the result.
    """

    SCALE = 5.0  # s; brings means over many pairs to the order of 1

    def __init__(self, pair_dim: int, dim: int):
        super().__init__()
        self.scale = self.SCALE**2
        self.there = nn.Linear(graph.N_POSITION * pair_dim, dim, bias=False)
        self.here = nn.Linear(graph.N_POSITION, dim, bias=False)

    def forward(self, pairs: Tensor, present: Tensor, positions: Tensor) -> Tensor:
        """Read features of pairs out.

        Parameters
        ----------
        pairs : Tensor
            (batch, n_chans, n_chans, pair_dim).
        present : Tensor
            (batch, n_chans) bool, True for channels that are present.
        positions : Tensor
            (n_chans, 3) or (batch, n_chans, 3), metres, NaN where unknown.

        Returns
        -------
        Tensor
            (batch, dim).
        """
        share = present.to(pairs.dtype) / present.sum(-1, keepdim=True).clamp(min=1)
        place = graph.position_features(positions).to(pairs.dtype).expand(pairs.shape[0], -1, -1)
        weighed = place * share[..., None]
        # The sum over j first, (batch, n, 25 * pair_dim): nothing is then as large as n * n * dim.
        around = (weighed.transpose(1, 2)[:, None] @ pairs).flatten(2)
        return self.scale * (self.there(around) * self.here(weighed)).sum(1)


class HeadSettings(NamedTuple):
    """What every head is built from; a head ignores what it has no use for.

    Attributes
    ----------
    dim : int
        Width of the nodes and of the result.
    n_layers, n_heads : int
        Depth, and attention heads.
    drop_prob, edge_drop_prob : float
        Dropout on features; chance that an edge is left out of a training step.
    pair_dim : int
        Number of features of a pair of channels; 0 without.
    """

    dim: int
    n_layers: int
    n_heads: int
    drop_prob: float
    edge_drop_prob: float
    pair_dim: int


def drop_edges(edges: Tensor, drop_prob: float) -> Tensor:
    """Leave edges (batch, n, n) bool out at random, but none from a node to itself."""
    itself = torch.eye(edges.shape[-1], dtype=torch.bool, device=edges.device)
    keep = torch.rand(edges.shape, device=edges.device) >= drop_prob
    return edges & (keep | itself)


class Head(nn.Module):
    """What all heads share: features of pairs of channels beside what is made of the nodes.

    A head that is built for features of pairs reads them out, and adds what it makes of the nodes
    with a small learned gain (Touvron et al. 2021, arXiv 2103.17239), so that the simpler part
    learns first.

    Parameters
    ----------
    settings : HeadSettings
    """

    GAIN = 0.1  # at the start, for every output

    def __init__(self, settings: HeadSettings):
        super().__init__()
        self.build(settings)
        dim, pair_dim = settings.dim, settings.pair_dim
        self.pair_readout = PairReadout(pair_dim, dim) if pair_dim else None
        self.gain = nn.Parameter(torch.full([dim], self.GAIN)) if pair_dim else None

    def build(self, settings: HeadSettings) -> None:
        """Make the layers."""
        raise NotImplementedError

    def read(self, x: Tensor, present: Tensor, positions: Tensor) -> Tensor:
        """Read (batch, n_chans, dim) nodes out as (batch, dim)."""
        raise NotImplementedError

    def forward(
        self, x: Tensor, present: Tensor, positions: Tensor, pairs: Tensor | None = None
    ) -> Tensor:
        """Read nodes, and features of pairs, out as (batch, dim); see :func:`make_head`."""
        out = self.read(x, present, positions)
        if self.pair_readout is not None and self.gain is not None and pairs is not None:
            out = self.gain * out + self.pair_readout(pairs.to(x.dtype), present, positions)
        return out


class GATHead(Head):
    """Graph attention over all pairs of present channels, biased by their distance."""

    def build(self, settings: HeadSettings) -> None:
        """Make the layers."""
        dim, n_layers, n_heads, drop_prob, self.edge_drop_prob, _ = settings
        self.layers = nn.ModuleList(GATv2(dim, dim, n_heads) for _ in range(n_layers))
        self.distance = nn.ModuleList(
            nn.Linear(graph.N_DISTANCE, n_heads, bias=False) for _ in range(n_layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(n_layers))
        self.dropout = nn.Dropout(drop_prob)
        self.readout = AttentionPool(dim, n_heads)

    def read(self, x: Tensor, present: Tensor, positions: Tensor) -> Tensor:
        """Read (batch, n_chans, dim) nodes out as (batch, dim)."""
        edges = present[:, None, :].expand(-1, present.shape[1], -1)
        if self.training and self.edge_drop_prob > 0:
            edges = drop_edges(edges, self.edge_drop_prob)
        features = graph.distance_features(positions).to(x.dtype)
        if features.dim() == 3:  # one montage for all windows of the batch
            features = features[None]
        # TorchScript knows no zip(strict=True).
        for layer, distance, norm in zip(self.layers, self.distance, self.norms):  # noqa: B905
            bias = distance(features).permute(0, 3, 1, 2)
            x = norm(x + self.dropout(F.elu(layer(x, edges, bias))))
        return self.readout(x, present)


class GCNHead(Head):
    """Graph convolution over the fixed graph of the distances between electrodes."""

    def build(self, settings: HeadSettings) -> None:
        """Make the layers."""
        dim, n_layers, n_heads, drop_prob, self.edge_drop_prob, _ = settings
        self.layers = nn.ModuleList(GCN(dim, dim) for _ in range(n_layers))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(n_layers))
        self.dropout = nn.Dropout(drop_prob)
        self.readout = AttentionPool(dim, n_heads)

    def adjacency(self, positions: Tensor) -> Tensor:
        """Return edge weights (..., n_chans, n_chans) between 0 and 1, 1 on the diagonal.

        ``positions`` is (..., n_chans, 3), metres, NaN where unknown.
        """
        return graph.distance_graph(positions)

    def read(self, x: Tensor, present: Tensor, positions: Tensor) -> Tensor:
        """Read (batch, n_chans, dim) nodes out as (batch, dim)."""
        both = present[:, None, :] & present[:, :, None]
        if self.training and self.edge_drop_prob > 0:
            both = drop_edges(both, self.edge_drop_prob)
        adjacency = self.adjacency(positions).to(x.dtype) * both.to(x.dtype)
        # TorchScript knows no zip(strict=True).
        for layer, norm in zip(self.layers, self.norms):  # noqa: B905
            x = norm(x + self.dropout(F.elu(layer(x, adjacency))))
        return self.readout(x, present)


class LearnedGCNHead(GCNHead):
    r"""Graph convolution over a learned graph, :math:`A_{ij} = \sigma(E(p_i) \cdot E(p_j))`.

    E is a learned function of an electrode's place, so the graph carries over to other montages.
    """

    RANK = 16  # outputs of E, fewer than the 25 features of a place

    def build(self, settings: HeadSettings) -> None:
        """Make the layers, and the function of a place."""
        super().build(settings)
        self.embed = nn.Linear(graph.N_POSITION, self.RANK)

    def adjacency(self, positions: Tensor) -> Tensor:
        """Return edge weights (..., n_chans, n_chans) between 0 and 1, 1 on the diagonal.

        ``positions`` is (..., n_chans, 3), metres, NaN where unknown.
        """
        place = graph.position_features(positions).to(self.embed.weight.dtype)
        place = self.embed(place)
        weight = torch.sigmoid(place @ place.transpose(-1, -2))
        itself = torch.eye(positions.shape[-2], dtype=torch.bool, device=weight.device)
        return weight.masked_fill(itself, 1.0)


class MeanHead(Head):
    """Mean over the present channels of a two-layer network: the ablation without a graph."""

    def build(self, settings: HeadSettings) -> None:
        """Make the layers."""
        dim = settings.dim
        self.mix = nn.Sequential(nn.GELU(), nn.Dropout(settings.drop_prob), nn.Linear(dim, dim))
        self.norm = nn.LayerNorm(dim)

    def read(self, x: Tensor, present: Tensor, positions: Tensor) -> Tensor:
        """Read (batch, n_chans, dim) nodes out as (batch, dim)."""
        x = self.norm(x + self.mix(x))
        return masked_mean(x.transpose(1, 2), present[:, None]).squeeze(-1)


class TransformerHead(Head):
    """Transformer over the channels as tokens; places enter through the node features alone."""

    def build(self, settings: HeadSettings) -> None:
        """Make the layers."""
        dim, n_layers, n_heads, drop_prob, _, _ = settings
        self.blocks = nn.ModuleList(Block(dim, n_heads, drop_prob) for _ in range(n_layers))
        self.norm = nn.LayerNorm(dim)
        self.readout = AttentionPool(dim, n_heads)

    def read(self, x: Tensor, present: Tensor, positions: Tensor) -> Tensor:
        """Read (batch, n_chans, dim) nodes out as (batch, dim)."""
        for block in self.blocks:
            x = block(x, None, present)
        return self.readout(self.norm(x), present)


class CoherencyHead(Head):
    """The readout of features of pairs alone: nothing is made of the nodes."""

    def __init__(self, settings: HeadSettings):
        super().__init__(settings)
        if self.pair_readout is None:
            raise ValueError(
                "OMFA: head 'coherency' reads the coherency between channels alone, and "
                "connectivity=False leaves it out. Leave connectivity as it is, or choose another "
                "head."
            )
        self.gain = None

    def build(self, settings: HeadSettings) -> None:
        """Make nothing."""

    def forward(
        self, x: Tensor, present: Tensor, positions: Tensor, pairs: Tensor | None = None
    ) -> Tensor:
        """Read features of pairs out as (batch, dim); ``x`` gives their type alone."""
        assert pairs is not None
        assert self.pair_readout is not None
        return self.pair_readout(pairs.to(x.dtype), present, positions)


HEADS: dict[str, type[Head]] = {
    "gat": GATHead,
    "gcn": GCNHead,
    "gcn_learned": LearnedGCNHead,
    "mean": MeanHead,
    "transformer": TransformerHead,
    "coherency": CoherencyHead,
}


def make_head(
    name: str,
    dim: int,
    *,
    n_layers: int = 2,
    n_heads: int = 4,
    drop_prob: float = 0.1,
    edge_drop_prob: float = 0.1,
    pair_dim: int = 0,
) -> Head:
    """Build a graph head by name.

    Parameters
    ----------
    name : {"gat", "gcn", "gcn_learned", "mean", "transformer", "coherency"}
        Which head.
    dim : int
        Width of the nodes and of the result.
    n_layers, n_heads : int
        Depth, and attention heads, where the head has them.
    drop_prob, edge_drop_prob : float
        Dropout on features; chance that an edge is left out of a training step.
    pair_dim : int
        Number of features of a pair of channels that are read out beside the nodes; 0: none, which
        ``"coherency"`` cannot do.

    Returns
    -------
    Head
        Called as ``head(nodes (batch, n_chans, dim), present (batch, n_chans) bool, positions
        ([batch,] n_chans, 3) metres, pairs=None (batch, n_chans, n_chans, pair_dim))``, gives
        ``(batch, dim)``.

    Raises
    ------
    ValueError
        If there is no such head, or it has nothing to read.

    Examples
    --------
    >>> from omfa.models import make_head
    >>> type(make_head("gat", 64)).__name__
    'GATHead'
    """
    if name not in HEADS:
        raise ValueError(f"OMFA: head {name!r} is unknown; known: {', '.join(HEADS)}.")
    settings = HeadSettings(dim, n_layers, n_heads, drop_prob, edge_drop_prob, pair_dim)
    return HEADS[name](settings)
