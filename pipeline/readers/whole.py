"""Whether a file holds all that it says it holds, which MNE does not ask.

MNE reads a truncated EDF, BDF, BrainVision or FIF recording as a shorter one, joins the pieces of
an interrupted EDF+, and takes numbers without a scale for volts, at most with a warning. The
headers show it; they are short and their formats fixed (EDF+: Kemp and Olivan 2003, Clin
Neurophysiol 114:1755; BrainVision Core Data Format 1.0; Neuromag's Functional Image File Format).
"""

from __future__ import annotations

import glob
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.folder import check_there, is_listed

T = TypeVar("T")

_AGAIN = "Get the file again from its source: this copy is not whole"


@dataclass(frozen=True)
class EdfHeader:
    """What an EDF or BDF header says of the file.

    Attributes
    ----------
    labels : tuple of str
        Every signal's label, annotation signals included.
    samples : ndarray of int, shape (n_signals,)
        Samples of each signal in one data record.
    scaled : ndarray of bool, shape (n_signals,)
        Whether the header gives the signal a scale.
    duration : float
        Seconds in a data record.
    n_records : int
        Data records; -1 where recording was not ended in order.
    n_bytes : int
        Bytes in the header.
    sample_bytes : int
        2 in EDF, 3 in BDF.
    interrupted : bool
        Whether the header allows gaps between data records (EDF+D).
    """

    labels: tuple[str, ...]
    samples: npt.NDArray[np.int64]
    scaled: npt.NDArray[np.bool_]
    duration: float
    n_records: int
    n_bytes: int
    sample_bytes: int
    interrupted: bool

    @property
    def annotations(self) -> npt.NDArray[np.bool_]:
        """Which signals hold annotations instead of a signal."""
        return np.array([label in ("EDF Annotations", "BDF Annotations") for label in self.labels])

    @property
    def record_bytes(self) -> int:
        """Bytes in a data record."""
        return int(self.samples.sum()) * self.sample_bytes


def read_edf_header(path: Path) -> EdfHeader:
    """Read the header of an EDF or BDF file.

    Raises
    ------
    ValueError
        If it is not such a header.
    """
    with path.open("rb") as file:
        fixed = file.read(256)
        if len(fixed) < 256:
            raise ValueError(f"its header ends after {len(fixed)} bytes")
        n_signals = _number(int, fixed[252:256], "number of signals")
        per_signal = file.read(256 * n_signals)
    if n_signals < 1 or len(per_signal) < 256 * n_signals:
        raise ValueError(f"its header ends after {256 + len(per_signal)} bytes")
    duration = _number(float, fixed[244:252], "length of a data record")
    if not 0 < duration < float("inf"):
        raise ValueError(f"its data records last {duration} s")

    def column(start: int, width: int) -> list[str]:
        block = per_signal[start * n_signals : (start + width) * n_signals].decode("latin-1")
        return [block[i * width : (i + 1) * width].strip(" \0") for i in range(n_signals)]

    ranges = [
        np.array([_number(float, text.replace(",", "."), "range") for text in column(at, 8)])
        for at in (104, 112, 120, 128)
    ]
    physical_min, physical_max, digital_min, digital_max = ranges
    return EdfHeader(
        labels=tuple(column(0, 16)),
        samples=np.array([_number(int, text, "number of samples") for text in column(216, 8)]),
        scaled=(physical_min != physical_max) & (digital_min != digital_max),
        duration=duration,
        n_records=_number(int, fixed[236:244], "number of data records"),
        n_bytes=_number(int, fixed[184:192], "number of bytes"),
        # A BDF begins with this byte, an EDF with the digit 0.
        sample_bytes=3 if fixed[:1] == b"\xff" else 2,
        interrupted=fixed[192:197] in (b"EDF+D", b"BDF+D"),
    )


def _number(kind: Callable[[str], T], field: bytes | str, what: str) -> T:
    """Return a number of the header, or raise a ``ValueError`` that says what it was to be."""
    text = field.decode("latin-1") if isinstance(field, bytes) else field
    try:
        return kind(text.strip(" \0"))
    except ValueError:
        raise ValueError(f"its {what} is {text!r}") from None


def check_edf(path: Path, *, where: str) -> None:
    """Raise if a file is no EDF or BDF, or is truncated, or has gaps between its data records.

    Raises
    ------
    DataError
    """
    try:
        header = read_edf_header(path)
        if header.record_bytes <= 0:
            raise ValueError("its data records hold no samples")
    except ValueError as error:
        raise DataError(
            where,
            f"its header is not that of a whole EDF or BDF file ({error})",
            "Get the file again, or leave it out of the folder",
        ) from error
    size = path.stat().st_size - header.n_bytes
    whole, rest = divmod(size, header.record_bytes)
    lacking = header.n_records * header.record_bytes - size
    if lacking > 0 or (header.n_records < 0 and rest):
        raise DataError(
            where,
            f"it holds {whole} whole data records and {rest} bytes of another, its header says "
            f"{header.n_records if header.n_records >= 0 else 'nothing of how many'}",
            _AGAIN,
        )
    if header.interrupted and header.annotations.any():
        starts = _record_starts(path, header, whole)
        gaps = np.flatnonzero(np.abs(np.diff(starts) - header.duration) > 1e-3)
        if gaps.size:
            raise DataError(
                where,
                f"it was interrupted {gaps.size} times, first after {starts[gaps[0] + 1]:g} s "
                "(EDF+D), and its pieces would be joined as if they were one",
                "Split it where it was interrupted, into a file for each piece",
            )


def _record_starts(path: Path, header: EdfHeader, n_records: int) -> npt.NDArray[np.float64]:
    """Return when each data record begins, in seconds, from its first annotation."""
    first = _annotation_records(path, header, n_records)[0]
    # EDF+: a record's first annotation is its own time, which ends at 0x14.
    return np.array([float(row.tobytes().split(b"\x14", 1)[0]) for row in first])


def _annotation_records(
    path: Path, header: EdfHeader, n_records: int
) -> list[npt.NDArray[np.uint8]]:
    """Return the bytes of each annotation signal, (n_records, n_bytes)."""
    ends = np.cumsum(header.samples) * header.sample_bytes
    records = np.memmap(path, np.uint8, "r", header.n_bytes, (n_records, header.record_bytes))
    return [
        records[:, end - n * header.sample_bytes : end]
        for end, n, annotates in zip(ends, header.samples, header.annotations, strict=True)
        if annotates
    ]


def edf_annotations(path: Path) -> bytes:
    """Return what the annotation signals of an EDF or BDF file hold, one after the other.

    Raises
    ------
    ValueError
        If its header cannot be read.
    """
    header = read_edf_header(path)
    n_records = (path.stat().st_size - header.n_bytes) // header.record_bytes
    return b"".join(part.tobytes() for part in _annotation_records(path, header, n_records))


# Bytes of a sample in a BrainVision signal.
_BRAINVISION_BYTES = {"INT_16": 2, "UINT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4}


BRAINVISION_PARTS = re.compile(
    r"^(DataFile|MarkerFile)([ \t]*=[ \t]*)([^\r\n]+?)(?=[ \t]*\r?$)", re.MULTILINE
)
"""The lines of a BrainVision header that name other files: kind, sign and name."""


def brainvision_parts(path: Path) -> dict[str, str]:
    """Return what a BrainVision header calls its ``DataFile`` and its ``MarkerFile``.

    ``$b`` stands for the header's own name. A name that is only there in another case, as a disk
    that knows no case leaves it, is returned as it is there.
    """
    found = BRAINVISION_PARTS.findall(path.read_text(encoding="latin-1"))
    names = {kind: name.replace("$b", path.stem) for kind, _, name in found}
    return {kind: _as_it_is_there(path.parent, name) for kind, name in names.items()}


def _as_it_is_there(folder: Path, name: str) -> str:
    if Path(name).name != name or (folder / name).exists():
        return name
    alike = [p.name for p in folder.iterdir() if p.name.lower() == name.lower()]
    return alike[0] if len(alike) == 1 else name


def brainvision_markers(path: Path) -> Path | None:
    """Return a recording's file of markers: the one that its header names, or of its own name."""
    own = _as_it_is_there(path.parent, f"{path.stem}.vmrk")
    names = [brainvision_parts(path).get("MarkerFile", ""), own]
    return next((p for name in names if name and (p := path.parent / name).is_file()), None)


def check_brainvision(path: Path, *, where: str) -> None:
    """Raise if a BrainVision signal is not whole, or is not in the folder of its header.

    Parameters
    ----------
    path : Path
        The ``.vhdr``.
    where : str

    Raises
    ------
    DataError
        If the signal ends within a sample or before its header or its markers say, if a file that
        the header names is missing, or if the name leads out of the header's folder.
    """
    text = path.read_text(encoding="latin-1")
    parts = brainvision_parts(path)
    for kind, name in parts.items():
        if Path(name).name != name or "\\" in name:
            raise DataError(
                where,
                f"its {kind} is {name!r}, which leads out of its folder",
                f"Put the file beside {path.name}, and its bare name in there",
            )
        if is_listed(path.parent / name):
            check_there(path.parent / name, where=where)
        # MNE finds markers by the header's name too
        elif kind == "DataFile":
            raise DataError(
                where,
                f"its {kind} {name!r} is not there",
                f"Put the file beside {path.name}, or correct its name in there if it was renamed",
            )
    field = dict(re.findall(r"^(\w+)[ \t]*=[ \t]*(\w+)", text, re.MULTILINE))
    width = _BRAINVISION_BYTES.get(field.get("BinaryFormat", ""), 0) * int(
        field.get("NumberOfChannels", 0)
    )
    if not width or "DataFile" not in parts:  # a text file of numbers; MNE says what is wrong
        return
    size = (path.parent / parts["DataFile"]).stat().st_size
    n_times, rest = divmod(size, width)
    if rest:
        raise DataError(
            where,
            f"its signal has {size} bytes, which end {rest} bytes into a sample of {width}",
            _AGAIN,
        )
    declared = int(field.get("DataPoints", 0))
    if (marks := brainvision_markers(path)) is not None:
        markers = marks.read_text(encoding="latin-1")
        found = re.findall(r"^Mk\d+=[^,]*,[^,]*,(\d+)", markers, re.MULTILINE)
        declared = max([declared, *map(int, found)])
    if n_times < declared:
        raise DataError(
            where,
            f"its signal has {n_times} samples, its header and markers reach {declared}",
            _AGAIN,
        )


_DIRECTORY_POINTER, _DIRECTORY = 101, 102


def check_fif(path: Path, *, where: str) -> None:
    """Raise if a FIF file ends before its directory, or its chain of tags runs in circles.

    A tag is a kind, a type, a size and the position of the next one (0: it follows), then data; the
    second tag points to a directory of all tags at the end of the file, or to nothing.

    Raises
    ------
    DataError
        MNE would read what there is of the first, and follow the second for ever.
    ValueError
        If it is no FIF file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:

        def tag(at: int) -> tuple[int, int, int]:
            """Return a tag's kind, where its data end, and where the next tag is (-1: nowhere)."""
            file.seek(at)
            kind, _, length, follows = struct.unpack(">iiii", file.read(16).ljust(16, b"\0"))
            return kind, at + 16 + length, follows or at + 16 + length

        _, _, second = tag(0)
        if second < 0 or tag(second)[0] != _DIRECTORY_POINTER:
            raise ValueError("it is no FIF file")
        file.seek(second + 16)
        (directory,) = struct.unpack(">i", file.read(4).ljust(4, b"\0"))
        if directory > 0:
            kind, end, _ = tag(directory)
            if kind != _DIRECTORY or end > size:
                raise DataError(
                    where,
                    f"it has {size} bytes and its directory of tags, at byte {directory}, is not "
                    "there",
                    _AGAIN,
                )
            return
        at = 0
        while at >= 0:
            _, end, follows = tag(at)
            if end > size or 0 <= follows <= at:
                raise DataError(where, f"its chain of tags breaks at byte {at} of {size}", _AGAIN)
            at = follows


_REF_ROLE, _REF_NAME = 115, 118
PREVIOUS, NEXT = 1, 2
"""The roles of a reference from one file of a recording to another."""

_MAX_PARTS = 1000


def fif_parts(path: Path) -> list[Path]:
    """List the files in which a FIF recording goes on, as each file names the next.

    Of a file that does not tell, because it is damaged, those are listed that are named as Neuromag
    names them: ``-1.fif``, ``-2.fif``, ...
    """
    found: list[Path] = []
    following: Path | None = path
    while following is not None and following.is_file() and len(found) <= _MAX_PARTS:
        found.append(following)
        try:
            name = fif_references(following).get(NEXT)
        except (OSError, ValueError):
            if following == path:
                return sorted(path.parent.glob(f"{glob.escape(path.stem)}-[0-9]*.fif"))
            break
        following = path.parent / name if name else None
        if following in found:
            break
    return found[1:]


def fif_references(path: Path) -> dict[int, str]:
    """Return the names of the files before and after a part of a FIF recording, by role.

    Raises
    ------
    ValueError
        If it is no FIF file, or its tags are damaged.
    """
    names: dict[int, str] = {}
    role = 0
    with path.open("rb") as file:
        for kind, length, at in _references(file, path.stat().st_size):
            file.seek(at + 16)
            data = file.read(min(length, 4096))
            if kind == _REF_ROLE:
                role = int.from_bytes(data[:4], "big")
            else:
                names[role] = Path(data.decode("latin-1").strip("\0")).name
    return names


def _references(file: BinaryIO, size: int) -> Iterator[tuple[int, int, int]]:
    """Yield kind, length and place of the tags that name other files.

    They are looked up in the directory at the end where there is one, and else by walking the
    chain of tags; no data are read.
    """

    def tag(at: int) -> tuple[int, int, int]:
        file.seek(at)
        kind, _, length, follows = struct.unpack(">iiii", file.read(16).ljust(16, b"\0"))
        return kind, length, follows or at + 16 + length

    _, _, second = tag(0)
    if second < 0 or tag(second)[0] != _DIRECTORY_POINTER:
        raise ValueError("it is no FIF file")
    file.seek(second + 16)
    (directory,) = struct.unpack(">i", file.read(4).ljust(4, b"\0"))
    if directory > 0:
        kind, length, _ = tag(directory)
        if kind != _DIRECTORY or not 0 < length <= size - directory:
            raise ValueError("its directory is not there")
        entries = np.frombuffer(file.read(length // 16 * 16), ">i4").reshape(-1, 4)
        for kind, _, length, at in entries[np.isin(entries[:, 0], (_REF_ROLE, _REF_NAME))].tolist():
            yield kind, length, at
        return
    at = second
    while 0 <= at < size:
        kind, length, follows = tag(at)
        if length < 0 or 0 <= follows <= at:
            raise ValueError(f"its chain of tags breaks at byte {at}")
        if kind in (_REF_ROLE, _REF_NAME):
            yield kind, length, at
        at = follows
