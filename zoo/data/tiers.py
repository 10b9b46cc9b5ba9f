"""Where decoded signals lie while a model trains: in memory, in a mapped file, or nowhere for long.

Each tier gives the same windows of the same stored samples. ``Flat`` holds every sample once, row
after row, in the stored type, so that a window is as many short reads as it has channels, wherever
it starts: no stride costs memory. ``Streamed`` decodes pieces of recordings when a window in them
is asked for, and keeps the last few; its ``order`` mixes the windows of as many pieces as it keeps.
"""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import psutil
import torch

from omfa.zoo.data.settings import Cache
from omfa.zoo.data.sources import Ints

MEMORY_SHARE = 0.5
"""Share of the free memory, of RAM or of the device, that ``auto`` fills with signals."""

CONVERTED_BYTES = 2**21
"""Of samples that are converted at a time: they fit into a processor's cache."""


class Tier(Protocol):
    """Gives windows of the sources' signals."""

    name: str

    def gather(self, source: Ints, rows: Ints, start: Ints, n_times: int) -> torch.Tensor:
        """Return windows.

        Parameters
        ----------
        source : ndarray, shape (batch,)
        rows : ndarray, shape (batch, n_chans)
            For each window the rows of its source's signal; -1 for an absent channel.
        start : ndarray, shape (batch,)
        n_times : int

        Returns
        -------
        Tensor of float32, shape (batch, n_chans, n_times)
            0 where absent.
        """

    def order(self, source: Ints, start: Ints, rng: np.random.Generator) -> Ints:
        """Return a random order of windows that the tier can serve fast."""

    def read(self, source: int, start: int, stop: int) -> npt.NDArray[np.floating]:
        """Return a piece of a recording, shape (n_chans, stop - start)."""

    def gaps(self, source: Ints) -> npt.NDArray[np.bool_]:
        """Return which sources have missing samples, so far as they have been decoded."""


def stretches(flat: torch.Tensor, place: torch.Tensor, n_times: int) -> torch.Tensor:
    """Return stretches of a row of samples as float32.

    Parameters
    ----------
    flat : Tensor, shape (n_samples,)
    place : Tensor of int64
        Where each begins.
    n_times : int

    Returns
    -------
    Tensor, shape (*place.shape, n_times)
    """
    return selected(every_window(flat, n_times), place.reshape(-1)).view(*place.shape, n_times)


def every_window(flat: torch.Tensor, n_times: int) -> torch.Tensor:
    """View every stretch there is, a row each, which takes no memory."""
    return flat.as_strided((len(flat) - n_times + 1, n_times), (1, 1))


def selected(
    table: torch.Tensor,
    rows: torch.Tensor,
    *,
    out: torch.Tensor | None = None,
    at: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return rows of a table of samples as float32.

    In RAM fresh memory can cost more than the copying. So the stored type passes through a piece
    that a thread uses again and again.

    Parameters
    ----------
    table : Tensor, shape (n_rows, width)
    rows : Tensor of int64, shape (n,)
    out : Tensor of float32, shape (n_out, width), optional
        What to write to, in RAM as the table is.
    at : Tensor of int64, shape (n,), optional
        Rows of ``out``.

    Returns
    -------
    Tensor, shape (n, width), or ``out``
    """
    if table.device.type != "cpu":
        return table.index_select(0, rows.to(table.device)).float()
    n, width = len(rows), table.shape[1]
    X = fresh(n, width) if out is None else out
    if table.dtype == torch.float32 and at is None:
        return torch.index_select(table, 0, rows, out=X)
    step = max(1, min(n, CONVERTED_BYTES // (width * table.element_size())))
    for i in range(0, n, step):
        some = slice(i, i + step)
        stored = _STORED.rows(len(rows[some]), width, table.dtype)
        torch.index_select(table, 0, rows[some], out=stored)
        if at is None:
            X[some].copy_(stored)
        else:
            X.index_copy_(0, at[some], _CONVERTED.rows(len(stored), width).copy_(stored))
    return X


class _Scratch(threading.local):
    """Memory of a thread that is used again."""

    def __init__(self) -> None:
        # NumPy's: a tensor made in torch's inference mode could not be written to outside it.
        self.content = np.empty(0, np.uint8)

    def rows(self, n: int, width: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        size = n * width * dtype.itemsize
        if len(self.content) < size:
            self.content = np.empty(size, np.uint8)
        return torch.from_numpy(self.content[:size]).view(dtype).view(n, width)


_STORED, _CONVERTED = _Scratch(), _Scratch()


def fresh(*shape: int) -> torch.Tensor:
    """Return memory for samples. NumPy asks for huge pages, torch does not."""
    return torch.from_numpy(np.empty(shape, np.float32))


def absent_zero(X: torch.Tensor, rows: Ints) -> torch.Tensor:
    """Set windows' absent channels, whose row is -1, to zero in place."""
    absent = rows < 0
    if absent.any():
        X[torch.from_numpy(absent).to(X.device)] = 0
    return X


def window_key(source: Ints, start: Ints) -> Ints:
    """Return one number for each place, ordered by source and start."""
    return source.astype(np.int64) << 40 | start.astype(np.int64)


def default_cache_dir() -> Path:
    """Return the folder of decoded signals: ``omfa`` in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "omfa"


def choose(nbytes: int, device: str | torch.device, cache_dir: Path) -> Cache:
    """Return the first tier that decoded signals fit into: memory, memmap, stream."""
    device = torch.device(device)
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        return "memory" if nbytes <= MEMORY_SHARE * free else "stream"
    if nbytes <= MEMORY_SHARE * psutil.virtual_memory().available:
        return "memory"
    there = next(folder for folder in (cache_dir, *cache_dir.parents) if folder.exists())
    return "memmap" if nbytes <= 0.8 * shutil.disk_usage(there).free else "stream"
