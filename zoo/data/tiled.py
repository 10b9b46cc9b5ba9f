"""The tiled tier: signals in memory, laid out so that a window is one contiguous read.

A tile is a stretch of all channels of a recording, as long as the greatest common divisor of window
and stride; a window is a few tiles in a row. Only tiles that windows need are held, each once, so
overlapping windows take no more memory. Reading a window anywhere costs little more than copying
it, whereas a row per channel, each far from the next, waits for the memory at every row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from omfa.zoo.data.sources import Ints, Source, has_gaps
from omfa.zoo.data.tiers import absent_zero, onto, selected, window_key

SHORTEST = 32
"""Samples of a tile below which rows (``flat.py``) are used: a window would be many short reads."""


@dataclass(eq=False)
class Tiled:
    """Tiles of all sources, in RAM or in the memory of a device.

    Attributes
    ----------
    sources : list of Source
    banks : list of Tensor, each of shape (n_tiles, n_chans * length)
        One for each stored type, number of channels and length of a tile.
    bank : ndarray of int, shape (n_sources,)
        The bank that a source is in.
    length, n_times : ndarray of int, shape (n_sources,)
        Samples of a source's tiles, and of its windows.
    keys : ndarray of int, shape (n_windows,)
        ``window_key`` of each window, ascending.
    tile : ndarray of int, shape (n_windows,)
        The first tile of each window in its bank.
    gappy : ndarray of bool, shape (n_sources,)
        Whether a source has missing samples.
    """

    sources: list[Source]
    banks: list[torch.Tensor] = field(repr=False)
    bank: Ints
    length: Ints
    n_times: Ints
    keys: Ints = field(repr=False)
    tile: Ints = field(repr=False)
    gappy: npt.NDArray[np.bool_]
    name: str = "memory"

    def gather(self, source: Ints, rows: Ints, start: Ints, n_times: int) -> torch.Tensor:
        """See ``Tier``."""
        first = self.tile[np.searchsorted(self.keys, window_key(source, start))]
        banks = self.bank[source]
        if len(self.banks) == 1 or (banks == banks[0]).all():
            return self._gather(int(banks[0]), first, source, rows)
        device = self.banks[0].device
        X = torch.empty((len(source), rows.shape[1], n_times), device=device)
        for number in np.unique(banks).tolist():
            among = np.flatnonzero(banks == number)
            got = self._gather(number, first[among], source[among], rows[among])
            X[onto(among, device)] = got
        return X

    def _gather(self, number: int, first: Ints, source: Ints, rows: Ints) -> torch.Tensor:
        """Return windows from one bank, by their first tiles."""
        bank, length = self.banks[number], int(self.length[source[0]])
        n_chans, n_tiles = bank.shape[1] // length, int(self.n_times[source[0]]) // length
        # A tile is the window, all channels in order: one read per window, not one per channel.
        if n_tiles == 1 and rows.shape[1] == n_chans and (rows == np.arange(n_chans)).all():
            return selected(bank, torch.from_numpy(first)).view(-1, n_chans, length)
        tiles = first[:, None] + np.arange(n_tiles)
        parts = tiles[:, None] * n_chans + rows.clip(min=0)[..., None]
        X = selected(bank.view(-1, length), torch.from_numpy(parts.reshape(-1)))
        return absent_zero(X.view(*rows.shape, -1), rows)

    def order(self, source: Ints, start: Ints, rng: np.random.Generator) -> Ints:
        """See ``Tier``: all orders are as fast."""
        return rng.permutation(len(source))

    def read(self, source: int, start: int, stop: int) -> npt.NDArray[np.floating]:
        """See ``Tier``: a window is read from memory, anything else from the store."""
        key = window_key(np.array([source]), np.array([start]))
        place = int(np.searchsorted(self.keys, key)[0])
        window = place < len(self.keys) and self.keys[place] == key[0]
        if not window or stop - start != self.n_times[source]:
            return self.sources[source].read(start, stop)
        length = int(self.length[source])
        first, n_tiles = int(self.tile[place]), (stop - start) // length
        tiles = self.banks[self.bank[source]][first : first + n_tiles].view(n_tiles, -1, length)
        return tiles.transpose(0, 1).flatten(1).cpu().numpy()

    def gaps(self, source: Ints) -> npt.NDArray[np.bool_]:
        """See ``Tier``."""
        return self.gappy[source]

    def __deepcopy__(self, memo: dict[int, Any]) -> Tiled:
        return self  # nothing in it changes, and it is large


def tile_length(n_times: int, stride: int) -> int:
    """Return the longest tile of which windows of ``n_times`` samples can be made.

    Parameters
    ----------
    n_times, stride : int
        Samples of a window, and from one window's start to the next.

    Returns
    -------
    int
        Samples.
    """
    # Windows that do not overlap share no sample, so each is a tile of its own.
    return int(np.gcd(n_times, stride)) if stride <= n_times else n_times


def _tiles(start: Ints, n_times: int, length: int) -> tuple[Ints, Ints]:
    """Lay out the tiles of a source.

    Returns
    -------
    starts : ndarray of int, shape (n_tiles,)
        The first sample of each tile.
    first : ndarray of int, shape (n_windows,)
        The number of each window's first tile; its others follow.
    """
    starts = np.unique(start[:, None] + np.arange(0, n_times, length))
    # Trials begin anywhere, so their grids differ. Sorted by grid, a window's tiles are in a row.
    starts = starts[np.lexsort((starts, starts % length))]
    order = np.argsort(starts)
    return starts, order[np.searchsorted(starts, start, sorter=order)]


def hold_tiles(
    sources: Sequence[Source],
    source: Ints,
    start: Ints,
    n_times: Ints,
    stride: Ints,
    device: str | torch.device = "cpu",
) -> Tiled:
    """Decode the samples that windows need into memory.

    Parameters
    ----------
    sources : sequence of Source
    source, start, n_times, stride : ndarray of int, shape (n_windows,)
        Each window's source, first sample, number of samples and, also in samples, the step to the
        next window of its trial; ordered by source and start. Windows of a source have one length
        and one stride.
    device : str or torch.device
        Whose memory: that of the CPU, or of a CUDA device.
    """
    count = len(sources)
    length, width = np.ones(count, np.int64), np.ones(count, np.int64)
    starts: list[Ints] = [np.empty(0, np.int64)] * count
    tile = np.zeros(len(source), np.int64)
    for number in np.unique(source).tolist():
        among = np.flatnonzero(source == number)
        width[number] = n_times[among[0]]
        length[number] = tile_length(int(width[number]), int(stride[among[0]]))
        starts[number], tile[among] = _tiles(start[among], int(width[number]), int(length[number]))
    kinds = [(s.dtype, len(s.channels), int(t)) for s, t in zip(sources, length, strict=True)]
    known = sorted({kind for kind, its in zip(kinds, starts, strict=True) if len(its)})
    bank = np.array([known.index(kind) if kind in known else 0 for kind in kinds])
    banks, gappy = [], np.zeros(count, bool)
    for number, (dtype, n_chans, samples) in enumerate(known):
        mine = [i for i in range(count) if bank[i] == number and len(starts[i])]
        total = sum(len(starts[i]) for i in mine)
        # NumPy asks for huge pages, torch does not: reads all over need fewer of them.
        held = np.empty((total, n_chans, samples), dtype)
        filled = 0
        for i in mine:
            signal = sources[i].read()
            gappy[i] = has_gaps(signal)
            every = np.lib.stride_tricks.sliding_window_view(signal, samples, axis=1)
            held[filled : filled + len(starts[i])] = every[:, starts[i]].transpose(1, 0, 2)
            tile[source == i] += filled
            filled += len(starts[i])
        banks.append(torch.from_numpy(held).flatten(1).to(device))
    keys = window_key(source, start)
    return Tiled(list(sources), banks, bank, length, width, keys, tile, gappy)
