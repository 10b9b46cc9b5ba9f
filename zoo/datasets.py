"""Stores as datasets: windows cut on reading, for torch, for braindecode, in batches.

``open_dataset`` reads the trial tables of one or many stores, gives each trial its target, and
lists the windows; signals stay where the chosen tier keeps them (``omfa.zoo.tiers``). Nothing is
written per window, so another window length, stride, target or choice of channels costs nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch.utils.data import Dataset

from omfa.pipeline.channels import UCS, ChannelSchema
from omfa.pipeline.recording import DataError
from omfa.pipeline.store import Store, open_store
from omfa.zoo.tiers import (
    Cache,
    Source,
    Tier,
    choose,
    default_cache_dir,
    hold,
    map_sources,
    stream,
)
from omfa.zoo.tiles import SHORTEST, hold_tiles, tile_length
from omfa.zoo.trials import (
    TRIAL,
    Cuts,
    Target,
    TargetSpec,
    cut,
    make_target,
    read_trials,
    target_to_json,
)

if TYPE_CHECKING:
    from braindecode.datasets import BaseConcatDataset

Channels = Literal["union", "intersection", "native"]
Rates = Literal["one", "native"]
CutFrom = Literal["trials", "recordings"]
Stores = str | Path | Store | Sequence["str | Path | Store"]


class Batch(NamedTuple):
    """Windows of one length and rate, on the dataset's device.

    Attributes
    ----------
    X : Tensor of float32, shape (batch, n_chans, n_times)
        Microvolts; 0 where a channel is absent.
    present : Tensor of bool, shape (batch, n_chans)
    y : Tensor, shape (batch,)
        Class as int64, or a number as float32; -1 without a target.
    ucs_ids : Tensor of int64, shape (batch, n_chans)
        Ids of the rows' channels; -1 in rows that only pad a smaller montage.
    windows : Tensor of int64, shape (batch,)
        Their positions in the dataset.
    sfreq : float
        Hz.
    """

    X: torch.Tensor
    present: torch.Tensor
    y: torch.Tensor
    ucs_ids: torch.Tensor
    windows: torch.Tensor
    sfreq: float


@dataclass(eq=False, repr=False)
class StoreDataset(Dataset[tuple[npt.NDArray[np.float32], Any, list[int]]]):
    """Windows of stored recordings. ``open_dataset`` makes one.

    An item is braindecode's ``(X, y, [i_window_in_trial, i_start, i_stop])``. ``take`` gives many
    at once and fast, ``loader`` batches of them.

    Attributes
    ----------
    tier : Tier
        What keeps the signals; ``tier.name`` says which.
    target : Target
        Per trial; ``target.rule`` says how it was made.
    recipe : dict
        JSON arguments with which ``open_dataset`` opens the same dataset again.
    device : torch.device
        Where ``loader`` gives its batches.
    """

    tier: Tier = field(repr=False)
    target: Target
    recipe: dict[str, Any]
    device: torch.device
    _sources: list[Source]
    _trials: pd.DataFrame
    _cuts: Cuts
    _rows: npt.NDArray[np.int64]  # (n_sources, n_chans): row of the source's signal, or -1
    _ids: npt.NDArray[np.int64]  # (n_sources, n_chans): UCS id, or -1
    _ucs: ChannelSchema

    def __len__(self) -> int:
        return len(self._cuts)

    def __repr__(self) -> str:
        names = ", ".join(self._trials["dataset"].unique())
        return (
            f"<StoreDataset | {names} | {len(self)} windows | {self._rows.shape[1]} channels | "
            f"target: {self.target.rule} | tier: {self.tier.name}>"
        )

    @cached_property
    def _source(self) -> npt.NDArray[np.int64]:
        """The source of every window."""
        return self._trials["recording"].to_numpy(np.int64)[self._cuts.trial]

    @cached_property
    def _alike(self) -> bool:
        """Whether all windows have one rate and one length."""
        rate, n_times = self._rate[self._source], self._cuts.n_times
        return bool(len(self) and (rate == rate[0]).all() and (n_times == n_times[0]).all())

    @cached_property
    def _rate(self) -> npt.NDArray[np.float64]:
        return np.array([source.sfreq for source in self._sources])

    @property
    def sfreq(self) -> float:
        """Hz, of all windows."""
        rates = np.unique(self._rate[np.unique(self._source)])
        return float(self._one("rates", rates))

    @property
    def n_times(self) -> int:
        """Samples of every window."""
        return int(self._one("lengths in samples", np.unique(self._cuts.n_times)))

    @property
    def channels(self) -> list[str]:
        """UCS names of a window's rows."""
        ids = np.unique(self._ids[np.unique(self._source)], axis=0)
        self._one("montages", ids)
        return [UCS.names[i] for i in ids[0]]

    def _one(self, what: str, found: npt.NDArray[Any]) -> Any:
        if len(found) != 1:
            raise DataError(
                f"Reading what all windows of {self!r} share",
                f"they have {len(found)} different {what}",
                "Read it from each batch, or select windows of one kind",
            )
        return found[0]

    @property
    def simulated(self) -> bool:
        """Whether any of the signals are simulated, as far as their sources tell."""
        used = np.unique(self._source)
        return any(self._sources[i].simulated for i in used)

    @property
    def ucs_ids(self) -> npt.NDArray[np.int32]:
        """UCS ids of a window's rows, shape (n_chans,)."""
        return UCS.ids(self.channels)

    @property
    def chs_info(self) -> list[dict[str, Any]]:
        """What braindecode's models take: ``ch_name``, ``kind``, ``loc`` (12 numbers, metres)."""
        places = np.zeros((len(self.channels), 12))
        places[:, :3] = self._ucs.positions(self.channels)
        return [
            {"ch_name": name, "kind": "eeg", "loc": loc}
            for name, loc in zip(self.channels, places, strict=True)
        ]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes 0, 1, ...; empty without a target and for numbers."""
        return self.target.classes

    @property
    def n_outputs(self) -> int:
        """Classes, or 1 for numbers."""
        return max(1, len(self.classes))

    @cached_property
    def y(self) -> npt.NDArray[np.int64] | npt.NDArray[np.float32]:
        """The target of every window, shape (n_windows,)."""
        return self.target.values[self._cuts.trial]

    @cached_property
    def metadata(self) -> pd.DataFrame:
        """A row per window.

        ``dataset, subject, session, run, trial`` name the trial; ``stimulus``;
        ``i_window_in_trial``; ``i_start_in_trial`` and ``i_stop_in_trial`` in samples of the stored
        signal; ``target``; and every label and rating of the stores.
        """
        cuts = self._cuts
        table = self._trials.iloc[cuts.trial].reset_index(drop=True)
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

    # --------------------------------------------------------------------------- windows

    def __getitem__(self, index: int | Iterable[int]) -> Any:
        """Return a window with its target and place; for several, stacked windows and targets."""
        if isinstance(index, Iterable):
            X, _, y = self.take(np.fromiter(index, np.int64))
            return X, y
        i = int(index) + (len(self) if index < 0 else 0)
        if not 0 <= i < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        X, _, y = self.take(np.array([i]))
        start = int(self._cuts.start[i])
        place = [int(self._cuts.number[i]), start, start + int(self._cuts.n_times[i])]
        return X[0], y[0].item(), place

    def take(
        self, indices: npt.ArrayLike
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[Any]]:
        """Return many windows.

        Parameters
        ----------
        indices : array of int, shape (batch,)

        Returns
        -------
        X : ndarray of float32, shape (batch, n_chans, n_times)
            Microvolts; 0 where a channel is absent.
        present : ndarray of bool, shape (batch, n_chans)
            Channels that the recording has and that miss no sample in the window.
        y : ndarray, shape (batch,)
        """
        X, present, _, y = self._gather(np.asarray(indices, np.int64))
        return X.cpu().numpy(), present, y

    def batch(self, indices: npt.ArrayLike, columns: npt.NDArray[np.int64] | None = None) -> Batch:
        """Return many windows as tensors on the dataset's device.

        Parameters
        ----------
        indices : array of int, shape (batch,)
        columns : ndarray of int, shape (batch, n), optional
            Which channels of each window; all by default.
        """
        index = np.asarray(indices, np.int64)
        X, present, source, y = self._gather(index, columns)
        if not (self._alike or np.ptp(self._rate[source]) == 0):
            raise self._mixed(np.unique(self._rate[source]))

        def tensor(values: npt.NDArray[Any]) -> torch.Tensor:
            return torch.from_numpy(values).to(self.device)

        return Batch(
            X.to(self.device),
            tensor(present),
            tensor(y),
            self._batch_ids(source, columns),
            tensor(index),
            float(self._rate[source[0]]),
        )

    def _batch_ids(
        self, source: npt.NDArray[np.int64], columns: npt.NDArray[np.int64] | None
    ) -> torch.Tensor:
        if self._same_ids is None or columns is not None:
            return torch.from_numpy(_chosen(self._ids[source], columns)).to(self.device)
        return self._same_ids.expand(len(source), -1)

    def draw_channels(
        self, indices: npt.NDArray[np.int64], n: int, rng: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        """Draw channels of each window, those that its recording has before others.

        Returns
        -------
        ndarray of int, shape (batch, n)
            Different columns of each window.
        """
        rows = self._rows[self._source[indices]]
        drawn = rng.random(rows.shape) + (rows < 0)
        return np.argpartition(drawn, n - 1, axis=1)[:, :n]

    @cached_property
    def _same_ids(self) -> torch.Tensor | None:
        """The ids of all windows' rows, where they are the same."""
        if (self._ids != self._ids[0]).any():
            return None
        return torch.from_numpy(self._ids[:1]).to(self.device)

    def _gather(
        self, index: npt.NDArray[np.int64], columns: npt.NDArray[np.int64] | None = None
    ) -> tuple[torch.Tensor, npt.NDArray[np.bool_], npt.NDArray[np.int64], npt.NDArray[Any]]:
        source, n_times = self._source[index], self._cuts.n_times
        if not len(index) or not (self._alike or np.ptp(n_times[index]) == 0):
            raise self._mixed(np.unique(self._rate[source]))
        rows = _chosen(self._rows[source], columns)
        X = self.tier.gather(source, rows, self._cuts.start[index], int(n_times[index[0]]))
        present = rows >= 0
        if (gappy := np.flatnonzero(self.tier.gaps(source))).size:
            among = torch.from_numpy(gappy).to(X.device)
            missing = ~torch.isfinite(X[among]).all(dim=2)
            present[gappy] &= ~missing.cpu().numpy()
            X[torch.from_numpy(~present).to(X.device)] = 0
        return X, present, source, self.y[index]

    def _mixed(self, rates: npt.NDArray[np.float64]) -> DataError:
        return DataError(
            f"Taking windows of {self!r} at once",
            f"they are sampled at {_listed(rates)} Hz" if len(rates) else "there are none",
            "Take windows of one rate, as loader() does",
        )

    def select(self, windows: npt.ArrayLike) -> StoreDataset:
        """Return the dataset of some windows, by position or by a mask; signals are shared."""
        chosen = np.asarray(windows)
        some = replace(self, _cuts=self._cuts[np.sort(chosen) if chosen.dtype != bool else chosen])
        # Native channels: the rows that only padded the montages of others go.
        used = (self._ids[np.unique(some._source)] >= 0).any(axis=0)
        if used.all():
            return some
        return replace(some, _rows=self._rows[:, used], _ids=self._ids[:, used])

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
        """Return batches, again in another order each time it is iterated.

        Parameters
        ----------
        batch_size : int
        shuffle : bool
            Otherwise in the dataset's order. The streamed tier mixes as many pieces of recordings
            as its buffer holds.
        drop_last : bool
            Leave out batches that are not full.
        by : str, optional
            A column of which a batch has one value: ``"dataset"`` for batches of one corpus.
            Windows of different rates or, with native channels, montages never share one.
        seed : int
            Together with the epoch it gives the order.
        shard : (int, int)
            This process's number and how many there are: each takes every n-th batch, all take
            equally many.
        channels_per_window : int, optional
            Read so many channels of each window only, drawn anew in every epoch.
        ahead : int, optional
            Batches that a thread prepares meanwhile. By default 4 for the streamed tier, else 0:
            gathering is cheaper than handing over.
        skip : int
            Batches of the first epoch to leave out, to go on from within one.
        """
        if ahead is None:
            ahead = 4 if self.tier.name == "stream" else 0
        options = (shuffle, drop_last, by, seed, shard, channels_per_window, ahead, skip)
        return Loader(self, batch_size, *options)

    # ----------------------------------------------------------------------- braindecode

    def to_braindecode(
        self, *, per: Literal["recording", "trial"] = "recording"
    ) -> BaseConcatDataset:
        """Return a braindecode dataset; see ``omfa.zoo.braindecode_datasets``."""
        from omfa.zoo.braindecode_datasets import to_braindecode

        return to_braindecode(self, per=per)


@dataclass
class Loader:
    """Batches of a dataset; ``StoreDataset.loader`` makes one.

    Attributes
    ----------
    skip : int
        Batches that the next epoch leaves out.
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
        """Number, for each window, what it may share a batch with."""
        data = self.dataset
        source = data._source
        kinds = pd.DataFrame({"rate": data._rate, "ids": list(map(bytes, data._ids))})
        keys = [kinds.groupby(["rate", "ids"]).ngroup().to_numpy()[source], data._cuts.n_times]
        if self.by is not None:
            if self.by not in data._trials:
                raise DataError(
                    f"Making batches of {data!r}",
                    f"there is no column {self.by!r} to keep apart",
                    f"Choose one of {', '.join(map(str, data._trials))}",
                )
            keys.append(pd.factorize(data._trials[self.by])[0][data._cuts.trial])
        found = pd.DataFrame(dict(enumerate(keys))).groupby(list(range(len(keys)))).ngroup()
        return np.asarray(found, np.int64)

    def __len__(self) -> int:
        sizes = np.bincount(self._groups)
        count = sizes // self.batch_size if self.drop_last else -(-sizes // self.batch_size)
        return int(count.sum()) // self.shard[1]

    def batches(self) -> list[npt.NDArray[np.int64]]:
        """Return the windows of each batch of the present epoch."""
        data = self.dataset
        order = np.arange(len(data))
        if self.shuffle:
            rng = np.random.default_rng([self.seed, self.epoch])
            order = data.tier.order(data._source, data._cuts.start, rng)
        groups = self._groups[order]
        made = []
        for group in np.unique(groups):
            among = np.flatnonzero(groups == group)
            edges = [*range(0, len(among), self.batch_size), len(among)]
            for first, end in pairwise(edges):
                if end - first == self.batch_size or not self.drop_last:
                    made.append(among[first:end])
        # By the place of the last member: groups come mixed, and in the tier's order.
        made.sort(key=lambda batch: batch[-1])
        rank, size = self.shard
        return [order[batch] for batch in made[rank : len(made) // size * size : size]]

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.epoch
        numbered = list(enumerate(self.batches()))[self.skip :]
        self.epoch, self.skip = epoch + 1, 0

        def read(number: int, windows: npt.NDArray[np.int64]) -> Batch:
            data, n = self.dataset, self.channels_per_window
            if n is None or n >= data._rows.shape[1]:
                return data.batch(windows)
            rng = np.random.default_rng([self.seed, epoch, *self.shard, number])
            return data.batch(windows, data.draw_channels(windows, n, rng))

        if not self.ahead:
            yield from (read(*one) for one in numbered)
            return
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


# ---------------------------------------------------------------------------------- opening


def open_dataset(
    stores: Stores,
    window_seconds: float,
    stride_seconds: float | None = None,
    *,
    channels: Channels = "union",
    target: TargetSpec = None,
    cache: Cache = "auto",
    rates: Rates = "one",
    cut_from: CutFrom = "trials",
    mask_bad: bool = False,
    device: str | torch.device = "cpu",
    cache_dir: str | Path | None = None,
    buffer_bytes: float = 256e6,
    storage_options: Mapping[str, Any] | None = None,
) -> StoreDataset:
    """Open stores as one dataset of windows.

    Parameters
    ----------
    stores : address, Store, or sequence of these
    window_seconds : float
        Windows are cut from trials, whole ones only, from each trial's first sample on.
    stride_seconds : float, optional
        From one window's start to the next; by default windows do not overlap.
    channels : {"union", "intersection", "native"}
        Rows of a window: every channel of any recording, with a presence mask; those that all
        recordings have; or each recording's own, for batches of one montage.
    target : str, Rating, mapping or None
        A label's column (``"emotion"``), a rule on a rating (``"valence>5"``, ``"valence>=5"``,
        ``"valence<4.5|>5.5"``, which leaves the middle out), or one of these for each dataset by
        name. None for windows without a target.
    cache : {"auto", "memory", "memmap", "stream"}
        The tier. ``"memory"``: decoded on the device, in the stored precision. ``"memmap"``:
        decoded once to a file, mapped. ``"stream"``: decoded from the store in every epoch.
        ``"auto"``: the first of these that fits.
    rates : {"one", "native"}
        Refuse recordings of different rates, or keep them apart in batches.
    cut_from : {"trials", "recordings"}
        ``"recordings"`` takes all of the signal, between the trials too, in place of trials; such
        windows have no labels. Pre-training reads so.
    mask_bad : bool
        Count channels that quality control marked as absent.
    device : str or torch.device
        Where ``loader`` gives its batches, and the memory of the memory tier.
    cache_dir : path, optional
        For the memmap tier, on a local disk; by default ``omfa`` in the user's cache folder.
    buffer_bytes : float
        Of decoded signal that the streamed tier keeps: it mixes windows of what it keeps.
    storage_options : mapping, optional
        What fsspec's file system takes, for addresses that are URLs.

    Returns
    -------
    StoreDataset

    Raises
    ------
    DataError
        If a store is of another channel schema version or of other channel rules than another, two
        hold the same recordings, rates differ, a label or its values are missing, or no trial is
        as long as a window.
    """
    opened = _opened(stores, storage_options)
    where = ", ".join(store.path for store in opened)
    stride_seconds = window_seconds if stride_seconds is None else stride_seconds
    union, common = UCS.union(opened), UCS.intersection(opened)
    if cut_from not in get_args(CutFrom) or (cut_from == "recordings" and target is not None):
        raise DataError(
            f"Opening {where}",
            f"cut_from={cut_from!r} with target={target!r}",
            "Use cut_from='trials', or 'recordings' without a target",
        )
    trials, sources = read_trials(opened, whole=cut_from == "recordings")
    made = make_target(trials, target, where=where)
    sfreq = np.array([source.sfreq for source in sources])
    _check_rates(opened, sfreq, rates)
    cuts = cut(
        trials,
        sfreq[trials["recording"].to_numpy()],
        window_seconds=window_seconds,
        stride_seconds=stride_seconds,
        where=where,
    )
    cuts = cuts[made.keep[cuts.trial]]
    rows, ids = _montages(sources, channels, union, common, where, mask_bad)
    folder = Path(cache_dir).expanduser() if cache_dir else default_cache_dir()
    chosen = torch.device(device)
    source = trials["recording"].to_numpy(np.int64)[cuts.trial]
    tier = _tier(cache, sources, source, cuts, stride_seconds, chosen, folder, buffer_bytes)
    recipe = {
        "stores": [store.path for store in opened],
        "window_seconds": window_seconds,
        "stride_seconds": stride_seconds,
        "channels": channels,
        "target": target_to_json(target),
        "cache": cache,
        "rates": rates,
        "cut_from": cut_from,
        "mask_bad": mask_bad,
        "cache_dir": str(cache_dir) if cache_dir else None,
        "buffer_bytes": buffer_bytes,
    }
    return StoreDataset(tier, made, recipe, chosen, sources, trials, cuts, rows, ids, opened[0].ucs)


def _opened(stores: Stores, options: Mapping[str, Any] | None) -> list[Store]:
    given = [stores] if isinstance(stores, (str, Path, Store)) else list(stores)
    if not given:
        raise DataError("Opening a dataset", "no store was given", "Name at least one")
    return [
        store if isinstance(store, Store) else open_store(store, storage_options=options)
        for store in given
    ]


def _check_rates(stores: Sequence[Store], sfreq: npt.NDArray[np.float64], rates: Rates) -> None:
    if rates == "native" or len(np.unique(sfreq)) == 1:
        return
    each = [
        f"{store.path} {_listed(np.unique(store.recordings['sfreq'].to_numpy(float)))} Hz"
        for store in stores
    ]
    raise DataError(
        "Opening stores as one dataset",
        f"the recordings are sampled at different rates ({'; '.join(each)})",
        "Ingest them again with one --sfreq, or pass rates='native' for batches of one rate each",
    )


def _montages(
    sources: Sequence[Source],
    channels: Channels,
    union: list[str],
    common: list[str],
    where: str,
    mask_bad: bool,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return each source's rows for a window, and their UCS ids; -1 where there is none."""
    if channels == "intersection" and not common:
        raise DataError(
            f"Joining the channels of {where}",
            "no channel is in all recordings",
            "Use channels='union'",
        )
    lists = {
        "union": [union] * len(sources),
        "intersection": [common] * len(sources),
        "native": [list(source.channels) for source in sources],
    }
    if channels not in lists:
        raise DataError(
            f"Opening {where}",
            f"channels={channels!r}",
            f"Use one of {', '.join(map(repr, lists))}",
        )
    width = max(map(len, lists[channels]))
    rows = np.full((len(sources), width), -1)
    ids = np.full((len(sources), width), -1)
    for i, (source, names) in enumerate(zip(sources, lists[channels], strict=True)):
        row = {name: number for number, name in enumerate(source.channels)}
        for name in source.bad_channels if mask_bad else ():
            row.pop(name, None)
        rows[i, : len(names)] = [row.get(name, -1) for name in names]
        ids[i, : len(names)] = UCS.ids(names)
    return rows, ids


def _tier(
    cache: Cache,
    sources: Sequence[Source],
    source: npt.NDArray[np.int64],
    cuts: Cuts,
    stride_seconds: float,
    device: torch.device,
    folder: Path,
    buffer_bytes: float,
) -> Tier:
    if cache == "auto":
        cache = choose(sum(one.nbytes for one in sources), device, folder)
    match cache:
        case "memory":
            steps = [round(stride_seconds * one.sfreq) for one in sources]
            stride = np.array(steps, np.int64)[source]
            shortest = min(
                tile_length(*pair)
                for pair in set(zip(cuts.n_times.tolist(), stride.tolist(), strict=True))
            )
            if shortest < SHORTEST:
                return hold(sources, device)
            return hold_tiles(sources, source, cuts.start, cuts.n_times, stride, device)
        case "memmap":
            return map_sources(sources, folder)
        case "stream":
            return stream(sources, source, cuts.start, cuts.n_times, buffer_bytes)
    raise DataError(
        "Opening a dataset", f"cache={cache!r}", "Use 'auto', 'memory', 'memmap' or 'stream'"
    )


def _chosen(
    values: npt.NDArray[np.int64], columns: npt.NDArray[np.int64] | None
) -> npt.NDArray[np.int64]:
    return values if columns is None else np.take_along_axis(values, columns, axis=1)


def _listed(rates: npt.NDArray[np.float64]) -> str:
    return " and ".join(f"{rate:g}" for rate in rates)
