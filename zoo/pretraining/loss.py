"""The loss of contrastive pre-training, and figures that show whether it goes well.

NT-Xent (Chen et al. 2020, arXiv 2002.05709) with two kinds of windows left out of the denominator.
Channels of one moment are near copies of each other by volume conduction, so windows of the same
recording within 8 s are not negatives. Bands, rates and amplifiers identify a dataset, so windows
of another dataset would be negatives from which nothing else is learned. Band powers are given to
the graph anyway, and most negatives are told from the positive by them alone: negatives may
therefore be weighed by how close their band powers are to the anchor's. An embedding of several
parts has each compared by itself: compared as one, it need find a pair by one part alone, and the
others learn less.
"""

from __future__ import annotations

from typing import Any

import torch.distributed
from torch import Tensor
from torch.nn import functional as F

REACH = 8.0
"""Seconds: windows of one recording that start closer together than this are not negatives."""


def nt_xent(
    z: Tensor,
    *,
    unit: Tensor,
    recording: Tensor,
    time: Tensor,
    temperature: float = 0.1,
    reach: float = REACH,
    side: Tensor | None = None,
    match_width: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the contrastive loss of pairs of views; negatives come from all processes.

    Parameters
    ----------
    z : Tensor, shape (n_parts, 2, batch, dim) or (2, batch, dim)
        Projections of both views of each window, of each part of the embedding; their length does
        not matter.
    unit, recording : Tensor of int, shape (batch,)
        Numbers of each window's unit, a dataset or a subject, within which negatives are, and of
        its recording; the same in all processes.
    time : Tensor, shape (2, batch)
        Where each view starts in its recording, in seconds.
    temperature : float
        Of the cosine similarity.
    reach : float
        Seconds.
    side : Tensor, shape (2, batch, n_side), optional
        What is to be no help in finding the positive, such as band powers.
    match_width : float, optional
        Negatives weigh by a Gaussian of the distance of their side features to the anchor's, of
        this standard deviation, in standard deviations of each feature. None: all weigh alike.

    Returns
    -------
    loss : Tensor, shape ()
        Mean over this process's anchors, and over the parts.
    accuracy : Tensor, shape ()
        Share of anchors whose positive is the nearest of all candidates, mean over the parts.
    negatives : Tensor, shape ()
        Mean number of negatives.
    """
    n, rank = z.shape[-2], _rank()
    z = F.normalize(z.float().transpose(-3, -2), dim=-1)  # (..., batch, 2, dim)
    time = time.transpose(0, 1)
    of_unit, of_recording, at = _gathered(unit), _gathered(recording), _gathered(time)

    # Rows: this process's views. Columns: the views of all processes, those of a pair side by side.
    near = (time.reshape(-1, 1) - at.reshape(1, -1)).abs() < reach
    near &= _pairs(recording, of_recording)
    mine = torch.arange(2 * n, device=z.device) + 2 * n * rank
    positive = mine ^ 1  # 0 <-> 1, 2 <-> 3: the other view of the same pair
    excluded = near | ~_pairs(unit, of_unit)
    # A positive that starts within `reach` was marked as near; the anchor was too, and stays out.
    # By scatter: a value set at indices is copied to a GPU first, and the host would wait for that.
    excluded.scatter_(1, positive[:, None], False).scatter_(1, mine[:, None], True)
    # Less the positive. In float32: whole numbers would be twice as large as what they count.
    n_negatives = excluded.shape[1] - 1 - excluded.sum(1, dtype=torch.float32)
    if side is None or match_width is None:
        log_weights = z.new_zeros(excluded.shape).masked_fill_(excluded, -torch.inf)
    else:
        excluded.scatter_(1, positive[:, None], True)
        log_weights = _log_weights(side, excluded, n_negatives, match_width)
        log_weights.scatter_(1, positive[:, None], 0.0)
    losses, accuracies = [], []
    for part in z.reshape(-1, *z.shape[-3:]):
        one, others = part.flatten(0, 1), _gathered(part).flatten(0, 1)
        # In one operation: a matrix of all pairs is larger than all else of a step.
        similarity = torch.addmm(log_weights, one, others.T, alpha=1 / temperature)
        losses.append(F.cross_entropy(similarity, positive))
        accuracies.append((similarity.detach().argmax(1) == positive).float().mean())
    return torch.stack(losses).mean(), torch.stack(accuracies).mean(), n_negatives.mean()


def _log_weights(side: Tensor, excluded: Tensor, n_negatives: Tensor, width: float) -> Tensor:
    """Weigh each anchor's negatives by how well their side features match its own.

    Parameters
    ----------
    side : Tensor, shape (2, batch, n_side)
    excluded : Tensor of bool, shape (2 * batch, 2 * all)
        All that is no negative.
    n_negatives : Tensor, shape (2 * batch,)
    width : float

    Returns
    -------
    Tensor, shape (2 * batch, 2 * all)
        Logarithms of weights whose mean over an anchor's negatives is 1, so that chance and
        temperature mean what they mean without; -inf for all that is excluded.
    """
    mine = side.detach().float().transpose(0, 1)  # (batch, 2, n_side)
    others = _gathered(mine.contiguous()).flatten(0, 1)
    mine = mine.flatten(0, 1)
    centre, scale = others.mean(0), width * others.std(0).clamp(min=1e-6)
    log = torch.cdist((mine - centre) / scale, (others - centre) / scale)
    # In place: a matrix of all pairs is larger than all else of a step.
    log.square_().mul_(-0.5).masked_fill_(excluded, -torch.inf)
    mean = log.logsumexp(1) - n_negatives.log()
    # An anchor without negatives has nothing to weigh, and no finite sum.
    return log.sub_(mean.masked_fill_(n_negatives == 0, 0.0)[:, None])


def _pairs(one: Tensor, other: Tensor) -> Tensor:
    """Return which views have the same number, shape (2 * len(one), 2 * len(other))."""
    return one.repeat_interleave(2)[:, None] == other.repeat_interleave(2)[None, :]


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def _gathered(x: Tensor) -> Tensor:
    """Join the rows of all processes; gradients flow back to the process a row came from."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return x
    gathered: Tensor = _Gather.apply(x)
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # Each process has a loss of its own over all rows: a row's gradient is the sum over them.
        total = gradients[0].contiguous()
        torch.distributed.all_reduce(total)
        return total.chunk(torch.distributed.get_world_size())[_rank()]


def alignment(z: Tensor) -> Tensor:
    """Return the mean squared distance between the views of a pair, on the sphere; 0 is best.

    Parameters
    ----------
    z : Tensor, shape (2, batch, dim)

    Notes
    -----
    Wang & Isola (2020), arXiv 2005.10242, as is ``uniformity``.
    """
    one, other = F.normalize(z.float(), dim=-1)
    return (one - other).square().sum(-1).mean()


def uniformity(z: Tensor) -> Tensor:
    """Return the log of the mean Gaussian potential of rows, on the sphere; lower is more even.

    Parameters
    ----------
    z : Tensor, shape (batch, dim)
    """
    return torch.pdist(F.normalize(z.float(), dim=-1)).square().mul(-2).exp().mean().log()


def effective_rank(h: Tensor) -> Tensor:
    """Count the directions that embeddings use: exp of the entropy of their singular values.

    Parameters
    ----------
    h : Tensor, shape (batch, dim)

    Notes
    -----
    Roy & Vetterli (2007), EUSIPCO, 606-610. 1 is a collapse.
    """
    values = torch.linalg.svdvals(h.float() - h.float().mean(0))
    share = values / values.sum().clamp(min=1e-12)
    return torch.exp(-(share * share.clamp(min=1e-12).log()).sum())
