"""Reads MATLAB level 5 files as a stream, for files that are large or that nobody vouches for.

A level 5 file is a header and a row of elements, each a type, a length and data; a matrix is an
element whose data are elements again, and a compressed element is a zlib stream that inflates to
one matrix (The MathWorks, "MAT-File Format", chapter 1). The stream is walked once, in
order, and only what is asked for is decoded, straight to the type wanted, so that a variable of
gigabytes needs a few megabytes. No length in the file is believed beyond the bytes behind it, and
the checksum of each compressed element is verified when the walk leaves it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn

import numpy as np
import numpy.typing as npt
from isal import igzip_lib

from omfa.pipeline.errors import DataError

# Element types, and the numeric ones' storage.
_STORAGE = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
    16: "u1",  # UTF-8
    17: "u2",  # UTF-16
    18: "u4",  # UTF-32
}
_INT8, _UINT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 2, 5, 6, 14, 15

Kind = Literal["cell", "struct", "char", "numeric", "other"]
ByteOrder = Literal["<", ">"]

# Array classes, and a flag bit beside them.
_KINDS: dict[int, Kind] = {1: "cell", 2: "struct", 4: "char"}
_NUMERIC = dict(enumerate(["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"], start=6))
_COMPLEX = 0x0800

_IsalError: type[Exception] = igzip_lib.error  # type: ignore[assignment]  # a stub's slip
_HEADER = 128  # bytes: text, version, endian mark
_TAG = 8  # bytes before an element, so the least that an item of a cell array takes
_CHUNK = 1 << 18  # bytes inflated or decoded at a time: stays in the processor's cache
_INPUT = 1 << 16  # compressed bytes read at a time
_MAX_RATIO = 1032  # deflate cannot expand more
_MAX_NAME = 4096  # bytes of a name; MATLAB's own limit is 63
_MAX_DIMS = 32


class _Stream:
    """Bytes in order, from a stretch of a file, perhaps through zlib."""

    def __init__(self, file: BinaryIO, size: int, *, where: str, compressed: bool) -> None:
        self.where = where
        self._file = file
        self._left = size  # bytes of the file not yet read
        # With igzip reading a SEED session takes 0.46 of loadmat's CPU (docs/performance.md).
        self._inflate = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_ZLIB)
        self._compressed = compressed
        self._pending = memoryview(b"")
        self.position = 0
        self.bound = size * (_MAX_RATIO if compressed else 1)  # no more bytes can come than this

    def fail(self, found: str) -> NoReturn:
        raise _damaged(self.where, found)

    def readinto(self, target: memoryview) -> None:
        """Fill a buffer."""
        done = 0
        while done < len(target):
            if not self._pending:
                self._pending = memoryview(self._more())
                if not self._pending:
                    self.fail("its data end too early")
            n = min(len(target) - done, len(self._pending))
            target[done : done + n] = self._pending[:n]
            self._pending = self._pending[n:]
            done += n
        self.position += done

    def read(self, size: int) -> bytes:
        """Return so many bytes; for small pieces."""
        if size > self.bound - self.position:
            self.fail("a length in it exceeds the file")
        out = bytearray(size)
        self.readinto(memoryview(out))
        return bytes(out)

    def unread(self, data: bytes) -> None:
        """Put back the last bytes that were read."""
        self._pending = memoryview(data + bytes(self._pending))
        self.position -= len(data)

    def skip_to(self, position: int) -> None:
        """Pass over bytes."""
        while self.position < position:
            if not self._pending:
                if not self._compressed and self._left >= position - self.position:
                    self._file.seek(position - self.position, 1)
                    self._left -= position - self.position
                    self.position = position
                    return
                self._pending = memoryview(self._more())
                if not self._pending:
                    self.fail("its data end too early")
            n = min(position - self.position, len(self._pending))
            self._pending = self._pending[n:]
            self.position += n

    def finish(self) -> None:
        """Read to the end, which verifies the checksum of a compressed stretch.

        Copies exist whose streams hold bytes after the variable; they are passed over.
        """
        if self._compressed:
            while self._more():
                pass
            if not self._inflate.eof:
                self.fail("its compressed data end before their checksum")

    def _more(self) -> bytes:
        if not self._compressed:
            return self._raw(_CHUNK)
        while not self._inflate.eof:
            data = self._raw(_INPUT) if self._inflate.needs_input else b""
            if self._inflate.needs_input and not data:
                self.fail("its compressed data end too early")
            try:
                if out := self._inflate.decompress(data, _CHUNK):
                    return out
            except _IsalError as error:
                raise _damaged(self.where, f"its compressed data are damaged ({error})") from error
        return b""

    def _raw(self, size: int) -> bytes:
        data = self._file.read(min(size, self._left))
        self._left = self._left - len(data) if data else 0
        return data


@dataclass(frozen=True)
class Matrix:
    """One array of the file, not decoded yet.

    Valid until the walk moves past it. Take its content at most once, by one of the methods.

    Attributes
    ----------
    name : str
        Name of the variable or of the struct's field.
    kind : str
        ``"cell"``, ``"struct"``, ``"char"``, ``"numeric"`` or ``"other"``.
    shape : tuple of int
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    _stream: _Stream
    _end: int
    _order: ByteOrder
    _native: str = ""  # the storage that belongs to a numeric array's class
    _complex: bool = False

    @property
    def size(self) -> int:
        """How many items it holds."""
        return math.prod(self.shape)

    def array(
        self,
        dtype: npt.DTypeLike | None = None,
        *,
        order: Literal["C", "F"] = "F",
        most: int | None = None,
    ) -> npt.NDArray[Any]:
        """Decode a real numeric array.

        Parameters
        ----------
        dtype : dtype
            What to decode to; by default the type that the file stores, which may be narrower
            than the array's class, since MATLAB stores whole numbers in the fewest bytes.
        order : {"F", "C"}
            Memory order of a two-dimensional result. MATLAB's is "F".
        most : int, optional
            Items that the array may have: a compressed one of a megabyte can hold a gigabyte.

        Raises
        ------
        DataError
            If the array is of another kind, damaged, or larger than ``most``.
        """
        self._check_size(most)
        if self.kind != "numeric" or self._complex:
            self._stream.fail(f"{self._what} is not an array of real numbers")
        return self._decode(dtype, order)

    def text(self) -> str:
        """Decode a row of characters."""
        if self.kind != "char":
            self._stream.fail(f"{self._what} is not text")
        if self.size > _MAX_NAME * 16:
            self._stream.fail(f"{self._what} is text of {self.size} characters")
        codes = self._decode(np.uint32, "F").ravel(order="F")
        if codes.size and codes.max() > 0x10FFFF:
            self._stream.fail(f"{self._what} holds codes that are no characters")
        return "".join(map(chr, codes)).strip()

    def cells(self, *, most: int | None = None) -> Iterator[Matrix]:
        """Walk a cell array's items in column order.

        Parameters
        ----------
        most : int, optional
            Items that the cell array may have.
        """
        self._check_size(most)
        if self.kind != "cell":
            self._stream.fail(f"{self._what} is not a cell array")
        for i in range(self._count(_TAG)):
            with self._matrix(f"{self.name}{{{i + 1}}}") as item:
                yield item

    def fields(self, *, most: int = 1) -> Iterator[Matrix]:
        """Walk the fields of a struct, element after element; each item's name is the field's.

        Parameters
        ----------
        most : int
            Elements that the struct may have; it has one at the least.
        """
        if self.kind != "struct":
            self._stream.fail(f"{self._what} is not a struct")
        width = int(self._numbers(_INT32, 1)[0])
        if not 0 < width <= _MAX_NAME:
            self._stream.fail(f"{self._what} has field names of {width} bytes")
        kind, size, padding = self._tag()
        if kind != _INT8 or size % width or size > self._end - self._stream.position:
            self._stream.fail(f"{self._what} has damaged field names")
        names = self._stream.read(size)
        self._stream.skip_to(self._stream.position + padding)
        if not 1 <= self.size <= most:
            expected = f"1 to {most}" if most > 1 else "1"
            self._stream.fail(
                f"{self._what} is a struct of {self.size} elements, expected {expected}"
            )
        for _ in range(self.size):
            for i in range(0, size, width):
                name = names[i : i + width].split(b"\0")[0].decode("latin-1")
                with self._matrix(name) as item:
                    yield item

    @property
    def _what(self) -> str:
        return f"variable {self.name!r}"

    def _check_size(self, most: int | None) -> None:
        if most is not None and self.size > most:
            self._stream.fail(f"{self._what} has {self.size} items, more than {most}")

    def _count(self, itemsize: int) -> int:
        """Return the number of items, once it is known that there are bytes for them."""
        room = min(self._end, self._stream.bound) - self._stream.position
        if self.size * itemsize > room:
            self._stream.fail(f"{self._what} is said to have {self.size} items, more than its data")
        return self.size

    @contextmanager
    def _matrix(self, name: str) -> Iterator[Matrix]:
        """Open the next element, an array; leave the stream behind it."""
        kind, size, padding = self._tag()
        end = self._stream.position + size
        if kind != _MATRIX or end > self._end:
            self._stream.fail(f"{self._what} is not made as documented")
        yield _open(self._stream, name, end=end, order=self._order)
        if self._stream.position > end:
            self._stream.fail(f"{name!r} is longer than its length says")
        self._stream.skip_to(end + padding)

    def _tag(self) -> tuple[int, int, int]:
        return _tag(self._stream, self._order)

    def _numbers(self, kind: int, count: int) -> npt.NDArray[Any]:
        return _numbers(self._stream, kind, count, order=self._order)

    def _decode(self, dtype: npt.DTypeLike | None, order: str) -> npt.NDArray[Any]:
        kind, size, _ = self._tag()
        if kind not in _STORAGE:
            self._stream.fail(f"{self._what} has data of unknown type {kind}")
        stored = np.dtype(self._order + _STORAGE[kind])
        if self._native not in ("", _STORAGE[kind]) and (
            stored.itemsize >= np.dtype(self._native).itemsize  # only ever stored narrower
        ):
            self._stream.fail(f"{self._what} is {self._native} and stored as {_STORAGE[kind]}")
        if self._count(stored.itemsize) * stored.itemsize != size:
            self._stream.fail(
                f"{self._what} has {size} bytes of data, {self.size * stored.itemsize} expected"
            )
        if self._stream.position + size > self._end:
            self._stream.fail(f"{self._what} is longer than its length says")
        wanted = stored.newbyteorder("=") if dtype is None else np.dtype(dtype)
        if order == "C" and len(self.shape) == 2:
            out = np.empty(self.shape, wanted)
            columns = out.T
        else:
            out = np.empty(self.shape, wanted, order="F")
            columns = out.ravel(order="F")[:, None]  # a view: out is contiguous
        self._fill(columns, stored)
        return out

    def _fill(self, columns: npt.NDArray[Any], stored: np.dtype[Any]) -> None:
        """Decode into an array whose rows are the file's columns."""
        n, width = columns.shape
        step = max(1, _CHUNK // max(1, width * stored.itemsize))
        buffer = np.empty((min(step, n), width), stored)
        for start in range(0, n, step):
            block = buffer[: n - start]
            self._stream.readinto(block.reshape(-1).view(np.uint8).data)
            # Converted in the cache first: half the time of a converting transpose.
            with np.errstate(over="ignore", invalid="ignore"):  # damaged samples become infinite
                columns[start : start + step] = block.astype(columns.dtype)


def variables(path: Path, *, doing: str | None = None) -> Iterator[Matrix]:
    """Walk the variables of a level 5 file, in the file's order.

    Parameters
    ----------
    path : Path
    doing : str, optional
        What errors say was being done; by default that the path was read.

    Yields
    ------
    Matrix
        One per variable. What is not decoded is skipped; of a compressed variable the checksum is
        verified when the walk moves on, so a value is to be trusted only after that.

    Raises
    ------
    DataError
        If the file is not of level 5, or is damaged.
    """
    where = doing or f"Reading {path}"
    for element in _elements(path, where):
        yield from _variable(element, where)


def each(
    path: Path, read: Callable[[Matrix], Any], *, doing: str
) -> Iterator[tuple[str, Any | DataError]]:
    """Decode the variables of a level 5 file by a function, past those that are damaged.

    Parameters
    ----------
    path : Path
    read : callable
        Gets each variable, in the file's order.
    doing : str
        What errors say was being done.

    Yields
    ------
    name, result or DataError
        What ``read`` returned, once the variable's checksum is verified, or what it or the file's
        content raised. The name is empty where it could not be read.

    Raises
    ------
    DataError
        If the file is not of level 5, or nothing behind the damage can be found.
    """
    for element in _elements(path, doing):
        name = ""
        found: Any = None
        try:
            for matrix in _variable(element, doing):
                name = matrix.name
                found = read(matrix)
        except DataError as error:
            found = error
        yield name, found


@dataclass(frozen=True)
class _Element:
    """A variable in a file that stands at its beginning."""

    file: BinaryIO
    compressed: bool
    size: int
    order: ByteOrder


def _elements(path: Path, where: str) -> Iterator[_Element]:
    with path.open("rb") as file:
        left = file.seek(0, 2)
        file.seek(0)
        order = _endianness(file.read(_HEADER), where)
        left -= _HEADER
        n_elements = 0
        while left:
            n_elements += 1
            head = file.read(8)
            if len(head) < 8:
                raise _damaged(where, "it ends within an element")
            kind, size = struct.unpack(f"{order}2I", head)
            left -= 8
            if size > left:
                raise _damaged(
                    where,
                    f"it ends within its variable {n_elements}, of which {left:,} of {size:,} "
                    "bytes are there",
                )
            start = file.tell()
            if kind not in (_MATRIX, _COMPRESSED):
                raise _damaged(where, f"it holds an element of unknown type {kind}")
            yield _Element(file, kind == _COMPRESSED, size, order)
            file.seek(start + size)
            left -= size


def _variable(element: _Element, where: str) -> Iterator[Matrix]:
    order, end = element.order, element.size
    stream = _Stream(element.file, element.size, where=where, compressed=element.compressed)
    if element.compressed:
        kind, size, _ = _tag(stream, order)
        end = stream.position + size
        if kind != _MATRIX:
            stream.fail("a compressed element in it is not a variable")
    matrix = _open(stream, "", end=end, order=order)
    yield matrix
    if stream.position > end:
        stream.fail(f"{matrix.name!r} is longer than its length says")
    stream.skip_to(end)
    stream.finish()


def _open(stream: _Stream, name: str, *, end: int, order: ByteOrder) -> Matrix:
    """Read an array's flags, dimensions and name."""
    if stream.position == end:  # MATLAB writes an empty element for an empty cell
        return Matrix(name, "numeric", (0, 0), stream, end, order)
    flags = int(_numbers(stream, _UINT32, 2, order=order)[0])
    kind, size, padding = _tag(stream, order)
    if kind != _INT32 or size % 4 or not 8 <= size <= 4 * _MAX_DIMS:
        stream.fail("an array in it has damaged dimensions")
    shape = tuple(int(n) for n in np.frombuffer(stream.read(size), f"{order}i4"))
    stream.skip_to(stream.position + padding)
    if min(shape) < 0:
        stream.fail(f"an array in it has the shape {shape}")
    kind, size, padding = _tag(stream, order)
    if kind not in (_INT8, _UINT8) or size > _MAX_NAME:
        stream.fail("an array in it has a damaged name")
    # Items of cells and structs have no name of their own in the file.
    name = stream.read(size).decode("latin-1") or name
    stream.skip_to(stream.position + padding)
    array_class = flags & 0xFF
    native = _NUMERIC.get(array_class, "")
    of_class = "numeric" if native else _KINDS.get(array_class, "other")
    return Matrix(name, of_class, shape, stream, end, order, native, bool(flags & _COMPLEX))


def _tag(stream: _Stream, order: str) -> tuple[int, int, int]:
    """Read an element's type, its length, and the bytes that pad it.

    Data of up to four bytes share the eight of the tag, the length in the type's upper half.
    """
    first, second = struct.unpack(f"{order}II", head := stream.read(8))
    if size := first >> 16:
        if size > 4:
            stream.fail("it holds a damaged element")
        stream.unread(head[4:])
        return first & 0xFFFF, size, 4 - size
    return first, second, -second % 8


def _numbers(stream: _Stream, kind: int, count: int, *, order: str) -> npt.NDArray[Any]:
    """Read an element of a known type and number of items."""
    dtype = np.dtype(order + _STORAGE[kind])
    found, size, padding = _tag(stream, order)
    if found != kind or size != count * dtype.itemsize:
        stream.fail("an array in it is not made as documented")
    numbers = np.frombuffer(stream.read(size), dtype)
    stream.skip_to(stream.position + padding)
    return numbers


def _endianness(header: bytes, where: str) -> ByteOrder:
    if header[:8] == b"\x89HDF\r\n\x1a\n" or b"MATLAB 7.3" in header[:32]:
        raise DataError(
            where,
            "it is a MATLAB 7.3 file, which is HDF5, and the corpora are distributed in level 5",
            "Take the file as distributed, or save it again in MATLAB with save -v7",
        )
    if len(header) == _HEADER and header[126:] == b"IM" and header[125] == 1:
        return "<"
    if len(header) == _HEADER and header[126:] == b"MI" and header[124] == 1:
        return ">"
    raise DataError(
        where, "it is not a MATLAB level 5 file", "Check that the download is whole and not a page"
    )


def _damaged(where: str, found: str) -> DataError:
    return DataError(where, f"the file is damaged or cut short: {found}", "Download it again")
