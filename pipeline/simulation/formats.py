"""Byte writers of the corpora's file formats, for the simulator.

Each writes a file as the corpus's own software would have: MATLAB level 5 (zlib-compressed) and
7.3 (HDF5), the Python 2 pickle of DEAP, the Python 3 one of FACED, BioSemi BDF and Neuroscan CNT.
Signals are taken piece by piece, so a file never has to fit in memory; of MATLAB 7.3 it has to. A
file has a staging name until it is whole, and holds no clock time: the same input gives the same
bytes.

References: MathWorks, "MAT-File Format"; BioSemi, "BDF file format"; the CNT offsets are those that
MNE reads.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from omfa.pipeline.errors import DataError
from omfa.pipeline.writing import staged

DISCLAIMER = "Simulated by omfa; not a recording of a person"

MAT_HEADER = (
    "MATLAB 5.0 MAT-file, Platform: PCWIN64, Created by: omfa simulator, no person recorded"
)

MAT73_HEADER = (
    "MATLAB 7.3 MAT-file, Platform: PCWIN64, Created by: omfa simulator HDF5 schema 1.00 ."
)

# MAT level 5 data types and array classes that are used here.
_INT8, _UINT8, _INT16, _UINT16, _INT32, _UINT32, _DOUBLE = 1, 2, 3, 4, 5, 6, 9
_MATRIX, _COMPRESSED, _UTF8 = 14, 15, 16
_CELL_CLASS, _STRUCT_CLASS, _CHAR_CLASS, _DOUBLE_CLASS, _UINT8_CLASS = 1, 2, 4, 6, 9
_FIELD_NAME_LENGTH = 32

# MATLAB stores whole-numbered doubles in the first of these that holds them.
_NARROW = [(_UINT8, "u1"), (_INT8, "i1"), (_UINT16, "<u2"), (_INT16, "<i2"), (_INT32, "<i4")]

# Against zlib's default of 6: three times as fast to write, within a tenth in size and in the time
# that reading takes.
_ZLIB_LEVEL = 3

BDF_RANGE = (-262_144, 262_143)
"""Microvolts of the lowest and the highest of 2**24 digits, as BioSemi's headers have it."""

BDF_STEP = (BDF_RANGE[1] - BDF_RANGE[0]) / (2**24 - 1)
"""Microvolts per BioSemi digit."""

CNT_STEP = 1e6 / 2**25
"""Microvolts per digit of the simulated Neuroscan amplifier."""


# MATLAB level 5


@dataclass(frozen=True)
class MatElement:
    """A MAT element of known size, whose bytes are made when they are written.

    Attributes
    ----------
    nbytes : int
        With its tag and padding: the enclosing element's tag needs it beforehand.
    chunks : callable
        Yields the bytes.
    """

    nbytes: int
    chunks: Callable[[], Iterator[bytes]]


def _small(kind: int, data: bytes) -> bytes:
    """Return a sub-element; up to four bytes share the tag's own eight, as MATLAB has it."""
    if 0 < len(data) <= 4:
        return struct.pack("<HH", kind, len(data)) + data.ljust(4, b"\0")
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def _matrix(
    array_class: int, shape: Sequence[int], name: str, head: bytes, parts: Sequence[MatElement]
) -> MatElement:
    head = b"".join(
        [
            _small(_UINT32, struct.pack("<II", array_class, 0)),
            _small(_INT32, struct.pack(f"<{len(shape)}i", *shape)),
            _small(_INT8, name.encode("ascii")),
            head,
        ]
    )
    nbytes = len(head) + sum(part.nbytes for part in parts)

    def chunks() -> Iterator[bytes]:
        yield struct.pack("<II", _MATRIX, nbytes) + head
        for part in parts:
            yield from part.chunks()

    return MatElement(8 + nbytes, chunks)


def mat_doubles(
    shape: tuple[int, int], make: Callable[[], npt.NDArray[np.floating]], name: str = ""
) -> MatElement:
    """Return a double matrix whose values are made when they are written."""
    return mat_stack(shape, lambda: [make()], name)


def mat_stack(
    shape: tuple[int, ...], make: Callable[[], Iterable[npt.NDArray[np.floating]]], name: str = ""
) -> MatElement:
    """Return a double array of which one piece after the other is made when it is written.

    Parameters
    ----------
    shape : tuple of int
    make : callable
        Yields the pieces along the last axis: matrices of the first two axes, or all in one.
    name : str
    """
    nbytes = 8 * math.prod(shape)

    def chunks() -> Iterator[bytes]:
        yield struct.pack("<II", _DOUBLE, nbytes)
        written = 0
        for values in make():
            assert values.shape == shape[: values.ndim], (values.shape, shape)
            yield np.asarray(values, "<f8").tobytes(order="F")
            written += 8 * values.size
        assert written == nbytes, (written, nbytes)

    return _matrix(_DOUBLE_CLASS, shape, name, b"", [MatElement(8 + nbytes, chunks)])


def mat_numbers(values: npt.ArrayLike, name: str = "", *, uint8: bool = False) -> MatElement:
    """Return a small matrix of whole numbers, of class double or uint8."""
    array = np.atleast_2d(np.asarray(values))
    kind, dtype = next(
        (kind, dtype)
        for kind, dtype in _NARROW
        if np.iinfo(dtype).min <= array.min() and array.max() <= np.iinfo(dtype).max
    )
    data = _small(kind, array.astype(dtype).tobytes(order="F"))
    return _matrix(_UINT8_CLASS if uint8 else _DOUBLE_CLASS, array.shape, name, data, [])


def mat_text(text: str, name: str = "") -> MatElement:
    """Return a row of characters."""
    return _matrix(_CHAR_CLASS, (1, len(text)), name, _small(_UTF8, text.encode("ascii")), [])


def mat_cell(cells: Sequence[MatElement], shape: tuple[int, int], name: str = "") -> MatElement:
    """Return a cell array, its cells in column order."""
    return _matrix(_CELL_CLASS, shape, name, b"", cells)


def mat_struct(fields: Mapping[str, MatElement], name: str = "") -> MatElement:
    """Return a 1 x 1 struct, its fields in the order given."""
    return mat_structs([fields], name)


def mat_structs(elements: Sequence[Mapping[str, MatElement]], name: str = "") -> MatElement:
    """Return a column of structs, which all have the fields of the first."""
    names = [field.encode("ascii").ljust(_FIELD_NAME_LENGTH, b"\0") for field in elements[0]]
    head = _small(_INT32, struct.pack("<i", _FIELD_NAME_LENGTH)) + _small(_INT8, b"".join(names))
    parts = [fields[field] for fields in elements for field in elements[0]]
    return _matrix(_STRUCT_CLASS, (len(elements), 1), name, head, parts)


def write_mat(path: Path, variables: Iterable[MatElement], *, compressed: bool = True) -> None:
    """Write a MAT level 5 file, one element per variable, zlib-compressed as MATLAB writes it."""
    with staged(path) as out:
        out.write(MAT_HEADER.encode("ascii").ljust(124) + struct.pack("<H2s", 0x0100, b"IM"))
        for variable in variables:
            if not compressed:
                out.writelines(variable.chunks())
                continue
            tag = out.tell()
            # A place for the tag, whose length is known only when the element is compressed.
            out.write(bytes(8))
            packer = zlib.compressobj(_ZLIB_LEVEL)
            for chunk in variable.chunks():
                out.write(packer.compress(chunk))
            out.write(packer.flush())
            end = out.tell()
            out.seek(tag)
            out.write(struct.pack("<II", _COMPRESSED, end - tag - 8))
            out.seek(end)


# MATLAB 7.3


_USER_BLOCK = 512  # bytes of MATLAB's own before the HDF5 file
_CHUNK_BYTES = 1 << 17


def write_mat73(
    path: Path, name: str, values: npt.NDArray[np.floating], *, step: float | None = None
) -> None:
    """Write one double array as a MATLAB 7.3 file: HDF5, compressed, behind MATLAB's own block.

    Parameters
    ----------
    path : Path
    name : str
        The variable's.
    values : ndarray
        In the axes of the HDF5 file, which are MATLAB's in reverse.
    step : float, optional
        Digits to round the values to.

    Raises
    ------
    DataError
        If h5py is not installed.
    """
    try:
        import h5py  # an extra
    except ImportError as error:
        raise DataError(
            f"Writing {path}",
            "it is to be a MATLAB 7.3 file, which is HDF5, and h5py is not installed",
            "Run: pip install 'omfa[hdf5]'",
        ) from error
    rows = max(_CHUNK_BYTES // (8 * max(math.prod(values.shape[1:]), 1)), 1)
    chunks = (min(rows, len(values)), *values.shape[1:])
    with staged(path) as out:
        with h5py.File(out, "w", userblock_size=_USER_BLOCK) as file:
            # Without times: the same input gives the same bytes.
            variable = file.create_dataset(
                name, values.shape, "<f8", chunks=chunks, compression=3, track_times=False
            )
            variable.attrs["MATLAB_class"] = np.bytes_("double")
            for start in range(0, len(values), chunks[0]):
                block = values[start : start + chunks[0]].astype(float)
                variable[start : start + chunks[0]] = (
                    block if step is None else np.round(block / step) * step
                )
        out.seek(0)
        out.write(MAT73_HEADER.encode("ascii").ljust(116))
        out.write(bytes(8) + struct.pack("<H2s", 0x0200, b"IM"))


# Python 2 pickle


class _Memo:
    """The pickle memo: stores an object once (BINPUT) and recalls it afterwards (BINGET)."""

    def __init__(self) -> None:
        self._index: dict[bytes, int] = {}

    def once(self, opcodes: bytes) -> bytes:
        """Return the opcodes of a new object, or those that recall an equal one."""
        if opcodes in self._index:
            return b"h%c" % self._index[opcodes]
        self._index[opcodes] = len(self._index) + 1
        return opcodes + b"q%c" % self._index[opcodes]


def write_python2_pickle(
    path: Path,
    arrays: Mapping[str, tuple[tuple[int, ...], Iterable[npt.NDArray[np.floating]]]],
) -> None:
    """Write a dict of float64 arrays as ``cPickle.dump(..., protocol=2)`` of Python 2 did.

    Keys and array bytes are byte strings (SHORT_BINSTRING, BINSTRING), which Python 3 cannot write
    and reads only by ``encoding="latin1"``.

    Parameters
    ----------
    path : Path
    arrays : mapping of name to (shape, pieces)
        The pieces, in C order one after another, make up the array.
    """
    memo = _Memo()
    with staged(path) as out:
        out.write(b"\x80\x02" + memo.once(b"}") + b"(")
        for name, (shape, pieces) in arrays.items():
            out.write(memo.once(b"U%c" % len(name) + name.encode("ascii")))
            out.write(memo.once(b"cnumpy.core.multiarray\n_reconstruct\n"))
            out.write(memo.once(b"cnumpy\nndarray\n") + b"K\x00\x85U\x01b\x87R(K\x01")
            sizes = (b"K%c" % n if n < 256 else b"M" + struct.pack("<H", n) for n in shape)
            out.write(b"".join(sizes) + {2: b"\x86", 3: b"\x87"}[len(shape)])
            out.write(memo.once(_PICKLED_FLOAT64) + b"\x89T")
            out.write(struct.pack("<i", 8 * int(np.prod(shape))))
            for piece in pieces:
                out.write(np.ascontiguousarray(piece, "<f8").tobytes())
            out.write(b"tb")
        out.write(b"u.")


# numpy.dtype("f8", 0, 1), then its state (3, "<", None, None, None, -1, -1, 0).
_PICKLED_FLOAT64 = (
    b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)


# Python 3 pickle


def write_python3_pickle(
    path: Path, shape: tuple[int, ...], pieces: Iterable[npt.NDArray[np.floating]]
) -> None:
    """Write one float64 array as ``pickle.dump(array, file)`` of Python 3.8 with numpy 1 does.

    That is protocol 4, in which large bytes stand between two frames.

    Parameters
    ----------
    path : Path
    shape : tuple of int
    pieces : iterable of ndarray
        In C order one after another, they make up the array.
    """

    def text(word: str) -> bytes:
        return b"\x8c%c" % len(word) + word.encode("ascii") + b"\x94"

    def number(n: int) -> bytes:
        return b"K%c" % n if n < 256 else b"M" + struct.pack("<H", n)

    def frame(opcodes: bytes) -> bytes:
        return b"\x95" + struct.pack("<Q", len(opcodes)) + opcodes

    called = text("numpy.core.multiarray") + text("_reconstruct") + b"\x93\x94"
    called += text("numpy") + text("ndarray") + b"\x93\x94K\x00\x85\x94C\x01b\x94\x87\x94R\x94"
    state = (
        b"(K\x01" + b"".join(map(number, shape)) + {2: b"\x86", 3: b"\x87"}[len(shape)] + b"\x94"
    )
    dtype = b"h\x03" + text("dtype") + b"\x93\x94" + text("f8") + b"\x89\x88\x87\x94R\x94(K\x03"
    dtype += text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t\x94b\x89"
    with staged(path) as out:
        out.write(b"\x80\x04" + frame(called + state + dtype))
        out.write(b"B" + struct.pack("<I", 8 * int(np.prod(shape))))
        for piece in pieces:
            out.write(np.ascontiguousarray(piece, "<f8").tobytes())
        out.write(frame(b"\x94t\x94b."))


# BioSemi BDF


@dataclass(frozen=True)
class BdfChannel:
    """A channel's header fields; a digit is ``BDF_STEP`` of ``unit``, of a status channel 1."""

    label: str
    transducer: str = "Active Electrode, pin type"
    unit: str = "uV"
    prefilter: str = "HP: DC; LP: 104 Hz"
    status: bool = False


def write_bdf(
    path: Path,
    channels: Sequence[BdfChannel],
    records: Iterable[npt.NDArray[np.int32]],
    *,
    n_records: int,
    sfreq: int,
) -> None:
    """Write a BioSemi file with records of one second.

    Parameters
    ----------
    path : Path
    channels : sequence of BdfChannel
    records : iterable of ndarray of int32, each (n_chans, whole seconds * sfreq)
        Digits, of which the lowest 24 bits are kept.
    n_records, sfreq : int
        Seconds in all; Hz.
    """
    n = len(channels)
    low, high = -(2**23), 2**23 - 1
    fields: list[tuple[int, Sequence[object]]] = [
        (16, [channel.label for channel in channels]),
        (80, [channel.transducer for channel in channels]),
        (8, [channel.unit for channel in channels]),
        (8, [low if channel.status else BDF_RANGE[0] for channel in channels]),
        (8, [high if channel.status else BDF_RANGE[1] for channel in channels]),
        (8, [low] * n),
        (8, [high] * n),
        (80, [channel.prefilter for channel in channels]),
        (8, [sfreq] * n),
        (32, ["Reserved"] * n),
    ]
    general: list[tuple[int, object]] = [(80, DISCLAIMER), (80, DISCLAIMER)]
    general += [(8, "01.01.00"), (8, "00.00.00")]
    general += [(8, 256 * (n + 1)), (44, "24BIT"), (8, n_records), (8, 1), (4, n)]
    with staged(path) as out:
        out.write(b"\xffBIOSEMI" + b"".join(_ascii(text, width) for width, text in general))
        out.write(b"".join(_ascii(text, width) for width, texts in fields for text in texts))
        written = 0
        for block in records:
            by_record = block.reshape(n, -1, sfreq).transpose(1, 0, 2).astype("<i4")
            out.write(by_record.view(np.uint8).reshape(-1, 4)[:, :3].tobytes())
            written += by_record.shape[0]
        assert written == n_records, (written, n_records)


def _ascii(text: object, width: int) -> bytes:
    field = str(text).encode("ascii")
    assert len(field) <= width, (field, width)
    return field.ljust(width)


# Neuroscan CNT


def write_cnt(
    path: Path,
    channels: Mapping[str, tuple[float, float]],
    blocks: Iterable[npt.NDArray[np.int32]],
    *,
    sfreq: int,
    events: Sequence[tuple[int, int]],
    known_length: bool = True,
) -> None:
    """Write a Neuroscan continuous file of 32-bit samples.

    Parameters
    ----------
    path : Path
    channels : mapping of name to (x, y)
        Names of up to nine characters, with their place on the header's plan of the head.
    blocks : iterable of ndarray of int32, each (n_chans, n_times)
        Digits of ``CNT_STEP`` microvolts.
    sfreq : int
        Hz.
    events : sequence of (sample, code)
    known_length : bool
        Whether the header holds the number of samples; in files of the field it is 0 at times.
    """
    data_onset = 900 + 75 * len(channels)
    with staged(path) as out:
        out.write(bytes(data_onset))
        n_times = 0
        for block in blocks:
            out.write(np.ascontiguousarray(block.T, "<i4").tobytes())
            n_times += block.shape[1]
        table = out.tell()
        out.write(struct.pack("<Bii", 2, 19 * len(events), 0))
        for sample, code in events:
            where = data_onset + 4 * len(channels) * sample
            out.write(struct.pack("<HBBi11x", code, 0, 0, where))
        out.write(b"\0")
        out.seek(0)
        out.write(_cnt_setup(len(channels), sfreq, n_times if known_length else 0, table))
        out.write(b"".join(_cnt_electrode(name, *xy) for name, xy in channels.items()))


def _cnt_setup(n_chans: int, sfreq: int, n_times: int, table: int) -> bytes:
    setup = bytearray(900)
    for offset, field in {
        0: b"Version 3.0",
        121: b"Simulated by omfa",  # the patient's name
        205: b"No person recorded",  # the session's label
        225: b"01/01/00",
        235: b"00:00:00",
        370: struct.pack("<H", n_chans),
        376: struct.pack("<H", sfreq),
        864: struct.pack("<i", n_times),
        886: struct.pack("<i", table),
        894: struct.pack("<i", 1),
    }.items():
        setup[offset : offset + len(field)] = field
    return bytes(setup)


def _cnt_electrode(name: str, x: float, y: float) -> bytes:
    electrode = bytearray(75)
    electrode[0:10] = name.encode("ascii").ljust(10, b"\0")
    electrode[19:27] = struct.pack("<ff", x, y)
    electrode[59:63] = struct.pack("<f", 204.8 * CNT_STEP)  # uV = digit * sensitivity / 204.8
    electrode[71:75] = struct.pack("<f", 1.0)
    return bytes(electrode)
