"""braindecode's classification models as estimators, from scratch or from weights in a file."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from omfa.models.front_end import kernel_like, resample
from omfa.pipeline.errors import DataError
from omfa.pipeline.words import nearest, some
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
            kernel, reach = kernel_like(z, self.up, self.down)
            rows = resample(z.flatten(0, 1), kernel, reach, self.up, self.down)
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
    weights: str | None = None,
    **training: Any,
) -> Network:
    """Make one of braindecode's classification models, to be trained.

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
    weights : str, optional
        A file of pre-trained weights, ``.safetensors`` or what ``torch.save(model.state_dict())``
        wrote. All of the network but its classifier (``final_layer``) starts from them: a tensor
        that is missing, left over or of another shape is an error. Without it, from scratch.
    **training
        Fields of ``Training``.

    Returns
    -------
    Network

    Raises
    ------
    DataError
        If there is no such model or setting, or the weights cannot be read; from ``check``, if it
        cannot be built for the rate, length or channels of the windows, or the weights are not
        those of all of it.
    """
    kind, how = _braindecode_model(model), training_from(training)
    start = None if weights is None else read_weights(weights)

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
        if start is not None:
            _load(network, start, doing=f"Starting braindecode's {model} from {weights}")
        return _Standardised(
            network, *_moments(windows), channels=windows.channels, up=up, down=down
        )

    return Network(f"braindecode's {model}", build, how, seed=seed)


CLASSIFIER = "final_layer."
"""How the names of the tensors begin that depend on the classes; braindecode's convention."""


def read_weights(file: str | Path) -> dict[str, Tensor]:
    """Read the weights of a network from a file, but for those of its classifier.

    Parameters
    ----------
    file : str or Path
        ``.safetensors``, or what ``torch.save(model.state_dict())`` wrote.

    Returns
    -------
    dict of str to Tensor

    Raises
    ------
    DataError
        If it is not there, or holds anything but tensors by name.
    """
    path, doing = Path(file), f"Reading the weights {file}"
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found = load_file(path)
        else:
            # Tensors alone: a pickle of anything else could run code.
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may fail in any way
        raise DataError(
            doing, f"{type(error).__name__}: {error}".splitlines()[0], "Get the file again"
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(t, Tensor) for t in found.values()):
        raise DataError(
            doing, "it is no table of tensors by name", "Save the model's state_dict() alone"
        )
    return {name: tensor for name, tensor in found.items() if not name.startswith(CLASSIFIER)}


def _load(network: nn.Module, start: Mapping[str, Tensor], *, doing: str) -> None:
    """Fill all of a network but its classifier; nothing may be missing, left over or misshapen."""
    own = {n: t for n, t in network.state_dict().items() if not n.startswith(CLASSIFIER)}
    wrong = [f"{name} is missing" for name in own if name not in start]
    wrong += [f"{name} is none of its own" for name in start if name not in own]
    wrong += [
        f"{name} has the shape {tuple(start[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in start and start[name].shape != tensor.shape
    ]
    if wrong:
        matched = sum(n in start and start[n].shape == t.shape for n, t in own.items())
        raise DataError(
            doing,
            f"{matched} of its {len(own)} tensors are matched ({some(wrong)})",
            "Use weights of this model, with the options, rate and length that they were made for",
        )
    network.load_state_dict(dict(start), strict=False)  # the classifier keeps its random start


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
