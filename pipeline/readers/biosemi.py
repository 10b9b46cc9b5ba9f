"""Reads BioSemi recordings (.bdf) of one rate, with their status channel.

MNE reads them too, but a truncated file as a shorter one, and a status channel without a label, as
DEAP has it, as an EEG channel with another name. Microvolts are linear between the header's digital
and physical limits (BioSemi, "BDF file format").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from omfa.pipeline.errors import DataError

_HEAD = 256  # bytes of the header, and again for each channel
_MAX_CHANNELS = 1024
_BLOCK = 8  # records decoded at a time


@dataclass(frozen=True)
class BiosemiFile:
    """The header of a .bdf.

    Attributes
    ----------
    path : Path
    channels, units : tuple of str
        As the file has them; labels may be blank.
    sfreq : float
        Hz.
    n_records, record_times : int
        Data records, and samples of a channel in each.
    scale, offset : ndarray, shape (n_chans,)
        Value = digit * scale + offset.
    """

    path: Path
    channels: tuple[str, ...]
    units: tuple[str, ...]
    sfreq: float
    n_records: int
    record_times: int
    scale: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]

    def read(
        self, picks: Sequence[int], *, status: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint16]]:
        """Decode channels, and the trigger bits of a status channel.

        Parameters
        ----------
        picks : sequence of int
        status : int
            The status channel. Its upper eight bits are the amplifier's own.

        Returns
        -------
        signal : ndarray of float32, shape (len(picks), n_times)
            In the file's units.
        codes : ndarray of uint16, shape (n_times,)
        """
        n_times, n_chans = self.record_times, len(self.channels)
        signal = np.empty((len(picks), self.n_records, n_times), np.float32)
        codes = np.empty((self.n_records, n_times), np.uint16)
        scale, offset = (a[list(picks)][:, None, None] for a in (self.scale, self.offset))
        size = 3 * n_chans * n_times
        with self.path.open("rb") as file:
            # Each sample of three bytes is taken with the byte before it, as the upper three of
            # four: shifted down, it has its sign.
            file.seek(_HEAD * (n_chans + 1) - 1)
            before = file.read(1)
            for start in range(0, self.n_records, _BLOCK):
                n = min(_BLOCK, self.n_records - start)
                data = before + file.read(n * size)
                before = data[-1:]
                words: npt.NDArray[np.int32] = np.ndarray(
                    (n_chans, n, n_times), "<i4", data, strides=(3 * n_times, size, 3)
                )
                digits = words[list(picks)]
                digits >>= 8
                values = digits * scale
                values += offset
                signal[:, start : start + n] = values
                codes[start : start + n] = words[status] >> 8 & 0xFFFF
        return signal.reshape(len(picks), -1), codes.ravel()

    def check_scales(self, picks: Sequence[int], *, doing: str) -> None:
        """Raise if channels of one kind differ in scale.

        The format has no checksum; BioSemi has one scale for all electrodes, and another is damage.
        """
        scales = self.scale[list(picks)]
        if scales.max() > scales.min():
            raise DataError(
                doing, "its EEG channels have different scales", "Download the file again"
            )


def open_bdf(path: Path, *, doing: str) -> BiosemiFile:
    """Read a .bdf's header.

    Raises
    ------
    DataError
        If the file is not a .bdf of one rate, or is not as long as its header says.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
        size = file.seek(0, 2)
        try:
            if not head.startswith(b"\xffBIOSEMI"):
                raise ValueError("the file is no .bdf")
            n_bytes, n_records, n_chans = (int(head[s]) for s in _COUNTS)
            duration = float(head[244:252])
            if not 0 < n_chans <= _MAX_CHANNELS or n_bytes != _HEAD * (n_chans + 1):
                raise ValueError(f"{n_chans} channels in {n_bytes} bytes")
            file.seek(_HEAD)
            columns = _Columns(file.read(_HEAD * n_chans), n_chans)
            limits = [columns.numbers(at) for at in (104, 112, 120, 128)]
            samples = columns.numbers(216)
            record_times = int(samples[0])
            if (samples != record_times).any() or record_times < 1 or not 0 < duration < np.inf:
                raise ValueError("the channels have several rates")
            physical, digital = limits[1] - limits[0], limits[3] - limits[2]
            if not (np.isfinite(limits).all() and (physical > 0).all() and (digital > 0).all()):
                raise ValueError("a channel has no scale")
        except ValueError as error:
            raise DataError(
                doing, f"its header cannot be understood ({error})", "Download the file again"
            ) from error
    expected = n_bytes + 3 * n_records * n_chans * record_times
    if n_records < 1 or size != expected:
        raise DataError(
            doing,
            f"it has {size} bytes, and its header tells of {expected}",
            "Download the file again: this copy is cut short or changed",
        )
    scale = physical / digital
    return BiosemiFile(
        path=path,
        channels=columns.texts(0, 16),
        units=columns.texts(96, 8),
        sfreq=record_times / duration,
        n_records=n_records,
        record_times=record_times,
        scale=scale,
        offset=limits[0] - limits[2] * scale,
    )


_COUNTS = (slice(184, 192), slice(236, 244), slice(252, 256))


@dataclass(frozen=True)
class _Columns:
    """The header's fields, each of which stands for all channels in a row."""

    data: bytes
    n_chans: int

    def texts(self, at: int, width: int) -> tuple[str, ...]:
        start = at * self.n_chans
        return tuple(
            self.data[start + i * width : start + (i + 1) * width].decode("latin-1").strip(" \0")
            for i in range(self.n_chans)
        )

    def numbers(self, at: int) -> npt.NDArray[np.float64]:
        return np.array([float(text) for text in self.texts(at, 8)])


def onsets(codes: npt.NDArray[np.uint16], code: int) -> npt.NDArray[np.int64]:
    """Return the samples at which a status code begins."""
    begins = (codes[1:] == code) & (codes[:-1] != code)
    return np.flatnonzero(begins) + 1
