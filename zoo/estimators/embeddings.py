"""What a frozen encoder makes of windows, computed once per window.

With the encoder frozen, its output for a window is the same in every fold and epoch. Fine-tuning a
head then costs milliseconds an epoch.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from omfa.models.connectivity import Connectivity
from omfa.models.front_end import recorded
from omfa.models.graph import electrode_positions
from omfa.models.heads import normalised
from omfa.zoo.checkpoints.folder import digest
from omfa.zoo.estimators.device import ONE_AT_A_TIME, choose_device, threads
from omfa.zoo.protocols.windows import Extractor, Windows


class Embeddings(Extractor):
    """The extractor of a frozen encoder's output for every channel.

    Parameters
    ----------
    encoder : nn.Module or None
        None: the connectivity alone.
    normalised : bool
        Bring each embedding to mean 0 and variance 1, as nodes do, before people are centred.
    connectivity : bool
        Also measure the connectivity between the channels, whose places ``for_windows`` knows.
    device : str
    threads : int
        Of the CPU.
    """

    def __init__(
        self,
        encoder: nn.Module | None,
        *,
        normalised: bool = False,
        connectivity: bool = False,
        device: str = "auto",
        threads: int = 1,
    ) -> None:
        self.encoder = None if encoder is None else encoder.eval()
        self.normalised, self.device, self.threads = normalised, device, threads
        self.connectivity = Connectivity() if connectivity else None
        self.positions: Tensor | None = None
        self.digest = "no encoder" if encoder is None else digest(encoder)

    def __repr__(self) -> str:
        beside = ", normalised" * self.normalised
        beside += " and connectivity" * (self.connectivity is not None)
        return f"Embeddings({self.digest}{beside})"

    def __eq__(self, other: object) -> bool:
        """Return whether another extractor gives the same values, to the last bit."""
        return isinstance(other, Embeddings) and self._state == other._state

    def __hash__(self) -> int:
        return hash(self._state)

    @property
    def _state(self) -> tuple[Any, ...]:
        places = None if self.positions is None else self.positions.numpy().tobytes()
        return repr(self), places, self.device, self.threads

    def for_windows(self, windows: Windows) -> Embeddings:
        """Return a copy bound to the channels of ``windows``: connectivity needs positions."""
        bound = copy.copy(self)
        places = electrode_positions(signal_arguments(windows)["chs_info"])
        bound.positions = torch.from_numpy(places).float()
        return bound

    def __call__(
        self, X: npt.NDArray[Any], present: npt.NDArray[np.bool_], sfreq: float
    ) -> npt.NDArray[np.float16]:
        """Encode windows.

        Parameters
        ----------
        X : ndarray of float, shape (batch, n_chans, n_times)
            Microvolts.
        present : ndarray of bool, shape (batch, n_chans)
        sfreq : float
            Hz.

        Returns
        -------
        ndarray of float16, shape (batch, n_chans, dim + 7) or (..., dim + 7 + n_chans * 10)
            Embedding, side input and connectivity with all others of each channel; NaN where it is
            absent. Without an encoder connectivity alone.
        """
        device = choose_device(self.device)
        x = torch.from_numpy(np.ascontiguousarray(X)).to(device)
        there = recorded(x) & torch.from_numpy(present).to(device)
        with ONE_AT_A_TIME, torch.inference_mode(), threads(self.threads):
            # Absent channels are not encoded at all: their rows would cost as much as any.
            parts = []
            if self.encoder is not None:
                encoded = self.encoder.to(device)(x[there], sfreq)
                parts += [normalised(encoded.h) if self.normalised else encoded.h, encoded.side]
            if self.connectivity is not None and self.positions is not None:
                measure = self.connectivity.to(device)
                pairs = measure(x, there, self.positions.to(device), sfreq)
                parts.append(pairs.flatten(2)[there])
            known = torch.cat(parts, -1)
        out = known.new_full((*there.shape, known.shape[-1]), math.nan)
        out[there] = known
        # float16 halves the file of features; heads train in float32.
        return out.half().cpu().numpy()


def signal_arguments(windows: Windows) -> dict[str, Any]:
    """Return what braindecode's models ask for of signals.

    Returns
    -------
    dict
        ``n_outputs``, ``n_times``, ``sfreq`` (Hz) and ``chs_info``, whose ``loc`` is in metres and
        zero where the position is not known.
    """
    X, _ = windows.take(np.zeros(1, np.int64))
    places = np.zeros((len(windows.channels), 12))
    places[:, :3] = np.nan_to_num(
        electrode_positions([{"ch_name": name} for name in windows.channels])
    )
    return {
        "n_outputs": len(windows.classes),
        "n_times": int(X.shape[-1]),
        "sfreq": float(windows.sfreq),
        "chs_info": windows.dataset.chs_info
        or [
            {"ch_name": name, "kind": "eeg", "loc": loc}
            for name, loc in zip(windows.channels, places, strict=True)
        ],
    }
