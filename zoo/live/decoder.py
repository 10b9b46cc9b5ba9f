"""From the samples of a stream to answers; nothing here knows where the samples come from.

The same blocks give the same answers whether they come live or from a file, and however they are
cut: the signal path is causal (``pipeline/causal.py``), and an answer is due after a number of
samples, not of seconds of this machine's clock.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from omfa.pipeline.causal import CausalPath
from omfa.pipeline.channels import UCS
from omfa.pipeline.errors import DataError
from omfa.pipeline.words import some
from omfa.zoo.live.ring import Ring
from omfa.zoo.protocols.windows import doubtful_amplitude

if TYPE_CHECKING:
    from torch import nn

    from omfa.zoo.checkpoints.decision import Decision


@dataclass(frozen=True)
class Answer:
    """What a model says of one window.

    Attributes
    ----------
    time : float
        Timestamp of the newest sample that the window stands on, seconds.
    probabilities : dict of str to float
        Of each class; empty where no channel has a whole window.
    absent : tuple of str
        Channels of the model that were masked: not in the stream, or with missing samples.
    n_chans : int
        Channels of the model.
    """

    time: float
    probabilities: dict[str, float]
    absent: tuple[str, ...]
    n_chans: int

    @property
    def label(self) -> str | None:
        """The most probable class; None where there is no answer."""
        return max(self.probabilities, key=self.probabilities.__getitem__, default=None)

    @property
    def n_present(self) -> int:
        """Channels that were read."""
        return self.n_chans - len(self.absent)


def load_model(checkpoint: str | Path, decision: Decision) -> nn.Module:
    """Load a checkpoint's model for the channels and windows that it learned from, in microvolts.

    Parameters
    ----------
    checkpoint : str or path
        Name or folder.
    decision : Decision
        The checkpoint's own.
    """
    from omfa.zoo.checkpoints.folder import load

    return load(checkpoint, **decision.signal, unit="uV")


class Decoder:
    """Answers on windows of a signal that comes block by block.

    Parameters
    ----------
    model : nn.Module
        As ``load_model`` returns it.
    decision : Decision
        What the model decides, and the signal path that it learned from.
    channels : sequence of str
        The stream's channels in any spelling and order. Those that are no electrodes of the channel
        schema are left out; electrodes that the model does not know count for an average reference.
    sfreq : float
        The stream's rate, Hz.
    stride_seconds : float
        From one answer to the next.

    Raises
    ------
    DataError
        If no channel is one of the model's, one comes twice, or the rate is too low for the band.
    """

    def __init__(
        self,
        model: nn.Module,
        decision: Decision,
        *,
        channels: Sequence[str],
        sfreq: float,
        stride_seconds: float,
    ) -> None:
        self.decision, self._model = decision, model
        doing = f"Reading the stream for the checkpoint {decision.checkpoint}"
        self._rows = [row for row, name in enumerate(channels) if name in UCS]
        try:
            names = UCS.canonicalize((channels[row] for row in self._rows), where=doing)
        except DataError as error:  # which advises what ingest has
            action = "Give each channel of the stream a name of its own by --channel-names"
            raise DataError(error.args[0], error.args[1], action) from error
        self.unused = [name for name in channels if name not in UCS]
        """Channels of the stream that are no electrodes of the channel schema."""
        self.missing = [name for name in decision.channels if name not in names]
        """Channels of the model that the stream lacks; they are masked."""
        if len(self.missing) == len(decision.channels):
            raise DataError(
                doing,
                f"the two have no channel in common: the stream has {some(channels, 8)}, the model "
                f"learned from {some(decision.channels, 8)}",
                "Name the channels as 10-05 does, by --channel-names, or use another checkpoint",
            )
        self._check_rate(sfreq, doing)
        self._path = CausalPath(decision.preprocessing, sfreq, names)
        there = [row for row, name in enumerate(decision.channels) if name in names]
        self._there, self._from = there, [names.index(decision.channels[row]) for row in there]
        self._ring = Ring(len(decision.channels), decision.n_times)
        self._stride = max(1, round(stride_seconds * decision.sfreq))
        self._taken = self._given = 0
        self.doubt = ""
        """Why the samples of a window cannot be in microvolts; empty if nothing was found."""
        self._answer(0.0)  # the first call of a network takes longest

    def _check_rate(self, sfreq: float, doing: str) -> None:
        high = self.decision.band[1]
        if high is not None and sfreq / 2 <= high:
            raise DataError(
                doing,
                f"the stream has {sfreq:g} Hz, which holds nothing above {sfreq / 2:g} Hz, and the "
                f"model learned from signals up to {high:g} Hz",
                f"Let the amplifier send more than {2 * high:g} Hz",
            )

    def push(
        self, samples: npt.NDArray[np.floating], times: npt.NDArray[np.float64]
    ) -> list[Answer]:
        """Take the next samples and return the answers that they complete.

        Parameters
        ----------
        samples : ndarray, shape (n_chans, n_times)
            Microvolts, rows as ``channels``. A sample that is not finite is missing.
        times : ndarray, shape (n_times,)
            Their timestamps, seconds.
        """
        signal = self._path.push(samples[self._rows])
        rows = np.full((len(self.decision.channels), signal.shape[1]), np.nan, np.float32)
        rows[self._there] = signal[self._from]
        answers, done = [], 0
        while done < rows.shape[1]:
            step = min(self._until_due, rows.shape[1] - done, self.decision.n_times)
            self._ring.add(rows[:, done : done + step])
            done, self._given = done + step, self._given + step
            since = self._given - self.decision.n_times
            if since >= 0 and since % self._stride == 0:
                newest = self._path.stands_on(self._given - 1) - self._taken
                answers.append(self._answer(float(times[newest])))
        self._taken += len(times)
        return answers

    @property
    def _until_due(self) -> int:
        """Samples until the next answer; the first comes with the first whole window."""
        since = self._given - self.decision.n_times
        return -since if since < 0 else self._stride - since % self._stride

    def _answer(self, time: float) -> Answer:
        import torch

        from omfa.models.front_end import UnitWarning

        window = self._ring.window
        present = np.asarray(np.isfinite(window).all(axis=1))
        names = self.decision.channels
        absent = tuple(name for name, here in zip(names, present, strict=True) if not here)
        window = np.where(present[:, np.newaxis], window, 0)[np.newaxis]
        x = torch.from_numpy(window)
        self.doubt = self.doubt or doubtful_amplitude(window, present[np.newaxis])
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UnitWarning)  # `doubt` has it, for whoever listens
            logits = self._model(x, mask=torch.from_numpy(present[np.newaxis]))
        found = self.decision.probabilities(logits.numpy()[0]).tolist()
        return Answer(
            time=time,
            probabilities=dict(zip(self.decision.classes, found, strict=True))
            if present.any()
            else {},
            absent=absent,
            n_chans=len(names),
        )
