"""Reads Neuroscan continuous recordings (.cnt) of 32-bit samples.

MNE reads them too, at three times the cost, and reads on where a header and its file disagree. The
offsets are those that MNE knows; microvolts are (sample - baseline) * sensitivity * calibration /
204.8. The header's number of samples is 0 or wrong in files of the field and is not used: the
signal ends where the event table begins.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from omfa.pipeline.errors import DataError

_SETUP, _ELECTRODE, _TABLE = 900, 75, 9  # bytes
_MAX_CHANNELS = 1024
_EVENT_BYTES = {1: 8, 2: 19, 3: 19}
_BLOCK = 4096  # samples decoded at a time


@dataclass(frozen=True)
class NeuroscanFile:
    """The header and the event table of a .cnt.

    Attributes
    ----------
    path : Path
    channels : tuple of str
    sfreq : float
        Hz.
    n_times : int
    scale, baseline : ndarray, shape (n_chans,)
        Microvolts per digit; the digit of 0 uV.
    events : ndarray of int, shape (n_events, 2)
        Sample and code.
    """

    path: Path
    channels: tuple[str, ...]
    sfreq: float
    n_times: int
    scale: npt.NDArray[np.float64]
    baseline: npt.NDArray[np.float64]
    events: npt.NDArray[np.int64]

    def signal(self, picks: Sequence[int]) -> npt.NDArray[np.float32]:
        """Decode channels.

        Returns
        -------
        ndarray, shape (len(picks), n_times)
            Microvolts.
        """
        out = np.empty((len(picks), self.n_times), np.float32)
        n_chans = len(self.channels)
        scale, baseline = self.scale[list(picks)], self.baseline[list(picks)]
        with self.path.open("rb") as file:
            file.seek(_SETUP + _ELECTRODE * n_chans)
            for start in range(0, self.n_times, _BLOCK):
                n = min(_BLOCK, self.n_times - start)
                digits = np.frombuffer(file.read(4 * n * n_chans), "<i4").reshape(n, n_chans)
                out[:, start : start + n] = ((digits[:, picks] - baseline) * scale).T
        return out


def open_cnt(path: Path, *, doing: str) -> NeuroscanFile:
    """Read a .cnt's header and event table.

    Raises
    ------
    DataError
        If the file is not a .cnt of 32-bit samples, or is cut short.
    """

    def fail(found: str) -> NoReturn:
        raise DataError(doing, found, "Download the file again")

    size = path.stat().st_size
    with path.open("rb") as file:
        setup = file.read(_SETUP)
        if len(setup) < _SETUP or not setup.startswith(b"Version"):
            fail("it is not a Neuroscan .cnt")
        (n_chans,), (sfreq,) = (
            struct.unpack_from("<H", setup, 370),
            struct.unpack_from("<H", setup, 376),
        )
        (table,) = struct.unpack_from("<I", setup, 886)
        onset = _SETUP + _ELECTRODE * n_chans
        if not 0 < n_chans <= _MAX_CHANNELS or not sfreq:
            fail(f"its header says {n_chans} channels at {sfreq} Hz")
        if table + _TABLE > size:
            fail(f"it ends after {size} bytes, and its event table is at {table}: it is cut short")
        n_times, rest = divmod(table - onset, 4 * n_chans)
        if n_times < 1 or rest:
            fail(f"its signal has {table - onset} bytes, which are no 32-bit samples of {n_chans}")
        electrodes = np.frombuffer(file.read(onset - _SETUP), _ELECTRODES)
        file.seek(table)
        kind, length = struct.unpack("<Bi", file.read(_TABLE)[:5])
        if kind not in _EVENT_BYTES or not 0 <= length <= size - table - _TABLE:
            fail("its event table is not where its header says: bytes are missing or too many")
        events = _events(file.read(length), kind, onset, n_chans)
    scale = electrodes["sensitivity"].astype(float) * electrodes["calibration"] / 204.8
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        fail("its header gives a channel no scale")
    return NeuroscanFile(
        path=path,
        channels=tuple(
            name.split(b"\0")[0].decode("latin-1").strip() for name in electrodes["name"]
        ),
        sfreq=float(sfreq),
        n_times=n_times,
        scale=scale,
        baseline=electrodes["baseline"].astype(float),
        events=events[(events[:, 0] >= 0) & (events[:, 0] < n_times)],
    )


_ELECTRODES = np.dtype(
    {
        "names": ["name", "baseline", "sensitivity", "calibration"],
        "formats": ["S10", "<i2", "<f4", "<f4"],
        "offsets": [0, 47, 59, 71],
        "itemsize": _ELECTRODE,
    }
)


def _events(data: bytes, kind: int, onset: int, n_chans: int) -> npt.NDArray[np.int64]:
    """Decode events; kind 3 counts in samples, the others in bytes of the file."""
    width = _EVENT_BYTES[kind]
    records = np.frombuffer(data[: len(data) // width * width], np.uint8).reshape(-1, width)
    code = records[:, 0:2].copy().view("<u2").ravel().astype(np.int64)
    place = records[:, 4:8].copy().view("<u4").ravel().astype(np.int64)
    sample = place if kind == 3 else (place - onset) // (4 * n_chans)
    return np.stack([sample, code], axis=1)
