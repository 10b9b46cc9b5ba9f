"""One optimizer and one learning-rate schedule for both stages: AdamW, a warm-up, a cosine.

Matrices decay and vectors do not: biases and the gains of norms are few, and pulling a gain to 0
takes its feature away. The rate rises in a straight line while the moments of AdamW are those of a
few batches only, then falls to 0 along half a cosine, which leaves no last rate to be chosen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR


def rate_at(step: int, n_steps: int, warm_up: float) -> float:
    """Return the learning rate of a step as a share of the highest.

    Parameters
    ----------
    step : int
        Steps taken before it; from ``n_steps`` on the rate is 0.
    n_steps : int
        Steps of the whole training.
    warm_up : float
        Share of them in which the rate rises; at least one step is at the highest rate.

    Returns
    -------
    float
        Between 0 and 1. The first step's is above 0, or it would be lost.
    """
    rising = max(1, round(warm_up * n_steps))
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / max(1, n_steps - rising)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def adamw_and_schedule(
    rates: Iterable[tuple[Iterable[nn.Parameter], float]],
    *,
    lr: float,
    weight_decay: float,
    n_steps: int,
    warm_up: float,
    betas: tuple[float, float] = (0.9, 0.999),
    stacked: bool = False,
) -> tuple[AdamW, LambdaLR]:
    """Make AdamW and its schedule, whose ``step()`` is due after each step of the optimizer.

    Parameters
    ----------
    rates : iterable of (parameters, float)
        Parameters with their own share of ``lr``: 1.0 for a network that learns at one rate.
    lr : float
        Highest learning rate.
    weight_decay : float
        Decay of parameters of two or more dimensions; the others have none.
    n_steps : int
        Steps of the whole training.
    warm_up : float
        Share of them in which the rate rises.
    betas : (float, float)
        Decay of AdamW's running means of gradients and of their squares.
    stacked : bool
        Whether each parameter is that of several networks, along a first dimension that does not
        count.

    Returns
    -------
    AdamW
        For each entry of ``rates`` a group of its matrices, then one of its vectors; an empty group
        is left out. The order is part of the format of saved optimizer states.
    LambdaLR
    """
    groups = [
        {
            "params": [p for p in parameters if (p.ndim - stacked > 1) is matrices],
            "lr": lr * share,
            "weight_decay": weight_decay if matrices else 0.0,
        }
        for parameters, share in ((list(each), share) for each, share in rates)
        for matrices in (True, False)
    ]
    optimizer = AdamW([group for group in groups if group["params"]], betas=betas)
    return optimizer, LambdaLR(optimizer, lambda step: rate_at(step, n_steps, warm_up))
