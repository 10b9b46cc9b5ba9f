"""Networks of one kind that take their steps as one.

What a small head on embeddings computes in a step takes a GPU microseconds, and the host
milliseconds to start, kernel by kernel. Where the weights of several are stacked (``torch.func``)
each kernel is started once for all of them.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F


class Stack:
    """Networks that differ in their weights alone, called as one.

    Parameters
    ----------
    networks : sequence of nn.Module
        They share what does not learn: the first one's buffers, and its weights without gradients.
    compiled : bool
        By ``torch.compile``.

    Attributes
    ----------
    weights : dict of str to nn.Parameter
        What learns, shape (n_networks, ...).
    """

    def __init__(self, networks: Sequence[nn.Module], *, compiled: bool = False) -> None:
        self.networks = networks
        learning = {name for name, p in networks[0].named_parameters() if p.requires_grad}
        stacked, _ = stack_module_state(list(networks))
        self.weights = {
            name: nn.Parameter(p.detach()) for name, p in stacked.items() if name in learning
        }
        shared = copy.deepcopy(networks[0]).train()

        def one(weights: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
            out: Tensor = functional_call(shared, dict(weights), inputs)
            return out

        self._all = vmap(one, randomness="different")
        if compiled:
            self._all = torch.compile(self._all)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return logits (n_networks, batch, n_outputs) of inputs (n_networks, batch, ...)."""
        with warnings.catch_warnings():
            # Attention on a CPU is computed network by network, and torch says so.
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            out: Tensor = self._all(self.weights, *inputs)
        return out

    def clip(self, greatest: float) -> None:
        """Clip the gradients of each network to a norm, as ``clip_grad_norm_`` does with one."""
        gradients = [p.grad for p in self.weights.values() if p.grad is not None]
        norms = torch.stack([g.reshape(len(g), -1).norm(dim=1) for g in gradients]).norm(dim=0)
        scale = (greatest / (norms + 1e-6)).clamp(max=1.0)
        for g in gradients:
            g.mul_(scale.view(-1, *[1] * (g.ndim - 1)))

    def hand_back(self) -> None:
        """Give each network its own weights."""
        for i, network in enumerate(self.networks):
            own = {name: p.detach()[i] for name, p in self.weights.items()}
            network.load_state_dict(own, strict=False)


def cross_entropies(logits: Tensor, y: Tensor, weight: Tensor, label_smoothing: float) -> Tensor:
    """Return ``F.cross_entropy`` of each network.

    Parameters
    ----------
    logits : Tensor
        (n_networks, batch, n_outputs).
    y : Tensor
        (n_networks, batch) int.
    weight : Tensor
        (n_networks, n_outputs), of the classes.
    label_smoothing : float

    Returns
    -------
    Tensor
        (n_networks,).
    """

    def one(logits: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        return F.cross_entropy(logits, y, weight, label_smoothing=label_smoothing)

    out: Tensor = vmap(one)(logits, y, weight)
    return out
