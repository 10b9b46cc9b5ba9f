"""Stored recordings as a torch dataset of windows, by position and in batches.

A ``StoreDataset``, which ``open_dataset`` makes, is a list of windows (``trials.Cuts``), a target
for each, and a tier that reads them from wherever the decoded signals lie. Nothing is stored per
window, so another window length, stride, target or choice of channels costs nothing. A ``Loader``
lists the batches of an epoch by their windows first, and reads each when its turn comes.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch.utils.data import Dataset as TorchDataset

from omfa.pipeline import views
from omfa.pipeline.channels import UCS, ChannelSchema
from omfa.pipeline.errors import DataError
from omfa.pipeline.signal_path import SignalPath
from omfa.pipeline.words import nearest
from omfa.zoo.data.sources import Source
from omfa.zoo.data.targets import Target
from omfa.zoo.data.tiers import Tier, onto
from omfa.zoo.data.trials import Cuts, LeftOut
from omfa.zoo.protocols.identity import Recorded
from omfa.zoo.protocols.protocol import RECORDING, TRIAL
from omfa.zoo.protocols.windows import Dataset, KnownFeatures


def rates_in_words(rates: npt.NDArray[np.float64]) -> str:
    """Write sampling rates in Hz, shape (n_rates,), for a message: ``"100 and 128 Hz"``."""
    return f"{' and '.join(f'{rate:g}' for rate in rates)} Hz"


def _chosen(
    values: npt.NDArray[np.int64], columns: npt.NDArray[np.int64] | None
) -> npt.NDArray[np.int64]:
    """Return each row's values (batch, n_chans) in its own columns (batch, n); None for all."""
    return values if columns is None else np.take_along_axis(values, columns, axis=1)


_AT_ONCE = 256
"""Windows that are converted at once."""


class Batch(NamedTuple):
    """Windows of one length and rate, on the dataset's device.

    Attributes
    ----------
    X : Tensor of float32, shape (batch, n_chans, n_times)
        Microvolts; 0 where a channel is absent.
    present : Tensor of bool, shape (batch, n_chans)
        Channels that the recording has and that miss no sample in the window.
    y : Tensor of int64 or float32, shape (batch,)
        Class, as int64, or number, as float32; -1 without a target.
    ucs_ids : Tensor of int64, shape (batch, n_chans)
        UCS ids of the rows' channels; -1 in rows that only pad a smaller montage.
    windows : Tensor of int64, shape (batch,)
        Positions of the windows in the dataset.
    sfreq : float
        Hz.
    n_present : int
        Channels of the window that has the fewest. On the host, where reading it waits for nothing.

    Examples
    --------
    >>> from omfa.zoo import open_dataset
    >>> data = open_dataset("dreamer.zarr", 2.0, target="valence>3")
    >>> batch = next(iter(data.loader(8)))
    >>> batch.X.shape, batch.present.shape, batch.sfreq
    (torch.Size([8, 14, 256]), torch.Size([8, 14]), 128.0)
    """

    X: torch.Tensor
    present: torch.Tensor
    y: torch.Tensor
    ucs_ids: torch.Tensor
    windows: torch.Tensor
    sfreq: float
    n_present: int


@dataclass(eq=False, repr=False, kw_only=True)
class StoreDataset(Dataset, TorchDataset[tuple[npt.NDArray[np.float32], Any, list[int]]]):
    """Windows of stored recordings. ``open_dataset`` makes one.

    An item is braindecode's ``(X, y, [i_window_in_trial, i_start, i_stop])``. ``take`` returns many
    windows at once and fast, ``loader`` batches of them.

    Attributes
    ----------
    tier : Tier
        What reads the signals; ``tier.name`` is its name.
    target : Target
        The target of every trial; ``target.rule`` is how it was made, in words.
    recipe : dict
        JSON arguments with which ``open_dataset`` opens the same dataset again.
    device : torch.device
        The device of the batches that ``loader`` returns.
    sources : list of Source
        The recordings of the stores, those without a window too.
    trials : pandas.DataFrame
        A row per trial: the table of ``read_trials``; ``recording`` is a position in ``sources``.
    cuts : Cuts
        Where each window lies: its trial, and its samples in the recording.
    rows, ids : ndarray of int64, shape (n_sources, n_chans)
        For each recording and each row of a window the row of the stored signal, and the channel's
        UCS id; -1 where the recording lacks the channel, or the row only pads its montage.
    ucs : ChannelSchema
        The channel schema, with the positions that the stores chose for CB1 and CB2.
    left_out : LeftOut
        How many trials of the stores no window comes from, and why.

    Examples
    --------
    >>> from omfa.zoo import open_dataset
    >>> data = open_dataset("dreamer.zarr", 2.0, target="valence>3")
    >>> data.n_times, data.sfreq, data.rule
    (256, 128.0, 'valence > 3')
    >>> X, y, groups = data.to_numpy()
    >>> X.dtype, len(set(groups))
    (dtype('float32'), 2)
    """

    tier: Tier = field(repr=False)
    target: Target
    recipe: dict[str, Any]
    device: torch.device
    sources: list[Source]
    trials: pd.DataFrame
    cuts: Cuts
    rows: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]
    ucs: ChannelSchema
    left_out: LeftOut = field(default_factory=LeftOut, repr=False)
    known_features: KnownFeatures | None = field(default=None, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.cuts)

    def __repr__(self) -> str:
        names = ", ".join(self.trials["dataset"].unique())
        return (
            f"<StoreDataset | {names} | {len(self)} windows | {self.rows.shape[1]} channels | "
            f"target: {self.target.rule} | tier: {self.tier.name}"
            f"{' | ' if str(self.left_out) else ''}{self.left_out}>"
        )

    def _repr_html_(self) -> str:
        facts = {
            "datasets": " ".join(self.trials["dataset"].unique()),
            "subjects": self.recordings[["dataset", "subject"]].drop_duplicates().shape[0],
            "channels": views.listed(self.channels),
            "target": self.target.rule,
            "classes": views.listed(self.classes),
            "held": self.tier.name,
            "left out": self.left_out,
        }
        counts = None
        if self.classes:
            named = self.metadata.assign(**{"class": self.y}).query("`class` >= 0")
            named["class"] = [self.classes[code] for code in named["class"]]
            counts = named.groupby(["dataset", "subject", "class"]).size().unstack(fill_value=0)
        return views.cell(f"{len(self)} windows", facts, counts)

    @cached_property
    def source(self) -> npt.NDArray[np.int64]:
        """The position in ``sources`` of every window's recording, shape (n_windows,)."""
        return self.trials["recording"].to_numpy(np.int64)[self.cuts.trial]

    @cached_property
    def _alike(self) -> bool:
        """Whether all windows have one rate and one length."""
        rate, n_times = self.rates[self.source], self.cuts.n_times
        return bool(len(self) and (rate == rate[0]).all() and (n_times == n_times[0]).all())

    @cached_property
    def rates(self) -> npt.NDArray[np.float64]:
        """Hz of every recording, shape (n_sources,)."""
        return np.array([source.sfreq for source in self.sources])

    @property
    def sfreq(self) -> float:
        """Hz, the same for all windows; a DataError if they differ."""
        rates = np.unique(self.rates[np.unique(self.source)])
        return float(self._one("rates", rates))

    @property
    def n_times(self) -> int:
        """Samples of every window; a DataError if they differ."""
        return int(self._one("lengths in samples", np.unique(self.cuts.n_times)))

    @property
    def channels(self) -> list[str]:
        """UCS names of a window's rows; a DataError if windows have different montages."""
        ids = np.unique(self.ids[np.unique(self.source)], axis=0)
        self._one("montages", ids)
        return [UCS.names[i] for i in ids[0]]

    def _one(self, what: str, found: npt.NDArray[Any]) -> Any:
        """Return what all windows share, or raise if they do not."""
        if len(found) != 1:
            raise DataError(
                f"Reading what all windows of {self!r} share",
                f"they have {len(found)} different {what}",
                "Read it from each batch, or select windows of one kind",
            )
        return found[0]

    @cached_property
    def paths(self) -> list[SignalPath]:
        """The different ways that recordings with windows went, at their sources and at ingest."""
        return list(dict.fromkeys(self.sources[i].path for i in np.unique(self.source)))

    @property
    def simulated(self) -> bool:
        """Whether any of the signals are simulated, as ingest recorded in the stores."""
        return bool(self.recordings["simulated"].any())

    @property
    def ucs_ids(self) -> npt.NDArray[np.int32]:
        """UCS ids of a window's rows, shape (n_chans,)."""
        return UCS.ids(self.channels)

    @property
    def chs_info(self) -> list[dict[str, Any]]:
        """What braindecode's models take: ``ch_name``, ``kind``, ``loc`` (12 numbers, metres)."""
        places = np.zeros((len(self.channels), 12))
        places[:, :3] = self.ucs.positions(self.channels)
        return [
            {"ch_name": name, "kind": "eeg", "loc": loc}
            for name, loc in zip(self.channels, places, strict=True)
        ]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes 0, 1, ...; empty without a target and for numbers."""
        return self.target.classes

    @property
    def rule(self) -> str:
        """How the target was made, in words."""
        return self.target.rule

    @property
    def n_outputs(self) -> int:
        """Number of classes; 1 for numbers."""
        return max(1, len(self.classes))

    @cached_property
    def y(self) -> npt.NDArray[np.int64] | npt.NDArray[np.float32]:
        """The target of every window, shape (n_windows,)."""
        return self.target.values[self.cuts.trial]

    @cached_property
    def metadata(self) -> pd.DataFrame:
        """A row per window.

        ``dataset, subject, session, run, trial`` name the trial; ``stimulus``;
        ``i_window_in_trial``; ``i_start_in_trial`` and ``i_stop_in_trial``, in samples from the
        start of the recording as braindecode has them; ``target``; and every label and rating.
        """
        cuts = self.cuts
        table = self.trials.iloc[cuts.trial].reset_index(drop=True)
        first = [*TRIAL, "stimulus"]
        labels = [c for c in table if c not in {*first, "recording", "onset", "length"}]
        windows = pd.DataFrame(
            {
                "i_window_in_trial": cuts.number,
                "i_start_in_trial": cuts.start,
                "i_stop_in_trial": cuts.start + cuts.n_times,
                "target": self.y,
            }
        )
        return pd.concat([table[first], windows, table[labels]], axis=1)

    @cached_property
    def recordings(self) -> pd.DataFrame:
        """A row per recording that has a window, indexed by its position in ``sources``.

        ``dataset, subject, session, run``; ``sfreq`` (Hz), ``n_times`` (samples of the whole
        recording), ``digest`` of what is stored, and whether it is ``simulated``.
        """
        used, first = np.unique(self.source, return_index=True)
        names = self.trials.iloc[self.cuts.trial[first]][list(RECORDING)].set_index(used)
        stored = [self.sources[i] for i in used]
        return names.assign(
            **{
                column: [getattr(source, column) for source in stored]
                for column in ("sfreq", "n_times", "digest", "simulated")
            }
        )

    @property
    def recorded(self) -> Sequence[Recorded]:
        """The names and digests of all recordings that were opened."""
        return tuple(source.recorded for source in self.sources)

    @cached_property
    def digest(self) -> str:
        """A digest of all recordings that were opened, whichever windows were chosen."""
        # Sorted, so that the order of the stores makes no difference.
        whole = "".join(sorted(source.digest for source in self.sources))
        return hashlib.sha256(whole.encode()).hexdigest()[:16]

    def subjects_and_hours(self) -> list[dict[str, Any]]:
        """List each dataset's subjects, and how many hours were recorded of them.

        Returns
        -------
        list of dict
            ``dataset``, ``subjects`` (sorted names), ``hours`` (whole recordings), ``recordings``
            and ``held_out``, as the card of a checkpoint lists them. ``recordings`` are a line
            each, with digests (``Recorded.line``); ``held_out`` are those of the dataset that were
            opened and of which there is no window.
        """
        table = self.recordings.astype({"dataset": str, "subject": str})
        hours = table["n_times"] / table["sfreq"] / 3600
        used = [self.sources[i].recorded for i in table.index]
        held_out = [one for one in self.recorded if one not in set(used)]
        return [
            {
                "dataset": str(dataset),
                "subjects": sorted(part["subject"].unique()),
                "hours": round(float(hours[part.index].sum()), 3),
                "recordings": sorted(one.line() for one in used if one.dataset == dataset),
                "held_out": sorted(one.line() for one in held_out if one.dataset == dataset),
            }
            for dataset, part in table.groupby("dataset")
        ]

    # --------------------------------------------------------------------------- windows

    def __getitem__(self, index: int | Iterable[int]) -> Any:
        """Return a window, shape (n_chans, n_times), its target and its place in the recording.

        Several positions give windows (batch, n_chans, n_times) and targets (batch,), as torch's
        samplers of batches expect.
        """
        if isinstance(index, Iterable):
            X, _, y = self.take(np.fromiter(index, np.int64))
            return X, y
        i = int(index) + (len(self) if index < 0 else 0)
        if not 0 <= i < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        X, _, y = self.take(np.array([i]))
        start = int(self.cuts.start[i])
        place = [int(self.cuts.number[i]), start, start + int(self.cuts.n_times[i])]
        return X[0], y[0].item(), place

    def take(
        self, indices: npt.ArrayLike
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[Any]]:
        """Return many windows.

        Parameters
        ----------
        indices : array of int, shape (batch,)
            Positions of windows of one rate and one length.

        Returns
        -------
        X : ndarray of float32, shape (batch, n_chans, n_times)
            Microvolts; 0 where a channel is absent.
        present : ndarray of bool, shape (batch, n_chans)
            Channels that the recording has and that miss no sample in the window.
        y : ndarray of int64 or float32, shape (batch,)
            Class, or number; -1 without a target.

        Raises
        ------
        DataError
            If ``indices`` is empty, or windows differ in length.
        """
        X, present, _, y = self._gather(np.asarray(indices, np.int64))
        return X.cpu().numpy(), present, y

    def to_numpy(
        self,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any], npt.NDArray[np.str_]]:
        """Return all windows, their targets and whose they are, as scikit-learn asks for them.

        Windows that the target's rule leaves out are left out. All of it is held in memory: DEAP in
        windows of 4 s takes 1.2 GB.

        Returns
        -------
        X : ndarray of float32, shape (n_windows, n_chans, n_times)
            Microvolts; 0 where a channel is absent.
        y : ndarray of int64 or float32, shape (n_windows,)
            Class, or number; -1 without a target.
        groups : ndarray of str, shape (n_windows,)
            ``"dataset/subject"``, for splits that keep people apart.

        Raises
        ------
        DataError
            If windows differ in length or rate, or there are none.
        """
        rows = np.flatnonzero(self.target.keep[self.cuts.trial])
        rates, lengths = np.unique(self.rates[self.source]), np.unique(self.cuts.n_times)
        if not len(rows) or len(rates) > 1:
            raise self._mixed(rates if len(rows) else rates[:0])
        if len(lengths) > 1:
            raise DataError(
                f"Taking windows of {self!r} at once",
                f"they have from {lengths[0]} to {lengths[-1]} samples",
                "Open the dataset with window_seconds",
            )
        X = np.empty((len(rows), self.rows.shape[1], int(lengths[0])), np.float32)
        # By blocks: what is converted at once is a second copy.
        for first in range(0, len(rows), _AT_ONCE):
            X[first : first + _AT_ONCE] = self.take(rows[first : first + _AT_ONCE])[0]
        who = self.metadata[["dataset", "subject"]].iloc[rows].astype(str)
        return X, self.y[rows], who.agg("/".join, axis=1).to_numpy(np.str_)

    def batch(self, indices: npt.ArrayLike, columns: npt.NDArray[np.int64] | None = None) -> Batch:
        """Return many windows as tensors on the dataset's device.

        Parameters
        ----------
        indices : array of int, shape (batch,)
            Positions of windows of one rate and one length.
        columns : ndarray of int, shape (batch, n), optional
            Which channels of each window to read, by their position; all by default.

        Returns
        -------
        Batch
            With ``n`` channels, if ``columns`` is given.

        Raises
        ------
        DataError
            If ``indices`` is empty, or windows differ in rate or length.
        """
        index = np.asarray(indices, np.int64)
        X, present, source, y = self._gather(index, columns)
        if not (self._alike or np.ptp(self.rates[source]) == 0):
            raise self._mixed(np.unique(self.rates[source]))

        return Batch(
            onto(X, self.device),
            onto(present, self.device),
            onto(y, self.device),
            self._batch_ids(source, columns),
            onto(index, self.device),
            float(self.rates[source[0]]),
            int(present.sum(1).min()),
        )

    def _batch_ids(
        self, source: npt.NDArray[np.int64], columns: npt.NDArray[np.int64] | None
    ) -> torch.Tensor:
        if self._same_ids is None or columns is not None:
            return onto(_chosen(self.ids[source], columns), self.device)
        return self._same_ids.expand(len(source), -1)

    def draw_channels(
        self, indices: npt.NDArray[np.int64], n: int, rng: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        """Draw channels of each window, those that its recording has before others.

        Parameters
        ----------
        indices : ndarray of int, shape (batch,)
            Positions of windows.
        n : int
            Channels to draw for each.
        rng : numpy.random.Generator

        Returns
        -------
        ndarray of int, shape (batch, n)
            Columns for ``batch``, all different within a window.
        """
        rows = self.rows[self.source[indices]]
        # The n smallest of random numbers below 1, where absent channels have numbers above 1.
        drawn = rng.random(rows.shape) + (rows < 0)
        return np.argpartition(drawn, n - 1, axis=1)[:, :n]

    @cached_property
    def _same_ids(self) -> torch.Tensor | None:
        """The UCS ids of a window's rows, shape (1, n_chans), if all recordings have the same."""
        if (self.ids != self.ids[0]).any():
            return None
        return torch.from_numpy(self.ids[:1]).to(self.device)

    def _gather(
        self, index: npt.NDArray[np.int64], columns: npt.NDArray[np.int64] | None = None
    ) -> tuple[torch.Tensor, npt.NDArray[np.bool_], npt.NDArray[np.int64], npt.NDArray[Any]]:
        """Return windows, which channels are present, sources and targets."""
        source, n_times = self.source[index], self.cuts.n_times
        if not len(index) or not (self._alike or np.ptp(n_times[index]) == 0):
            raise self._mixed(np.unique(self.rates[source]))
        rows = _chosen(self.rows[source], columns)
        X = self.tier.gather(source, rows, self.cuts.start[index], int(n_times[index[0]]))
        present = rows >= 0
        # Few recordings have missing samples: only their windows are searched.
        if (gappy := np.flatnonzero(self.tier.gaps(source))).size:
            among = torch.from_numpy(gappy).to(X.device)
            missing = ~torch.isfinite(X[among]).all(dim=2)
            present[gappy] &= ~missing.cpu().numpy()
            X[onto(~present, X.device)] = 0
        return X, present, source, self.y[index]

    def _mixed(self, rates: npt.NDArray[np.float64]) -> DataError:
        return DataError(
            f"Taking windows of {self!r} at once",
            f"they are sampled at {rates_in_words(rates)}" if len(rates) else "there are none",
            "Take windows of one rate, as loader() does",
        )

    def select(self, windows: npt.ArrayLike) -> StoreDataset:
        """Return the dataset of some windows; the decoded signals are shared.

        Parameters
        ----------
        windows : array of int, shape (n_selected,), or of bool, shape (n_windows,)
            Positions, or True for the windows to keep. The order of the dataset stays.

        Returns
        -------
        StoreDataset
        """
        chosen = np.asarray(windows)
        some = replace(self, cuts=self.cuts[np.sort(chosen) if chosen.dtype != bool else chosen])
        # With native channels, rows that only padded the montages of other recordings are removed.
        used = (self.ids[np.unique(some.source)] >= 0).any(axis=0)
        if used.all():
            return some
        return replace(some, rows=self.rows[:, used], ids=self.ids[:, used])

    # --------------------------------------------------------------------------- batches

    def loader(
        self,
        batch_size: int = 256,
        *,
        shuffle: bool = False,
        drop_last: bool = False,
        by: str | None = None,
        seed: int = 0,
        shard: tuple[int, int] = (0, 1),
        channels_per_window: int | None = None,
        ahead: int | None = None,
        skip: int = 0,
    ) -> Loader:
        """Return an iterable of batches; with ``shuffle`` each epoch has another order.

        Parameters
        ----------
        batch_size : int
            Windows in a batch, the last one of a kind excepted.
        shuffle : bool
            Draw a random order; otherwise the order is the dataset's. The streamed tier mixes as
            many pieces of recordings as its buffer holds.
        drop_last : bool
            Leave out batches that are not full.
        by : str, optional
            A column that has one value within each batch: ``"dataset"`` for batches of one corpus.
            Windows of different rates or, with native channels, montages never share a batch.
        seed : int
            Seed of the order, together with the epoch.
        shard : (int, int)
            This process's number and how many there are: each takes every n-th batch, all take
            equally many.
        channels_per_window : int, optional
            Read this many channels of each window only, drawn anew in every epoch.
        ahead : int, optional
            Batches that a thread prepares meanwhile. By default 4 for the streamed tier, which
            decodes, else 0: gathering a batch is cheaper than handing it over.
        skip : int
            Batches of the first epoch to leave out, to go on from within an epoch.

        Returns
        -------
        Loader
        """
        if ahead is None:
            ahead = 4 if self.tier.name == "stream" else 0
        options = (shuffle, drop_last, by, seed, shard, channels_per_window, ahead, skip)
        return Loader(self, batch_size, *options)


@dataclass
class Loader:
    """Batches of a dataset. ``StoreDataset.loader`` makes one, and documents the other attributes.

    Attributes
    ----------
    skip : int
        Batches that the next epoch leaves out; 0 again after it.
    epoch : int
        How often it has been iterated; set it to go on from a checkpoint.
    """

    dataset: StoreDataset
    batch_size: int
    shuffle: bool
    drop_last: bool
    by: str | None
    seed: int
    shard: tuple[int, int]
    channels_per_window: int | None
    ahead: int
    skip: int = 0
    epoch: int = 0

    @cached_property
    def _groups(self) -> npt.NDArray[np.int64]:
        """A number for each window, shape (n_windows,); equal ones may share a batch."""
        data = self.dataset
        source = data.source
        kinds = pd.DataFrame({"rate": data.rates, "ids": list(map(bytes, data.ids))})
        keys = [kinds.groupby(["rate", "ids"]).ngroup().to_numpy()[source], data.cuts.n_times]
        if self.by is not None:
            if self.by not in data.trials:
                known = list(map(str, data.trials))
                raise DataError(
                    f"Making batches of {data!r}",
                    f"there is no column {self.by!r} to keep apart{nearest(self.by, known)}",
                    f"Choose one of {', '.join(known)}",
                )
            keys.append(pd.factorize(data.trials[self.by])[0][data.cuts.trial])
        found = pd.DataFrame(dict(enumerate(keys))).groupby(list(range(len(keys)))).ngroup()
        return np.asarray(found, np.int64)

    def __len__(self) -> int:
        sizes = np.bincount(self._groups)
        count = sizes // self.batch_size if self.drop_last else -(-sizes // self.batch_size)
        return int(count.sum()) // self.shard[1]

    def batches(self) -> list[npt.NDArray[np.int64]]:
        """Return the positions of the windows of each batch of the present epoch."""
        data = self.dataset
        order = np.arange(len(data))
        if self.shuffle:
            rng = np.random.default_rng([self.seed, self.epoch])
            order = data.tier.order(data.source, data.cuts.start, rng)
        groups = self._groups[order]
        made = []
        for group in np.unique(groups):
            among = np.flatnonzero(groups == group)
            edges = [*range(0, len(among), self.batch_size), len(among)]
            for first, end in pairwise(edges):
                if end - first == self.batch_size or not self.drop_last:
                    made.append(among[first:end])
        # In the order of their last windows: groups are mixed, and the tier's order stays.
        made.sort(key=lambda batch: batch[-1])
        rank, size = self.shard
        # As many for every process: one that waited for another's last batch would wait for ever.
        return [order[batch] for batch in made[rank : len(made) // size * size : size]]

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.epoch
        numbered = list(enumerate(self.batches()))[self.skip :]
        self.epoch, self.skip = epoch + 1, 0

        def read(number: int, windows: npt.NDArray[np.int64]) -> Batch:
            data, n = self.dataset, self.channels_per_window
            if n is None or n >= data.rows.shape[1]:
                return data.batch(windows)
            # From the batch's number, so that an epoch that is gone on with draws the same.
            rng = np.random.default_rng([self.seed, epoch, *self.shard, number])
            return data.batch(windows, data.draw_channels(windows, n, rng))

        if not self.ahead:
            yield from (read(*one) for one in numbered)
            return
        # One thread: batches stay in order, and the streamed tier decodes one piece at a time.
        pool = ThreadPoolExecutor(1)
        try:
            waiting: deque[Any] = deque()
            for one in numbered:
                waiting.append(pool.submit(read, *one))
                if len(waiting) > self.ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
