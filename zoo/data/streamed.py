"""The streamed tier: pieces of recordings that are decoded when a window in them is read.

For stores that fit neither in memory nor on the disk, or that lie in an object store. Recordings
are cut into pieces of about 16 MB at places where windows start, so that each window lies in one
piece. The pieces that were used last are kept, as many as fit into a buffer. Shuffling every window
freely would decode a piece for nearly every window; ``Streamed.order`` mixes as many pieces at a
time as the buffer holds instead, so that each is decoded once in an epoch.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from omfa.zoo.data.sources import Ints, Source, has_gaps
from omfa.zoo.data.tiers import absent_zero, every_window, fresh, selected, window_key

PIECE_BYTES = 16e6
"""Decoded bytes of a piece. Large against a chunk of a store, which is decoded whole; small against
the buffer, so that many are mixed.
"""


@dataclass(eq=False)
class Streamed:
    """Pieces of recordings, decoded when a window in them is read; those used last are kept.

    Attributes
    ----------
    sources : list of Source
    source, start, stop : ndarray of int, shape (n_pieces,)
        Each piece's source, its first sample and the one after its last, ordered by source and
        start; no window reaches beyond its piece.
    buffer_bytes : float
        Bytes of decoded pieces to keep.
    gappy : ndarray of bool, shape (n_sources,)
        Whether a source has missing samples in the pieces decoded so far.
    """

    sources: list[Source]
    source: Ints
    start: Ints
    stop: Ints
    buffer_bytes: float
    name: str = "stream"
    gappy: npt.NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.gappy = np.zeros(len(self.sources), bool)
        self._kept: OrderedDict[int, npt.NDArray[np.floating]] = OrderedDict()
        self._lock = threading.RLock()

    @cached_property
    def _keys(self) -> Ints:
        return window_key(self.source, self.start)

    @cached_property
    def n_kept(self) -> int:
        """Number of pieces that are kept: as many of the largest as fit, at least one."""
        sizes = [self._nbytes(i) for i in range(len(self.source))]
        return max(1, int(self.buffer_bytes / max(sizes, default=1)))

    @property
    def kept(self) -> list[int]:
        """Numbers of the pieces that are kept now, the one used longest ago first."""
        return list(self._kept)

    def _nbytes(self, piece: int) -> int:
        source = self.sources[self.source[piece]]
        length = int(self.stop[piece] - self.start[piece])
        return len(source.channels) * length * np.dtype(source.dtype).itemsize

    def pieces(self, source: Ints, start: Ints) -> Ints:
        """Return the number of the piece that each window lies in, shape (n_windows,)."""
        return np.searchsorted(self._keys, window_key(source, start), side="right") - 1

    def gather(self, source: Ints, rows: Ints, start: Ints, n_times: int) -> torch.Tensor:
        """See ``Tier``."""
        n_chans = rows.shape[1]
        X = fresh(len(source) * n_chans, n_times)
        pieces = self.pieces(source, start)
        order = np.argsort(pieces, kind="stable")
        found, first = np.unique(pieces[order], return_index=True)
        parts = list(zip(found.tolist(), np.split(order, first[1:]), strict=True))
        # Kept pieces first: a new one then takes the place of one that this batch is done with.
        parts.sort(key=lambda part: part[0] not in self._kept)
        for piece, among in parts:
            signal = self._signal(piece)
            place = rows[among].clip(min=0) * signal.shape[1]
            place += (start[among] - self.start[piece])[:, None]
            at = among[:, None] * n_chans + np.arange(n_chans)
            every = every_window(torch.from_numpy(signal.reshape(-1)), n_times)
            where = torch.from_numpy(place.reshape(-1))
            selected(every, where, out=X, at=torch.from_numpy(at.reshape(-1)))
        return absent_zero(X.view(len(source), n_chans, n_times), rows)

    def _signal(self, piece: int) -> npt.NDArray[np.floating]:
        """Return a piece's signal, shape (n_chans, n_times), decoded if it is not kept."""
        with self._lock:  # threads share the pieces; one decodes at a time
            if piece in self._kept:
                self._kept.move_to_end(piece)
                return self._kept[piece]
            # Before decoding, so that the buffer is never exceeded.
            while len(self._kept) >= self.n_kept:
                self._kept.popitem(last=False)
            number = int(self.source[piece])
            signal = self.sources[number].read(int(self.start[piece]), int(self.stop[piece]))
            signal = np.ascontiguousarray(signal)
            self.gappy[number] |= has_gaps(signal)
            self._kept[piece] = signal
            return signal

    def order(self, source: Ints, start: Ints, rng: np.random.Generator) -> Ints:
        """Shuffle windows so that few pieces are in use at a time; see ``Tier``.

        Pieces are visited in random order. The windows of a piece come at random times in a span of
        K turns around its own (moved to lie within the epoch at its ends). So about K pieces are
        mixed at once, and each is decoded once per epoch, if a batch is small against the windows
        of a piece. Near the ends up to 3K/2 pieces are in use; K is such that these are kept.
        """
        pieces = self.pieces(source, start)
        used, piece = np.unique(pieces, return_inverse=True)
        turns = max(1, int((self.n_kept - 2) / 1.5))  # K; two to spare for pieces that enter
        turn = rng.permutation(len(used))
        first = np.clip(turn - turns / 2, 0, max(0, len(used) - turns))
        return np.argsort(first[piece] + turns * rng.random(len(piece)), kind="stable")

    def read(self, source: int, start: int, stop: int) -> npt.NDArray[np.floating]:
        """See ``Tier``."""
        return self.sources[source].read(start, stop)

    def gaps(self, source: Ints) -> npt.NDArray[np.bool_]:
        """See ``Tier``."""
        return self.gappy[source]

    def __deepcopy__(self, memo: dict[int, Any]) -> Streamed:
        return self

    def __getstate__(self) -> dict[str, Any]:
        # A worker process decodes for itself: kept pieces are large, and locks cannot be sent.
        return {k: v for k, v in self.__dict__.items() if k not in ("_kept", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._kept = OrderedDict()
        self._lock = threading.RLock()


def _pieces(
    sources: Sequence[Source], source: Ints, start: Ints, stop: Ints
) -> Iterator[tuple[int, int, int]]:
    """Yield (source, start, stop) of pieces of about ``PIECE_BYTES``, neighbouring windows each."""
    for number in np.unique(source).tolist():
        one = sources[number]
        limit = PIECE_BYTES / (len(one.channels) * np.dtype(one.dtype).itemsize)
        among = np.flatnonzero(source == number)
        first = 0
        starts, stops = start[among], np.maximum.accumulate(stop[among])
        while first < len(among):
            # The windows that end within the limit, at least one; and all that start with the last
            # of them, since a window finds its piece by its start.
            end = max(int(np.searchsorted(stops, starts[first] + limit, side="right")), first + 1)
            end = int(np.searchsorted(starts, starts[end - 1], side="right"))
            yield number, int(starts[first]), int(stops[end - 1])
            first = end


def stream(
    sources: Sequence[Source], source: Ints, start: Ints, n_times: Ints, buffer_bytes: float
) -> Streamed:
    """Make the streamed tier for a dataset's windows.

    Parameters
    ----------
    sources : sequence of Source
    source, start, n_times : ndarray of int, shape (n_windows,)
        Each window's source, first sample and number of samples, ordered by source and start.
    buffer_bytes : float
        Bytes of decoded pieces to keep.
    """
    pieces = list(_pieces(sources, source, start, start + n_times))
    columns = np.array(pieces, np.int64).T
    return Streamed(list(sources), columns[0], columns[1], columns[2], buffer_bytes)
