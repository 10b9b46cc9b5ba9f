"""Reads numeric arrays of MATLAB 7.3 files, which are HDF5 behind a block of MATLAB's own.

An HDF5 file may keep data in other files, by links or as external storage, and may claim arrays of
any size. Here an array is in the file itself, real, of few filters and no larger than its reader
says; everything else is refused. ``matlab`` reads the older level 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from omfa.pipeline.errors import DataError
from omfa.pipeline.words import some

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_USER_BLOCK = 512  # bytes of MATLAB's own before the HDF5 file
_BLOCK = 1 << 22  # bytes read at a time
_MOST_FILTERS = 3  # shuffle, deflate, checksum
_WHOLE = "Download the file again"


@contextmanager
def opened(path: Path, *, doing: str) -> Iterator[Any]:
    """Open a MATLAB 7.3 file; what HDF5 raises on it while it is open is a ``DataError``.

    Parameters
    ----------
    path : Path
    doing : str
        What errors say was being done.

    Yields
    ------
    h5py.File

    Raises
    ------
    DataError
        If h5py is not installed, or the file is not of this format or damaged.
    """
    try:
        import h5py  # an extra
    except ImportError as error:
        raise DataError(
            doing,
            "it is a MATLAB 7.3 file, which is HDF5, and h5py is not installed",
            "Run: pip install 'omfa[hdf5]'",
        ) from error
    with path.open("rb") as file:
        head = file.read(_USER_BLOCK + len(_SIGNATURE))
    if head[_USER_BLOCK:] != _SIGNATURE:
        is_older = head[:10] == b"MATLAB 5.0"
        raise DataError(
            doing,
            "it is a MATLAB file of level 5, and the corpus is distributed in MATLAB 7.3"
            if is_older
            else "it is not a MATLAB 7.3 file",
            "Take the file as distributed"
            if is_older
            else "Check that the download is whole and not a page",
        )
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (DataError, MemoryError):
        raise
    except Exception as error:  # HDF5 raises whatever its parsing meets
        raise DataError(
            doing, f"the file is damaged or cut short ({str(error)[:200]})", _WHOLE
        ) from error


def dataset(file: Any, name: str, *, most: int, doing: str) -> Any:
    """Return a variable of a file, as an HDF5 dataset of real numbers that is not read yet.

    Parameters
    ----------
    file : h5py.File
    name : str
        The variable's.
    most : int
        Items that it may have.
    doing : str
        For the error.

    Returns
    -------
    h5py.Dataset
        Its axes are those of MATLAB in reverse.

    Raises
    ------
    DataError
        If there is no such variable in the file itself, or it is of another kind or larger.
    """
    import h5py

    if name not in file:
        raise DataError(
            doing,
            f"it holds no variable {name!r}, but {some(sorted(file), 5) or 'nothing'}",
            _WHOLE,
        )
    link = file.get(name, getlink=True)
    found = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
        raise DataError(doing, f"its variable {name!r} is no array in the file itself", _WHOLE)
    if found.dtype.kind not in "fiu" or found.dtype.itemsize > 8:
        raise DataError(
            doing, f"its variable {name!r} is {found.dtype}, and no real numbers", _WHOLE
        )
    n_filters = found.id.get_create_plist().get_nfilters()
    if found.size is None or found.size > most or n_filters > _MOST_FILTERS:
        raise DataError(
            doing,
            f"its variable {name!r} is {shape(found)} through {n_filters} filters, more than "
            f"{most} numbers",
            _WHOLE,
        )
    return found


def blocks(found: Any) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Read a dataset along its first axis, in whole chunks of the file.

    Yields
    ------
    start : int
        Where the block begins on the first axis.
    block : ndarray
        Valid until the next: all have one buffer.
    """
    n_rows, *rest = found.shape
    chunk = found.chunks[0] if found.chunks else 1
    row_bytes = max(int(np.prod(rest)) * found.dtype.itemsize, 1)
    step = min(max(_BLOCK // (chunk * row_bytes), 1) * chunk, n_rows)
    buffer = np.empty((step, *rest), found.dtype)
    for start in range(0, n_rows, step):
        n = min(step, n_rows - start)
        found.read_direct(buffer, np.s_[start : start + n], np.s_[:n])
        yield start, buffer[:n]


def shape(found: Any) -> str:
    """Return a dataset's shape in words: ``7500 x 32``."""
    return " x ".join(map(str, found.shape or ()))
