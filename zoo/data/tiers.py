"""What a tier is, how one is chosen, and what all of them use to copy samples.

A tier is where decoded signals lie while a model trains. Each gives the same windows of the same
stored samples, and none stores a window: overlap costs no memory.

- ``Tiled`` (``tiled.py``) holds what windows need in memory, in tiles of all channels, so that a
  window is one contiguous read.
- ``Flat`` (``flat.py``) holds every sample once, row after row, in memory or in a mapped file, so
  that a window is as many short reads as it has channels, wherever it starts.
- ``Streamed`` (``streamed.py``) decodes a piece of a recording when a window in it is read, and
  keeps the last few pieces.
"""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import psutil
import torch

from omfa.zoo.data.settings import Cache
from omfa.zoo.data.sources import Ints

MEMORY_SHARE = 0.5
"""Share of the free memory, of RAM or of the device, that ``auto`` fills with signals. The rest is
for the model, its gradients and the batches.
"""

DISK_SHARE = 0.8
"""Share of the free disk that ``auto`` fills with a mapped file."""

CONVERTED_BYTES = 2**21
"""Bytes of stored samples that are converted to float32 at a time: they stay in a CPU's cache."""


class Tier(Protocol):
    """Gives windows of the signals of a dataset's sources, which it knows by their number.

    Attributes
    ----------
    name : {"memory", "memmap", "stream"}
    """

    name: str

    def gather(self, source: Ints, rows: Ints, start: Ints, n_times: int) -> torch.Tensor:
        """Return windows of one length.

        Parameters
        ----------
        source : ndarray of int, shape (batch,)
            Number of each window's source.
        rows : ndarray of int, shape (batch, n_chans)
            For each window the rows of its source's signal; -1 for an absent channel.
        start : ndarray of int, shape (batch,)
            First sample of each window in its source.
        n_times : int
            Samples of each window.

        Returns
        -------
        Tensor of float32, shape (batch, n_chans, n_times)
            Microvolts; 0 where a channel is absent, NaN where a sample is missing.
        """

    def order(self, source: Ints, start: Ints, rng: np.random.Generator) -> Ints:
        """Return a random order of windows in which the tier can read them fast.

        Parameters
        ----------
        source, start : ndarray of int, shape (n_windows,)
            Each window's source and first sample.
        rng : numpy.random.Generator

        Returns
        -------
        ndarray of int, shape (n_windows,)
            A permutation of the windows' positions.
        """

    def read(self, source: int, start: int, stop: int) -> npt.NDArray[np.floating]:
        """Return samples ``start`` to ``stop`` of a source, all its channels.

        Returns
        -------
        ndarray of the stored type, shape (n_chans, stop - start)
            Microvolts; NaN where a sample is missing.
        """

    def gaps(self, source: Ints) -> npt.NDArray[np.bool_]:
        """Mark the sources with missing samples, as far as they have been decoded.

        Parameters
        ----------
        source : ndarray of int, shape (batch,)

        Returns
        -------
        ndarray of bool, shape (batch,)
            Right for every window that has been gathered.
        """


def onto(values: npt.NDArray[Any] | torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return values of the host as a tensor on a device.

    The host does not wait for a CUDA device, which would first have to finish all that it was
    given: the copy is made from memory that the system leaves in its place.
    """
    here = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    if device.type == "cuda" and here.device.type == "cpu":
        return here.pin_memory().to(device, non_blocking=True)
    return here.to(device)


def fresh(*shape: int) -> torch.Tensor:
    """Return a tensor of float32 of that shape whose memory is not set.

    NumPy asks the system for huge pages, which makes new memory cheaper; torch does not.
    """
    return torch.from_numpy(np.empty(shape, np.float32))


class _Scratch(threading.local):
    """Memory that each thread uses again and again."""

    def __init__(self) -> None:
        # A NumPy array: a tensor made in torch's inference mode could not be written to outside it.
        self.content = np.empty(0, np.uint8)

    def rows(self, n: int, width: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return a tensor (n, width) whose content is not set; it is valid until the next call."""
        size = n * width * dtype.itemsize
        if len(self.content) < size:
            self.content = np.empty(size, np.uint8)
        return torch.from_numpy(self.content[:size]).view(dtype).view(n, width)


_STORED, _CONVERTED = _Scratch(), _Scratch()


def selected(
    table: torch.Tensor,
    rows: torch.Tensor,
    *,
    out: torch.Tensor | None = None,
    at: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return rows of a table of samples as float32.

    In RAM new memory can cost more than the copying. So samples of another type are converted in
    pieces, through memory that a thread uses again.

    Parameters
    ----------
    table : Tensor of any float type, shape (n_rows, width)
    rows : Tensor of int64, shape (n,)
        Which rows to return.
    out : Tensor of float32, shape (n_out, width), optional
        Where to write them, in RAM as the table is.
    at : Tensor of int64, shape (n,), optional
        The row of ``out`` to write each to; by default ``out`` is filled in order.

    Returns
    -------
    Tensor of float32, shape (n, width)
        Or ``out``, if it is given.
    """
    if table.device.type != "cpu":
        return table.index_select(0, onto(rows, table.device)).float()
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


def every_window(flat: torch.Tensor, n_times: int) -> torch.Tensor:
    """View every stretch of ``n_times`` samples in a row of samples, which takes no memory.

    Parameters
    ----------
    flat : Tensor, shape (n_samples,)
    n_times : int

    Returns
    -------
    Tensor, shape (n_samples - n_times + 1, n_times)
        Row i begins at sample i.
    """
    return flat.as_strided((len(flat) - n_times + 1, n_times), (1, 1))


def stretches(flat: torch.Tensor, place: torch.Tensor, n_times: int) -> torch.Tensor:
    """Return stretches of a row of samples as float32.

    Parameters
    ----------
    flat : Tensor of any float type, shape (n_samples,)
    place : Tensor of int64, any shape
        The sample at which each stretch begins.
    n_times : int
        Samples of each stretch.

    Returns
    -------
    Tensor of float32, shape (*place.shape, n_times)
    """
    return selected(every_window(flat, n_times), place.reshape(-1)).view(*place.shape, n_times)


def absent_zero(X: torch.Tensor, rows: Ints) -> torch.Tensor:
    """Set absent channels to zero in place.

    Parameters
    ----------
    X : Tensor, shape (batch, n_chans, n_times)
    rows : ndarray of int, shape (batch, n_chans)
        -1 where a channel is absent.

    Returns
    -------
    Tensor
        ``X``.
    """
    absent = rows < 0
    if absent.any():
        X[onto(absent, X.device)] = 0
    return X


def window_key(source: Ints, start: Ints) -> Ints:
    """Return one number per window, ordered by source, then by start.

    Parameters
    ----------
    source, start : ndarray of int, shape (n_windows,)
        Each window's source and first sample.

    Returns
    -------
    ndarray of int64, shape (n_windows,)
    """
    # 40 bits for the start: 272 years at 128 Hz.
    return source.astype(np.int64) << 40 | start.astype(np.int64)


def default_cache_dir() -> Path:
    """Return the folder of mapped files: ``omfa`` in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "omfa"


def fits(nbytes: int, device: torch.device) -> bool:
    """Return whether a CUDA device has room for that and for the work on it."""
    return nbytes <= MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]


def choose(nbytes: int, device: str | torch.device, cache_dir: Path) -> Cache:
    """Return the first tier that decoded signals fit into: memory, memmap, stream.

    Parameters
    ----------
    nbytes : int
        Size of the decoded signals.
    device : str or torch.device
        Whose memory to fill; for a CUDA device the choice is between memory and stream.
    cache_dir : Path
        Where the mapped file would be; it need not exist.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return "memory" if fits(nbytes, device) else "stream"
    if nbytes <= MEMORY_SHARE * psutil.virtual_memory().available:
        return "memory"
    there = next(folder for folder in (cache_dir, *cache_dir.parents) if folder.exists())
    return "memmap" if nbytes <= DISK_SHARE * shutil.disk_usage(there).free else "stream"
