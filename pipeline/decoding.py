"""Arrays of a store that anybody may have made, read in no more memory than their shapes claim.

Codecs believe what a chunk says of itself. A Blosc chunk of 36 bytes may say that it inflates to
gigabytes, or that it is longer than it is, and then the memory behind it is returned; a chunk of
strings may say that there are four billion. So a chunk is compared with the shape of its array
before it is decoded, and a file with what its array could take at most.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import zarr
from zarr.abc.codec import Codec
from zarr.abc.store import ByteRequest, RangeByteRequest, Store
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec, VLenUTF8Codec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, BufferPrototype, NDBuffer
from zarr.core.metadata.v3 import ArrayV3Metadata
from zarr.storage import LocalStore, StorePath, WrapperStore

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

    Parameters
    ----------
    array : zarr.Array
        Whose codecs are omfa's.
    """
    metadata = cast(ArrayV3Metadata, array.metadata)
    path = array.store_path
    files = _Files(path.store, most_bytes(array))
    return zarr.Array(
        zarr.AsyncArray(
            replace(metadata, codecs=tuple(map(_checking, metadata.codecs))),
            StorePath(files, path.path),
        )
    )


def _codecs(array: zarr.Array) -> tuple[Codec, ...]:
    """Return the codecs of a chunk, those of a shard's chunks where it has shards."""
    codecs = cast(ArrayV3Metadata, array.metadata).codecs
    match codecs:
        case (ShardingCodec() as shard,):
            return shard.codecs
    return codecs


def _is_our_shard(array: zarr.Array) -> bool:
    match cast(ArrayV3Metadata, array.metadata).codecs:
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


def _checking(codec: Codec) -> Codec:
    """Return a codec that compares a chunk with its shape before it decodes it."""
    match codec:
        case ShardingCodec():
            return replace(codec, codecs=tuple(map(_checking, codec.codecs)))
        case BloscCodec():
            return _Blosc(
                typesize=codec.typesize,
                cname=codec.cname,
                clevel=codec.clevel,
                shuffle=codec.shuffle,
                blocksize=codec.blocksize,
            )
        case VLenUTF8Codec():
            return _Strings()
    return codec


class _Blosc(BloscCodec):
    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        itemsize = chunk_spec.dtype.to_native_dtype().itemsize
        content = memoryview(chunk_bytes.as_numpy_array().data)
        _check_blosc(content, math.prod(chunk_spec.shape) * itemsize)
        return super()._decode_sync(chunk_bytes, chunk_spec)


class _Strings(VLenUTF8Codec):
    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        content = memoryview(chunk_bytes.as_numpy_array().data)
        _check_strings(content, math.prod(chunk_spec.shape))
        return super()._decode_sync(chunk_bytes, chunk_spec)


_Strings.__name__ = VLenUTF8Codec.__name__  # by which Zarr knows a codec of strings


class _Files(WrapperStore[Store]):
    """The files of an array, none of which is read beyond the bytes that it can have."""

    def __init__(self, store: Store, most: int) -> None:
        super().__init__(store)
        self._most = most

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        if isinstance(byte_range, RangeByteRequest):
            self._check(byte_range.end - byte_range.start, key)
        if isinstance(self._store, LocalStore):
            path = self._store.root / key
            if not path.is_file():  # a pipe or a device may never end
                return None
            if byte_range is None:
                self._check(path.stat().st_size, key)
        elif byte_range is None:
            byte_range = RangeByteRequest(0, self._most + 1)
        found = await self._store.get(key, prototype, byte_range)
        self._check(len(found or ()), key)
        return found

    def _check(self, size: int, key: str) -> None:
        if size > self._most:
            raise ValueError(f"{key} claims {size:,} bytes and can have {self._most:,}")
