"""braindecode's classification models as estimators, trained from scratch."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from omfa.models.front_end import resample, resampling_kernel
from omfa.pipeline.errors import DataError
from omfa.pipeline.words import nearest
from omfa.zoo.estimators.embeddings import signal_arguments
from omfa.zoo.estimators.network import Network
from omfa.zoo.estimators.settings import training_from
from omfa.zoo.protocols.windows import BATCH, Windows

STATISTICS_OF_AT_MOST = 4096
"""Training windows, evenly spread, from which channels' means and deviations are computed."""


class _Standardised(nn.Module):
    """A network whose input has mean 0 and variance 1 in each channel over the training side.

    Standardising each window instead would remove the differences in power that emotions are
    decoded from. Absent channels are 0. Values are clipped at 20 standard deviations, as in ART. If
    the network reads another rate, windows are resampled by ``up / down``; if its ``forward`` takes
    the names of channels (Labram), they are passed with each batch.
    """

    mean: Tensor
    sd: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Tensor,
        sd: Tensor,
        *,
        channels: Sequence[str],
        up: int = 1,
        down: int = 1,
    ) -> None:
        super().__init__()
        self.network, self.up, self.down = network, up, down
        named = "ch_names" in inspect.signature(network.forward).parameters
        self.arguments = {"ch_names": list(channels)} if named else {}
        self.register_buffer("mean", mean)
        self.register_buffer("sd", sd)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        z = ((x - self.mean[:, None]) / self.sd[:, None]).clamp(-20, 20)
        z = torch.where(present[..., None], z, 0.0)
        if self.up != self.down:
            kernel, reach = resampling_kernel(self.up, self.down)
            rows = resample(z.flatten(0, 1), kernel.to(z), reach, self.up, self.down)
            z = rows.unflatten(0, z.shape[:2])
        return self.network(z, **self.arguments)


def _moments(windows: Windows) -> tuple[Tensor, Tensor]:
    """Return each channel's mean and deviation where it is present; 0 and 1 if nowhere."""
    step = max(1, len(windows) // STATISTICS_OF_AT_MOST)
    some = np.arange(0, len(windows), step)
    count = total = squares = np.zeros(len(windows.channels))
    for rows in np.array_split(some, math.ceil(len(some) / BATCH)):
        X, present = windows.take(rows)
        # float64: a variance as the difference of two large sums cancels in single precision.
        X = np.where(present[..., None], X, 0).astype(np.float64)
        count = count + present.sum(0) * X.shape[-1]
        total, squares = total + X.sum((0, 2)), squares + (X**2).sum((0, 2))
    count = np.maximum(count, 1)
    mean = total / count
    sd = np.sqrt(np.maximum(squares / count - mean**2, 0))
    sd[sd < 1e-3] = 1.0  # uV: a channel without signal
    return torch.from_numpy(mean).float(), torch.from_numpy(sd).float()


def braindecode(
    *,
    seed: int = 0,
    model: str,
    options: Mapping[str, Any] | None = None,
    sfreq: float | None = None,
    **training: Any,
) -> Network:
    """Make one of braindecode's classification models, to be trained from scratch.

    It gets those of ``n_outputs, n_chans, n_times, sfreq, chs_info`` that its signature takes. Its
    input is in standard deviations of each channel over the training side.

    Parameters
    ----------
    seed : int
    model : str
        Name in braindecode: ``"EEGNet"``.
    options : mapping, optional
        Further arguments of the model.
    sfreq : float, optional
        Hz to resample windows to, for models that are made for one rate: 200 for CBraMod.
    **training
        Fields of ``Training``.

    Returns
    -------
    Network

    Raises
    ------
    DataError
        If there is no such model or setting; from ``check``, if it cannot be built for the rate,
        length or channels of the windows.
    """
    kind, how = _braindecode_model(model), training_from(training)

    def build(windows: Windows) -> nn.Module:
        signal = signal_arguments(windows)
        signal["n_chans"] = len(signal["chs_info"])
        # A whole-numbered ratio is what the resampling kernel is made for; it has `up` columns.
        ratio = Fraction((sfreq or windows.sfreq) / windows.sfreq).limit_denominator(1000)
        up, down = ratio.numerator, ratio.denominator
        # As many samples as resample() makes.
        signal["n_times"] = (2 * signal["n_times"] * up + down) // (2 * down)
        signal["sfreq"] *= up / down
        taken = inspect.signature(kind).parameters
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # braindecode warns of its own defaults
            network = kind(
                **{name: value for name, value in signal.items() if name in taken},
                **(options or {}),
            )
        return _Standardised(
            network, *_moments(windows), channels=windows.channels, up=up, down=down
        )

    return Network(f"braindecode's {model}", build, how, seed=seed)


def _braindecode_model(name: str) -> Callable[..., nn.Module]:
    from braindecode.models import util  # importable since omfa.models is

    if not util.models_dict:
        util._init_models_dict()  # noqa: SLF001 - braindecode fills the public table here alone
    if name not in util.models_dict:
        raise DataError(
            f"Looking for braindecode's model {name!r}",
            f"there is none of that name{nearest(name, util.models_dict)}",
            f"Use one of {', '.join(sorted(util.models_dict))}",
        )
    found: Callable[..., nn.Module] = util.models_dict[name]
    return found
