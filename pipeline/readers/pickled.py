"""Reads numpy arrays from a pickle, one or a dict of them, without unpickling it.

A pickle is a program, and ``pickle.load`` runs it. Here the few instructions that make numeric
arrays and a dict of them are interpreted and nothing is ever called or imported: ``_reconstruct``,
``ndarray`` and ``dtype`` become plain records that are decoded at the end, every other name and
instruction is refused, no length is believed beyond the end of the file, and there is an end to the
instructions. What a large array holds is decoded from the file at the end, straight to the type
wanted. Protocols 1 and 2 of Python 2, and 2 to 5 of Python 3, are understood (``pickletools``
documents the instructions).
"""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from omfa.pipeline.errors import DataError

_Made = TypeVar("_Made")

_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): "array",
    ("numpy._core.multiarray", "_reconstruct"): "array",  # written by numpy 2
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    # protocol 5 keeps an array's bytes beside its type
    ("numpy.core.numeric", "_frombuffer"): "frombuffer",
    ("numpy._core.numeric", "_frombuffer"): "frombuffer",
    # Python 3 has no bytes in protocols 0 to 2, and writes text to be encoded
    ("_codecs", "encode"): "encode",
    ("builtins", "bytes"): "bytes",
    ("__builtin__", "bytes"): "bytes",
}
_NUMERIC = re.compile(r"[fiu][1248]")
_LARGE = 1 << 20  # bytes that are left in the file until an array is made of them
_CHUNK = 1 << 18  # bytes decoded at a time: stays in the processor's cache
_LINE = 256  # bytes that a name or a number in text may have
_MAX_INSTRUCTIONS = 100_000  # an array takes about 30; each may cost time and memory


@dataclass
class _Name:
    kind: str


@dataclass
class _Object:
    """What a call would make: an array or a dtype, and the state it would be given."""

    kind: str
    args: tuple[Any, ...]
    state: tuple[Any, ...] = ()


@dataclass
class _Stretch:
    """Bytes that are still in the file."""

    offset: int
    size: int


class _RefusedError(ValueError):
    """The pickle holds something else than arrays, or is damaged."""


def read_arrays(path: Path, *, doing: str) -> dict[str, npt.NDArray[Any]]:
    """Read a pickled dict of numeric arrays.

    Parameters
    ----------
    path : Path
    doing : str
        What errors say was being done.

    Returns
    -------
    dict of str to ndarray
        Not all of them can be written to.

    Raises
    ------
    DataError
        If the file is damaged, or holds anything else.
    """
    return _read(path, _arrays, doing=doing)


def read_array(path: Path, *, doing: str, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
    """Read one pickled numeric array.

    Parameters
    ----------
    path : Path
    doing : str
        What errors say was being done.
    dtype : dtype, optional
        What to decode to; by default the type that the file stores.

    Raises
    ------
    DataError
        If the file is damaged, or holds anything else.
    """

    def decode(item: Any, source: _Source) -> npt.NDArray[Any]:
        return _array(item, source, dtype)

    return _read(path, decode, doing=doing)


def _read(path: Path, decode: Callable[[Any, _Source], _Made], *, doing: str) -> _Made:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        try:
            source = _Source(file, size)
            return decode(_interpret(source), source)
        except _RefusedError as error:
            found = str(error)
            raise DataError(doing, found, "Do not trust this file; download it again") from error
        except (LookupError, TypeError, ValueError, struct.error, OverflowError) as error:
            raise DataError(
                doing, f"the pickle is damaged ({error})", "Download the file again"
            ) from error


class _Source:
    def __init__(self, file: BufferedReader, size: int) -> None:
        self._file = file
        self._left = self.size = size
        self._decoded = 0

    def take(self, size: int) -> bytes:
        if not 0 <= size <= self._left:
            raise ValueError("it ends early")
        self._left -= size
        return self._file.read(size)

    def data(self, size: int) -> bytes | _Stretch:
        """Return bytes, or where they are if they are many."""
        if size <= _LARGE:
            return self.take(size)
        if size > self._left:
            raise ValueError("it ends early")
        self._left -= size
        stretch = _Stretch(self._file.tell(), size)
        self._file.seek(size, 1)
        return stretch

    def decode(
        self, stretch: _Stretch, stored: np.dtype[Any], wanted: np.dtype[Any]
    ) -> npt.NDArray[Any]:
        """Read the numbers of a stretch."""
        count, rest = divmod(stretch.size, stored.itemsize)
        if rest:
            raise ValueError("an array in it ends within a number")
        if (decoded := self._decoded + stretch.size) > self.size:  # one stretch, again and again
            raise _RefusedError("the pickle makes more numbers than it has")
        self._decoded = decoded
        self._file.seek(stretch.offset)
        out = np.empty(count, wanted)
        buffer = np.empty(min(count, _CHUNK // stored.itemsize), stored)
        for start in range(0, count, len(buffer)):
            block = buffer[: count - start]
            if self._file.readinto(block.view(np.uint8).data) != block.nbytes:
                raise ValueError("it ends early")
            out[start : start + len(block)] = block
        return out

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def line(self) -> str:
        text = self._file.readline(_LINE)
        self._left -= len(text)
        if not text.endswith(b"\n"):
            raise ValueError("a line in it does not end")
        return text[:-1].decode("ascii")


def _interpret(source: _Source) -> Any:
    """Run the instructions that make arrays; return what is left at the end.

    One case an instruction, in one function: what is allowed can be read from top to bottom.
    """
    stack: list[Any] = []
    marks: list[int] = []  # how long the stack was at each
    memo: dict[int, Any] = {}
    encoded = 0
    done = 0

    def since_mark() -> list[Any]:
        at = marks.pop()
        items = stack[at:]
        del stack[at:]
        return items

    def last(n: int) -> tuple[Any, ...]:
        items = tuple(stack[-n:])
        del stack[-n:]
        return items

    while (op := source.take(1)) != pickle.STOP:
        if (done := done + 1) > _MAX_INSTRUCTIONS:
            raise _RefusedError(f"the pickle has more than {_MAX_INSTRUCTIONS} instructions")
        match op:
            case pickle.PROTO:
                source.take(1)
            # A hint for buffered reading; nothing depends on it.
            case pickle.FRAME:
                source.take(8)
            case pickle.MARK:
                marks.append(len(stack))
            case pickle.POP:
                (marks if marks and marks[-1] == len(stack) else stack).pop()
            case pickle.NONE:
                stack.append(None)
            case pickle.NEWTRUE:
                stack.append(True)
            case pickle.NEWFALSE:
                stack.append(False)
            case pickle.INT | pickle.LONG:
                stack.append(int(source.line().rstrip("L")))
            case pickle.BININT:
                stack.append(source.number("<i"))
            case pickle.BININT1:
                stack.append(source.number("<B"))
            case pickle.BININT2:
                stack.append(source.number("<H"))
            case pickle.LONG1:
                stack.append(
                    int.from_bytes(source.take(source.number("<B")), "little", signed=True)
                )
            case pickle.SHORT_BINSTRING | pickle.SHORT_BINBYTES:
                stack.append(source.take(source.number("<B")))
            case pickle.BINSTRING:
                stack.append(source.data(source.number("<i")))
            case pickle.BINBYTES:
                stack.append(source.data(source.number("<I")))
            case pickle.BINBYTES8 | pickle.BYTEARRAY8:
                stack.append(source.data(source.number("<Q")))
            case pickle.SHORT_BINUNICODE:
                stack.append(source.take(source.number("<B")).decode())
            case pickle.BINUNICODE:
                stack.append(source.take(source.number("<I")).decode())
            case pickle.EMPTY_DICT:
                stack.append({})
            case pickle.EMPTY_TUPLE:
                stack.append(())
            case pickle.TUPLE:
                stack.append(tuple(since_mark()))
            case pickle.TUPLE1:
                stack.append(last(1))
            case pickle.TUPLE2:
                stack.append(last(2))
            case pickle.TUPLE3:
                stack.append(last(3))
            case pickle.BINPUT:
                memo[source.number("<B")] = stack[-1]
            case pickle.LONG_BINPUT:
                memo[source.number("<I")] = stack[-1]
            case pickle.MEMOIZE:
                memo[len(memo)] = stack[-1]
            case pickle.BINGET:
                stack.append(memo[source.number("<B")])
            case pickle.LONG_BINGET:
                stack.append(memo[source.number("<I")])
            case pickle.GLOBAL:
                stack.append(_name(source.line(), source.line()))
            case pickle.STACK_GLOBAL:
                stack.append(_name(*last(2)))
            case pickle.REDUCE:
                stack.append(made := _call(*last(2)))
                encoded += len(made) if isinstance(made, bytes) else 0
                if encoded > source.size:  # one text, encoded again and again
                    raise _RefusedError("the pickle makes more bytes than it has")
            case pickle.BUILD:
                stack.append(_build(*last(2)))
            case pickle.SETITEM:
                _store(stack, list(last(2)))
            case pickle.SETITEMS:
                _store(stack, since_mark())
            case _:
                raise _RefusedError(
                    f"the pickle holds the instruction {op!r}, which no array needs"
                )
    return stack.pop()


def _name(module: Any, name: Any) -> _Name:
    if not isinstance(module, str) or not isinstance(name, str):  # not to be put into words
        raise _RefusedError("the pickle asks for a name that is no text")
    if (kind := _NAMES.get((module, name))) is None:
        raise _RefusedError(f"the pickle asks for {module:.99}.{name:.99}, which no array needs")
    return _Name(kind)


def _call(name: Any, args: Any) -> _Object | bytes:
    if not isinstance(name, _Name) or name.kind == "ndarray" or not isinstance(args, tuple):
        raise _RefusedError("the pickle calls what no array needs")
    if name.kind == "bytes":
        if args:
            raise _RefusedError("the pickle makes bytes of something")
        return b""
    if name.kind == "encode":
        match args:
            case (str() as text, "latin1" | b"latin1"):
                return text.encode("latin-1")
        raise _RefusedError("the pickle encodes what are no bytes")
    return _Object(name.kind, args)


def _build(item: Any, state: Any) -> _Object:
    if not isinstance(item, _Object) or not isinstance(state, tuple):
        raise _RefusedError("the pickle changes what is no array")
    item.state = state
    return item


def _store(stack: list[Any], items: list[Any]) -> None:
    if not isinstance(stack[-1], dict) or len(items) % 2:
        raise ValueError("items without a dict")
    for key, value in zip(items[::2], items[1::2], strict=True):
        stack[-1][_text(key)] = value


def _arrays(result: Any, source: _Source) -> dict[str, npt.NDArray[Any]]:
    if not isinstance(result, dict):
        raise ValueError("it holds no dict")
    return {key: _array(value, source) for key, value in result.items()}


def _array(item: Any, source: _Source, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
    """Decode an array's state: version, shape, dtype, whether in column order, bytes."""
    if isinstance(item, _Object) and item.kind == "frombuffer":
        data, kind, shape, order = item.args
        item = _Object("array", (), (1, shape, kind, order in ("F", b"F"), data))
    if not isinstance(item, _Object) or item.kind != "array":
        raise _RefusedError("the pickle holds something beside arrays")
    _, shape, kind, columns, data = item.state
    if not isinstance(data, bytes | _Stretch):
        raise _RefusedError("the pickle holds an array that is not made of numbers")
    stored = _dtype(kind)
    wanted = stored if dtype is None else np.dtype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # damaged samples become infinite
        flat: npt.NDArray[Any] = (
            source.decode(data, stored, wanted)
            if isinstance(data, _Stretch)
            else np.frombuffer(data, stored).astype(wanted, copy=dtype is not None)
        )
    return flat.reshape(shape, order="F" if columns else "C")


def _dtype(item: Any) -> np.dtype[Any]:
    """Decode a dtype: its code from the call, its byte order from the state."""
    if not isinstance(item, _Object) or item.kind != "dtype":
        raise ValueError("an array without a type")
    code, order = _text(item.args[0]), _text(item.state[1])
    # No machine that wrote these files was big-endian: ">" is damage.
    if not _NUMERIC.fullmatch(code) or order not in ("<", "|", "="):
        raise _RefusedError(f"the pickle holds an array of type {order:.9}{code:.99}")
    return np.dtype(order + code)


def _text(item: Any) -> str:
    if isinstance(item, bytes):
        return item.decode("ascii")
    if not isinstance(item, str):
        raise ValueError("a key that is no text")
    return item
