"""Pairs of people who watched the same clip at the same second, as positives.

What two people's signals share under one clip is what the clip does to a brain, and neither their
powers nor their skulls. After CLISA (Shen et al. 2023, IEEE Trans. Affect. Comput. 14, 2496-2511),
which contrasts people under the clips of an emotion corpus; here it is channel by channel. A
clip's name is no label: what was felt is not read.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from omfa.pipeline.errors import DataError
from omfa.zoo.data.dataset import Batch, StoreDataset
from omfa.zoo.data.tiers import stretches
from omfa.zoo.protocols.protocol import RECORDING, STIMULUS, SUBJECT, TRIAL, codes

Ints = npt.NDArray[np.int64]


class ClipViews(NamedTuple):
    """Pairs of views from two people under one clip.

    Attributes
    ----------
    x, other : Tensor, shape (2, batch_size, n_times)
        Microvolts; the views, and another channel of the same person at the same time.
    start : Tensor, shape (2, batch_size)
        Of the views, in seconds from the start of the clip, equal for both.
    unit, clip : Tensor of int, shape (batch_size,)
        Numbers of the dataset and of the clip.
    sfreq : float
        Hz.
    windows : ndarray of int, shape (2, n_windows)
        Positions of the windows in the dataset.
    """

    x: Tensor
    other: Tensor
    start: Tensor
    unit: Tensor
    clip: Tensor
    sfreq: float
    windows: Ints


def is_clip(metadata: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Say of each window whether its stimulus is a clip, shape (n_windows,).

    What a recording shows more than once, such as the flickers and cues of an experiment with
    events, is a kind of event: its name is a label.
    """
    trials = metadata[[*TRIAL, "stimulus"]].astype(str).drop_duplicates()
    times = trials.groupby([*RECORDING, "stimulus"])["trial"].transform("size")
    repeated = codes(
        pd.concat([metadata[list(STIMULUS)].astype(str), trials.loc[times > 1, list(STIMULUS)]]),
        STIMULUS,
    )
    events = np.unique(repeated[len(metadata) :])
    named = metadata["stimulus"].astype(str).to_numpy() != ""
    return named & ~np.isin(repeated[: len(metadata)], events)


class SharedClips:
    """The moments of clips that several people watched.

    Parameters
    ----------
    data : StoreDataset
        Windows cut from trials; those of one number in a trial start at the same second of it.
    view_seconds : float
        Length of a view; a window may be longer, and a view then lies anywhere in it.

    Raises
    ------
    DataError
        If no clip was watched by two people.
    """

    def __init__(self, data: StoreDataset, view_seconds: float) -> None:
        names = data.metadata
        self.data, self.view_seconds = data, view_seconds
        self._unit = codes(names, ("dataset",))
        self._clip = codes(names, STIMULUS)
        self._person = codes(names, SUBJECT)
        # Both people's channels are read at one rate.
        rate = pd.factorize(data.rates[data.source])[0]
        table = pd.DataFrame(
            {
                "kind": pd.factorize(self._unit * (rate.max(initial=0) + 1) + rate)[0],
                "clip": self._clip,
                "number": names["i_window_in_trial"].to_numpy(np.int64),
                "person": self._person,
            }
        )[is_clip(names)]
        moments = table.groupby(["kind", "clip", "number"], sort=True)
        shared = [
            (key[0], part.index.to_numpy()) for key, part in moments if part["person"].nunique() > 1
        ]
        if not shared:
            raise DataError(
                "Pairing people under the same clip",
                f"in {', '.join(map(str, names['dataset'].unique()))} no two people watched one",
                "Pre-train on a corpus whose stores name the clips, or use --same-clip 0",
            )
        kinds = sorted({kind for kind, _ in shared}, key=str)
        self._moments = [[rows for kind, rows in shared if kind == each] for each in kinds]

    def draw(self, n_windows: int, n_channels: int, rng: np.random.Generator) -> ClipViews:
        """Draw moments, for each two people, and channels that both have.

        Parameters
        ----------
        n_windows : int
            Moments, all of one dataset and rate.
        n_channels : int
            Channels of each, with repeats where two people share fewer.
        rng : numpy.random.Generator
        """
        size = np.array([len(moments) for moments in self._moments])
        moments = self._moments[rng.choice(len(size), p=size / size.sum())]
        chosen = rng.choice(len(moments), n_windows, replace=len(moments) < n_windows)
        pairs = np.array([self._two_people(moments[i], rng) for i in chosen]).T
        batches = [self.data.batch(rows) for rows in pairs]
        sfreq = batches[0].sfreq
        columns, beside = self._common(batches, n_channels, rng)
        n_times = round(self.view_seconds * sfreq)
        room = batches[0].X.shape[-1] - n_times
        first = torch.from_numpy(rng.integers(0, room + 1, (n_windows, n_channels)))
        first = first.to(self.data.device)

        def cut(of: Ints) -> Tensor:
            views = []
            for batch, column in zip(batches, of, strict=True):
                n_chans, span = batch.X.shape[1:]
                row = torch.arange(n_windows)[:, None] * n_chans + torch.from_numpy(column)
                place = row.to(first.device) * span + first
                views.append(stretches(batch.X.reshape(-1), place, n_times).flatten(0, 1))
            return torch.stack(views)

        same = torch.from_numpy(columns == beside).to(first.device).flatten(1)
        number = self.data.metadata["i_window_in_trial"].to_numpy(np.float64)[pairs[0]]
        begun = torch.from_numpy(number * float(self.data.recipe["stride_seconds"])).to(first)
        start = (begun[:, None] + first / sfreq).flatten().float().expand(2, -1)

        def numbers(of: Ints) -> Tensor:
            return torch.from_numpy(of[pairs[0]].repeat(n_channels)).to(first.device)

        return ClipViews(
            cut(columns),
            # A channel that was drawn twice in a row would be subtracted from itself.
            cut(beside) * ~same[..., None],
            start,
            numbers(self._unit),
            numbers(self._clip),
            sfreq,
            pairs,
        )

    def _two_people(self, rows: Ints, rng: np.random.Generator) -> Ints:
        """Choose windows of two people among those of one moment."""
        one, other = rng.choice(np.unique(self._person[rows]), 2, replace=False)
        return np.array([rng.choice(rows[self._person[rows] == each]) for each in (one, other)])

    @staticmethod
    def _common(batches: list[Batch], n: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Choose channels that both people have.

        Returns
        -------
        columns, beside : ndarray of int, shape (2, n_windows, n)
            For each person the columns of the channels, and of the next of those drawn.
        """
        ids = [np.where(b.present.cpu(), b.ucs_ids.cpu(), -1) for b in batches]
        columns = np.zeros((2, len(ids[0]), n), np.int64)
        for window, (one, other) in enumerate(zip(*ids, strict=True)):
            both, at_one, at_other = np.intersect1d(one, other, return_indices=True)
            known = np.flatnonzero(both >= 0)
            if not len(known):  # two people without a channel in common: both have the first row
                continue
            drawn = rng.choice(known, n, replace=len(known) < n)
            columns[:, window] = at_one[drawn], at_other[drawn]
        return columns, np.roll(columns, 1, axis=2)
