"""What is read of a store was compared with its shape, by whichever way Zarr reads it.

Versions of Zarr differ in that: parts of a file one by one or together, with an event loop or
without. Each way that the installed version has is tried.
"""

import inspect
import struct

import google_crc32c
import numpy as np
import pytest
import zarr
from zarr.abc.codec import CodecPipeline
from zarr.codecs import BloscCodec, Crc32cCodec

from omfa.pipeline import DataError, encoding, ingest, open_store
from omfa.pipeline.decoding import bounded, foreign

PIPELINES = [p for p in CodecPipeline.__subclasses__() if not inspect.isabstract(p)]
N_CHUNKS, SAMPLES = 4, 640  # of a recording of 2560 samples

SELECTIONS = {  # of samples; the chunks that they touch
    "all": (slice(None), {0, 1, 2, 3}),
    "one chunk": (slice(SAMPLES, 2 * SAMPLES), {1}),
    "a part of one": (slice(SAMPLES + 5, SAMPLES + 9), {1}),
    "parts of two": (slice(SAMPLES + 5, 2 * SAMPLES + 5), {1, 2}),
    "the last": (slice(3 * SAMPLES, None), {3}),
}


@pytest.fixture(params=PIPELINES, ids=lambda pipeline: pipeline.__name__)
def reading(request):
    """Read by one of Zarr's pipelines."""
    path = f"{request.param.__module__}.{request.param.__name__}"
    with zarr.config.set({"codec_pipeline.path": path}):
        yield


@pytest.fixture
def store(tree, reader, tmp_path, monkeypatch):
    """A store whose signals have four chunks in one shard."""
    monkeypatch.setattr(encoding, "CHUNK_SAMPLES", 12 * SAMPLES)
    ingest(reader, tree, tmp_path / "s.zarr", serial=True)
    return tmp_path / "s.zarr"


def shard_of(store):
    (file,) = (p for p in (store / "sub-01_ses-1_run-1/signal/c").rglob("*") if p.is_file())
    return file


def crc(content):
    return content + struct.pack("<I", google_crc32c.value(bytes(content)))


def taken_apart(file):
    """Return the chunks of a shard and the places that its index gives them."""
    content = file.read_bytes()
    index = content[-16 * N_CHUNKS - 4 : -4]
    places = np.frombuffer(index, "<u8").reshape(-1, 2).tolist()
    return content[: -len(index) - 4], places


def read(store, selection):
    return open_store(store)["sub-01_ses-1_run-1"].signal(selection.start or 0, selection.stop)


@pytest.mark.usefixtures("reading")
@pytest.mark.parametrize("lying", range(N_CHUNKS))
def test_a_chunk_that_lies_is_refused_by_what_reads_it_and_by_nothing_else(store, lying):
    right = read(store, slice(None))
    file = shard_of(store)
    chunks, places = taken_apart(file)
    at, length = places[lying]
    chunk = bytearray(chunks[at : at + length - 4])
    chunk[4:8] = struct.pack("<I", 12 * SAMPLES * 2 + 2)  # what it inflates to, says its header
    whole = chunks[:at] + crc(chunk) + chunks[at + length :]
    file.write_bytes(whole + crc(np.array(places, "<u8").tobytes()))
    for name, (selection, touched) in SELECTIONS.items():
        if lying in touched:
            with pytest.raises(DataError, match="claims to inflate to 15,362 bytes, and its shape"):
                read(store, selection)
        else:
            np.testing.assert_array_equal(read(store, selection), right[:, selection], name)


@pytest.mark.usefixtures("reading")
@pytest.mark.parametrize("name", SELECTIONS)
def test_no_more_is_read_of_a_file_than_its_array_can_have(store, name):
    selection, touched = SELECTIONS[name]
    file = shard_of(store)
    _, places = taken_apart(file)
    size = 1 << 28
    with file.open("r+b") as shard:
        shard.truncate(size)  # takes no disk
        shard.seek(size)
        for k in touched:
            places[k] = (0, size)
        shard.write(crc(np.array(places, "<u8").tobytes()))
    with pytest.raises(
        DataError, match=r"signal.* claims 268,435,\d\d\d bytes and can have 6\d,\d"
    ):
        read(store, selection)


@pytest.mark.usefixtures("reading")
def test_texts_are_counted_before_they_are_made(store):
    file = store / "sub-01_ses-1_run-1/stimulus/c/0"
    content = file.read_bytes()
    assert struct.unpack("<I", content[:4]) == (2,)
    file.write_bytes(crc(struct.pack("<I", 3) + content[4:-4]))
    with pytest.raises(DataError, match="a chunk claims 3 texts, and its shape has 2"):
        open_store(store)["sub-01_ses-1_run-1"].array("stimulus")


def test_what_is_read_is_never_written(store):
    assert bounded(zarr.open_group(str(store))["sub-01_ses-1_run-1/signal"]).read_only


def made(tmp_path, **how):
    return zarr.create_array(
        tmp_path / "a.zarr", shape=(12, 64), dtype="f2", chunks=(12, 16), **how
    )


def test_what_omfa_writes_is_not_foreign_and_another_index_is(tmp_path):
    ours = [BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"), Crc32cCodec()]
    whole = {"shape": (12, 64), "index_location": "end"}
    assert foreign(made(tmp_path / "0", compressors=ours, shards=whole)) == ""
    assert foreign(made(tmp_path / "1", compressors=ours)) == ""
    ahead = made(tmp_path / "2", compressors=ours, shards=whole | {"index_location": "start"})
    assert foreign(ahead) == "Bytes and Blosc and Crc32c"
    assert foreign(made(tmp_path / "3", compressors=ours[::-1])) == "Bytes and Crc32c and Blosc"
