"""Arrays of a store that anybody may have made, read in no more memory than their shapes claim.

Codecs believe what a chunk says of itself. A Blosc chunk of 36 bytes may say that it inflates to
gigabytes, or that it is longer than it is, and then the memory behind it is returned; a chunk of
strings may say that there are four billion. So a chunk is compared with the shape of its array
before it is decoded, and a file with what its array could take at most.

The checks hang on what Zarr lets others extend: a codec behind its codecs, a ``Store`` below them.
What is used beyond its documented names is here and nowhere else:

- ``array.metadata.codecs``, and the fields ``codecs``, ``index_codecs`` of a ``ShardingCodec``;
- ``dataclasses.replace`` on both, for an array with a codec more;
- ``BytesBytesCodec._decode_single``, which the documentation of codecs asks to be overridden.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import zarr
from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.codec import BytesBytesCodec, Codec
from zarr.abc.store import ByteRequest, RangeByteRequest, Store
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec, VLenUTF8Codec
from zarr.storage import LocalStore, StorePath

if TYPE_CHECKING:  # no names of Zarr's own parts are needed to run
    from zarr.core.array_spec import ArraySpec
    from zarr.core.metadata.v3 import ArrayV3Metadata

MOST_TEXT = 1 << 26
"""Bytes of a file of strings, whose length no shape tells; ours have a few for each trial."""

# Bytes before a Blosc chunk, of a CRC-32C behind it, and of a chunk's place in a shard's index.
_HEADER, _CRC, _PLACE = 16, 4, 16
_ABSENT = 2**64 - 1  # as place of a chunk that is not there


def foreign(array: zarr.Array) -> str:
    """Return which codecs of an array omfa does not write; empty if it writes all of them."""
    codecs = _codecs(array)
    kinds = [type(codec) for codec in codecs]
    values = VLenUTF8Codec if array.dtype.kind == "T" else BytesCodec
    packed = ([BloscCodec], [BloscCodec, Crc32cCodec]) if values is BytesCodec else ()
    if kinds in [[values, *rest] for rest in ([], [Crc32cCodec], *packed)] and _is_our_shard(array):
        return ""
    return " and ".join(kind.__name__.removesuffix("Codec") for kind in kinds)


def most_bytes(array: zarr.Array) -> int:
    """Return how many bytes a file of an array can have."""
    if array.dtype.kind == "T":
        return MOST_TEXT
    return _n_chunks(array) * (_chunk_bytes(array) + _HEADER + _CRC + _PLACE) + _CRC


def claims(array: zarr.Array, content: bytes) -> str:
    """Return what a file of an array claims beyond the array's shape; empty if nothing.

    Parameters
    ----------
    array : zarr.Array
        Whose codecs are omfa's.
    content : bytes
    """
    kinds = {type(codec) for codec in _codecs(array)}
    try:
        for chunk in _chunks(array, content):
            if Crc32cCodec in kinds:
                chunk = chunk[:-_CRC]
            if BloscCodec in kinds:
                _check_blosc(chunk, _chunk_bytes(array))
            elif VLenUTF8Codec in kinds:
                _check_strings(chunk, math.prod(array.chunks))
    except ValueError as error:
        return str(error)
    return ""


def bounded(array: zarr.Array) -> zarr.Array:
    """Return an array that raises ValueError where its chunks or files claim more than its shape.

    Versions of Zarr that read parts of a file together raise it in an ``ExceptionGroup``.

    Parameters
    ----------
    array : zarr.Array
        Whose codecs are omfa's.
    """
    path = array.store_path
    files = _Files(path.store, most_bytes(array))
    metadata = replace(_metadata(array), codecs=_checking(_metadata(array).codecs, array))
    return zarr.Array(zarr.AsyncArray(metadata, StorePath(files, path.path)))


def _metadata(array: zarr.Array) -> ArrayV3Metadata:
    """Return the metadata of an array, which are of format 3 in every store of omfa."""
    return cast("ArrayV3Metadata", array.metadata)


def _codecs(array: zarr.Array) -> tuple[Codec, ...]:
    """Return the codecs of a chunk, those of a shard's chunks where it has shards."""
    codecs = _metadata(array).codecs
    match codecs:
        case (ShardingCodec() as shard,):
            return shard.codecs
    return codecs


def _is_our_shard(array: zarr.Array) -> bool:
    match _metadata(array).codecs:
        case (ShardingCodec() as shard,):
            index = [type(codec) for codec in shard.index_codecs]
            # As metadata say it: the attribute is an enumeration or a string, by zarr's version.
            configuration = cast(Mapping[str, Any], shard.to_dict()["configuration"])
            return index == [BytesCodec, Crc32cCodec] and configuration["index_location"] == "end"
    return True


def _n_chunks(array: zarr.Array) -> int:
    """Return the chunks of a file."""
    if array.shards is None:
        return 1
    return math.prod(s // c for s, c in zip(array.shards, array.chunks, strict=True))


def _chunk_bytes(array: zarr.Array) -> int:
    return math.prod(array.chunks) * array.dtype.itemsize


def _chunks(array: zarr.Array, content: bytes) -> Iterator[bytes]:
    """Yield the chunks of a file, as they are stored."""
    if array.shards is None:
        yield content
        return
    size = _PLACE * _n_chunks(array) + _CRC
    if len(content) < size:
        raise ValueError(f"a shard of {len(content):,} bytes has an index of {size:,}")
    for at, length in np.frombuffer(content[-size:-_CRC], "<u8").reshape(-1, 2).tolist():
        if at == length == _ABSENT:
            continue
        if at + length > len(content):
            raise ValueError(f"a chunk lies beyond the {len(content):,} bytes of its shard")
        yield content[at : at + length]


def _check_blosc(chunk: bytes | memoryview, expected: int) -> None:
    if len(chunk) < _HEADER:
        raise ValueError(f"a chunk has {len(chunk)} bytes, fewer than its header")
    inflated, length = (int.from_bytes(chunk[at : at + 4], "little") for at in (4, 12))
    if inflated != expected:
        raise ValueError(
            f"a chunk claims to inflate to {inflated:,} bytes, and its shape has {expected:,}"
        )
    if length != len(chunk):
        raise ValueError(f"a chunk claims to have {length:,} bytes, and has {len(chunk):,}")


def _check_strings(chunk: bytes | memoryview, expected: int) -> None:
    n = int.from_bytes(chunk[:4], "little")
    if n != expected:
        raise ValueError(f"a chunk claims {n:,} texts, and its shape has {expected:,}")


def _checking(codecs: Iterable[Codec], array: zarr.Array) -> tuple[Codec, ...]:
    """Return codecs that compare a chunk with its shape before they decode it."""
    checked: list[Codec] = []
    for codec in codecs:
        match codec:
            case ShardingCodec():
                checked.append(replace(codec, codecs=_checking(codec.codecs, array)))
            case BloscCodec():
                checked += [codec, _Claim(_check_blosc, _chunk_bytes(array))]
            case VLenUTF8Codec():
                checked += [codec, _Claim(_check_strings, math.prod(array.chunks))]
            case _:
                checked.append(codec)
    return tuple(checked)


class _Claim(BytesBytesCodec):
    """Looks at what the codec before it wrote, and passes it on.

    It has no ``_decode_sync``: where Zarr decodes without an event loop, it takes the way with one
    for this codec, so that no chunk goes past the check.
    """

    is_fixed_size = True

    def __init__(self, check: Callable[[memoryview, int], None], expected: int) -> None:
        self._check = check
        self._expected = expected

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        return input_byte_length

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> Buffer:
        self._check(memoryview(chunk_data.as_numpy_array().data), self._expected)
        return chunk_data


class _Files(Store):
    """The files of an array, none of which is read beyond the bytes that it can have.

    A ``Store`` and no ``WrapperStore``: that leads each way of reading which a version of Zarr adds
    (ranges of a file together, without an event loop) past the check to the files themselves. Here
    such a way ends in ``get``, which checks, or is not offered.
    """

    supports_writes = supports_deletes = supports_listing = False

    def __init__(self, files: Store, most: int) -> None:
        super().__init__(read_only=True)
        self.files = files
        self.most = most

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Files) and self.files == other.files and self.most == other.most

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        if isinstance(byte_range, RangeByteRequest):
            self._check(byte_range.end - byte_range.start, key)
        if isinstance(self.files, LocalStore):
            path = self.files.root / key
            if not path.is_file():  # a pipe or a device may never end
                return None
            if byte_range is None:
                self._check(path.stat().st_size, key)
        elif byte_range is None:
            byte_range = RangeByteRequest(0, self.most + 1)
        found = await self.files.get(key, prototype, byte_range)
        self._check(len(found or ()), key)
        return found

    def _check(self, size: int, key: str) -> None:
        if size > self.most:
            raise ValueError(f"{key} claims {size:,} bytes and can have {self.most:,}")

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, wanted) for key, wanted in key_ranges]

    async def exists(self, key: str) -> bool:
        return await self.files.exists(key)

    def list(self) -> AsyncIterator[str]:
        return self.files.list()

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        return self.files.list_prefix(prefix)

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        return self.files.list_dir(prefix)

    async def set(self, key: str, value: Buffer) -> None:
        self._check_writable()

    async def delete(self, key: str) -> None:
        self._check_writable()
