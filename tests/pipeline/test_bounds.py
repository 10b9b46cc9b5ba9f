"""Nothing small takes everything: hostile files are refused in bounded memory and time."""

import json
import shutil
import struct
import subprocess
import sys
import zlib

import google_crc32c
import pytest
import zarr

from omfa.pipeline import DataError, encoding, ingest, open_store
from omfa.pipeline.location import locate
from omfa.pipeline.store import StoredRecording, damage

resource = pytest.importorskip("resource")

READ = """
import sys
from pathlib import Path
from omfa.pipeline.readers import get_reader
from omfa.pipeline.readers.pickled import read_arrays
how, path, *others = sys.argv[1:]
try:
    if how == "store":
        from omfa.pipeline import open_store
        for store in (path, *others):
            try:
                for recording in open_store(store):
                    recording.signal(), recording.trials
                print("read")
            except ValueError as error:
                print(type(error).__name__, error)
    elif how == "arrays":
        from omfa.pipeline import open_store
        for store in (path, *others):
            try:
                for recording in open_store(store):
                    for file in recording.attrs["checksums"]:
                        if "/c/" in file:
                            recording.array(file.rpartition("/c/")[0])
                    recording.signal(0, 9), recording.trials
                print("read")
            except ValueError as error:
                print(type(error).__name__, error)
    elif how == "verify":
        from omfa.pipeline import open_store
        for store in (path, *others):
            print(*["DataError " + str(d) for _, d in open_store(store).verify() if d] or ["whole"])
    elif how == "pickle":
        read_arrays(Path(path), doing="DEAP")
    else:
        reader = get_reader(how)
        for key in reader.discover(path)[:2]:
            reader.read(key)
except ValueError as error:
    print(type(error).__name__, error)
"""


NAME = "sub-01_ses-1_run-1"


def bounded(how, *paths, megabytes=1500, seconds=30):
    """Read in a process of its own that is ended beyond either bound; return what it said."""

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20,) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds,) * 2)

    command = [sys.executable, "-c", READ, how, *map(str, paths)]
    env = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PATH": ""}
    run = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, env=env)
    assert run.returncode == 0, (run.returncode, run.stderr[-400:])
    assert run.stdout.startswith("DataError")
    return run.stdout


@pytest.mark.parametrize(
    "program",
    {
        "a name of nested pairs": b"\x80\x04)" + b"q\x00h\x00\x86" * 30 + b"U\x01x\x93.",
        "a deep name": b"\x80\x04)" + b"\x85" * 90_000 + b"U\x01x\x93.",
        "marks over a long stack": b"\x80\x02" + b"N" * 45_000 + b"(t0" * 18_000 + b".",
        "dicts without end": b"\x80\x02" + b"}" * 20_000_000 + b".",
        "memories without end": b"\x80\x04" + b"}\x94" * 10_000_000 + b".",
        "keys of nested pairs": b"\x80\x04}(" + b")" + b"q\x00h\x00\x86" * 30 + b"Nu.",
        "a shape of nested pairs": (
            b"\x80\x02}U\x01xcnumpy.core.multiarray\n_reconstruct\n)R(K\x01)"
            + b"q\x00h\x00\x86" * 30
            + b"cnumpy\ndtype\n(U\x02f8tR(K\x03U\x01<tbK\x00U\x08aaaaaaaatbs."
        ),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_pickle_is_refused_whatever_it_nests_and_repeats(tmp_path, program):
    (tmp_path / "a.dat").write_bytes(program[1])
    bounded("pickle", tmp_path / "a.dat")


# MATLAB level 5, as far as these files need it.

HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"


def element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def head(array_class, shape, name):
    return (
        element(6, struct.pack("<II", array_class, 0))
        + element(5, struct.pack(f"<{len(shape)}i", *shape))
        + element(1, name.encode())
    )


def matrix(content):
    return struct.pack("<II", 14, len(content)) + content


LABEL = HEADER + matrix(head(8, (1, 1), "label") + element(1, b"\1"))


def inflating(name, array_class, shape, stored, megabytes):
    """Return a compressed variable of zeros, without making them."""
    n = megabytes << 20
    start = head(array_class, shape, name) + struct.pack("<II", stored, n)
    squeeze = zlib.compressobj(9)
    packed = squeeze.compress(struct.pack("<II", 14, len(start) + n) + start)
    packed += b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(megabytes))
    packed += squeeze.flush()
    return struct.pack("<II", 15, len(packed)) + packed


def dreamer(data):
    """Return DREAMER.mat whose struct has the one field Data."""
    names = struct.pack("<HHI", 5, 4, 32) + element(1, b"Data".ljust(32, b"\0"))
    return HEADER + matrix(head(2, (1, 1), "DREAMER") + names + data)


SPARSE = 1 << 30


def sparse(path):
    with path.open("ab") as file:
        file.truncate(SPARSE)


def sealed(store, change):
    """Change a recording's metadata, and give them and the root the digests that are right then."""
    path = store / NAME / "zarr.json"
    document = json.loads(path.read_text())
    change(document["attributes"], document["consolidated_metadata"]["metadata"])
    document["attributes"].pop("digest")
    document["attributes"]["digest"] = encoding.digest(document)
    path.write_bytes(encoding.to_json(document))


def giant_shard(attrs, arrays):
    arrays["signal"]["chunk_grid"]["configuration"]["chunk_shape"] = [12, 10**11]
    arrays["signal"]["codecs"][0]["configuration"]["chunk_shape"] = [12, 10**11]


def giant_chunk(attrs, arrays):
    arrays["trial_onset"]["chunk_grid"]["configuration"]["chunk_shape"] = [10**11]


def many_chunks(attrs, arrays):
    attrs["n_times"] = arrays["signal"]["shape"][1] = 2_500_000
    arrays["signal"]["chunk_grid"]["configuration"]["chunk_shape"] = [12, 2_500_000]
    arrays["signal"]["codecs"][0]["configuration"]["chunk_shape"] = [1, 1]


def long_numbers(attrs, arrays):
    arrays["signal"]["data_type"] = {
        "name": "fixed_length_utf32",
        "configuration": {"length_bytes": 4_000_000_000},
    }


HOSTILE = {
    "root of 1 GB": (lambda store: sparse(store / "zarr.json"), "more than 67,108,864 bytes"),
    "metadata of 1 GB": (
        lambda store: sparse(store / NAME / "zarr.json"),
        "more than 67,108,864 bytes",
    ),
    "metadata of the older format": (
        lambda store: [sparse(store / NAME / name) for name in (".zgroup", ".zattrs")],
        "read",
    ),
    "a giant shard": (lambda store: sealed(store, giant_shard), "its signal claims 2,400,000"),
    "a giant chunk": (lambda store: sealed(store, giant_chunk), "its trial_onset claims"),
    "many chunks": (lambda store: sealed(store, many_chunks), "30,000,000 chunks"),
    "long numbers": (lambda store: sealed(store, long_numbers), "DataError"),
}


def test_a_hostile_store_with_right_digests_is_refused(tree, reader, tmp_path):
    ingest(reader, tree, tmp_path / "s.zarr", serial=True)
    stores = []
    for name, (change, _) in HOSTILE.items():
        stores.append(tmp_path / f"{name}.zarr")
        shutil.copytree(tmp_path / "s.zarr", stores[-1])
        change(stores[-1])
    said = bounded("store", *stores)
    for (name, (_, found)), line in zip(HOSTILE.items(), said.splitlines(), strict=True):
        assert found in line, (name, line)


# A chunk that lies about itself, with every digest and checksum right.


def blosc(nbytes, length):
    return struct.pack("<4B3I", 2, 1, 0x91, 4, nbytes, nbytes, length)


def crc(content):
    return content + struct.pack("<I", google_crc32c.value(content))


def put(store, array, content):
    """Put a file of an array in place, under right digests."""
    (store / NAME / array / "c").mkdir(exist_ok=True)
    file = next(p for p in (store / NAME / array / "c").rglob("*") if p.is_file())
    file.write_bytes(content)

    def change(attrs, arrays):
        attrs["checksums"][file.relative_to(store / NAME).as_posix()] = encoding.sha256(content)

    sealed(store, change)


def shard(chunk):
    """Return a shard whose one chunk is as given; the recording of the test has no more."""
    return chunk + crc(struct.pack("<2Q", 0, len(chunk)))


def inflating_chunk(store):
    put(store, "signal", shard(crc(blosc(2_000_000_000, 36) + bytes(20))))


def longer_chunk(store):
    # Not compressed, it says: what lies behind it in memory would be the signal.
    n = 12 * 2560 * 2
    put(store, "signal", shard(crc(struct.pack("<4B3I", 2, 1, 2, 2, n, n, n + 16) + b"short")))


def far_chunk(store):
    put(store, "signal", b"x" + crc(struct.pack("<2Q", 0, 10**15)))


def inflating_times(store):
    put(store, "time", crc(blosc(2_000_000_000, 36) + bytes(20)))


def many_texts(store):
    put(store, "stimulus", crc(struct.pack("<I", 2**32 - 1) + bytes(8)))


def endless(store):
    file = store / NAME / "trial_onset/c/0"
    file.unlink()
    file.symlink_to("/dev/zero")


def long_file(store):
    sparse(store / NAME / "trial_onset/c/0")


def other_codec(store):
    def change(attrs, arrays):
        arrays["time"]["codecs"][1:] = [{"name": "gzip", "configuration": {"level": 1}}]

    sealed(store, change)


LYING = {
    "signal inflates": (inflating_chunk, "a chunk claims to inflate to 2,000,000,000 bytes"),
    "signal is longer": (longer_chunk, "a chunk claims to have 61,456 bytes, and has 21"),
    "signal lies far": (far_chunk, "signal"),
    "time inflates": (inflating_times, "its shape has 20,480"),
    "texts": (many_texts, "a chunk claims 4,294,967,295 texts, and its shape has 2"),
    "endless file": (endless, "trial_onset"),
    "long file": (long_file, "trial_onset"),
    "other codec": (other_codec, "its time is of the codecs Bytes and Gzip"),
}


def test_a_chunk_that_claims_more_than_its_shape_is_refused_before_memory(tree, reader, tmp_path):
    ingest(reader, tree, tmp_path / "s.zarr", serial=True)
    stores = []
    for name, (change, _) in LYING.items():
        stores.append(tmp_path / f"{name}.zarr")
        shutil.copytree(tmp_path / "s.zarr", stores[-1])
        change(stores[-1])
    for how in ("arrays", "verify"):
        said = bounded(how, *stores, megabytes=1000).splitlines()
        for (name, (_, found)), line in zip(LYING.items(), said, strict=True):
            assert line.startswith("DataError"), (how, name, line)
            assert found in line, (how, name, line)
            assert NAME in line, (how, name, line)
    # What verify finds, the next run makes again.
    for store in stores:
        outcomes = ingest(reader, tree, store, serial=True)
        assert [o.recording for o in outcomes.having("stored")] == [NAME]
        assert not [d for _, d in open_store(store).verify() if d]


def stating(**facts):
    return lambda store: sealed(store, lambda attrs, arrays: attrs.update(facts))


def holding(array, value):
    """Change all values of an array, under right digests."""

    def change(store):
        group = zarr.open_group(str(store / NAME), mode="r+", use_consolidated=False)
        group[array][...] = value
        content = (store / NAME / array / "c/0").read_bytes()
        put(store, array, content)

    return change


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (stating(sfreq=0.0), "its rate is 0.0 Hz"),
        (stating(sfreq=1e300), "its rate is 1e\\+300 Hz"),
        (stating(sfreq="128"), "its rate is '128' Hz"),
        (stating(channels=[f"Q{i}" for i in range(12)]), "none that omfa writes .*'Q0'"),
        (stating(channels=["Fp1"] * 12), "not in the order of the channel schema"),
        (stating(dtype="O"), "its signal is of float16, its metadata say O"),
        (stating(source=[1]), "what it says of its source is no mapping"),
        (holding("trial_onset", 10**15), "its trial_onset is not within the 2,560 samples"),
        (holding("trial_onset", 2000), "a trial ends after the 2,560 samples"),
        (holding("baseline_onset", -700), "its baseline_onset is not within"),
        (holding("trial_length", 2**62), "its trial_length is not within"),
        (holding("segment_length", 2**60), "its segment_length is not within"),
    ],
)
def test_facts_that_no_recording_has_are_refused_and_made_again(
    tree, reader, tmp_path, change, found
):
    store = tmp_path / "s.zarr"
    ingest(reader, tree, store, serial=True)
    change(store)

    def read():
        recording = StoredRecording(locate(store), NAME)
        return recording.trials, recording.array("segment_length")

    with pytest.raises(DataError, match=f"{NAME} of .*{found}"):
        read()
    assert damage(locate(store), NAME)
    outcomes = ingest(reader, tree, store, serial=True)
    assert [o.recording for o in outcomes.having("stored")] == [NAME]


def test_a_folder_that_is_no_recording_is_named_where_the_store_is_opened(tree, reader, tmp_path):
    store = tmp_path / "s.zarr"
    ingest(reader, tree, store, serial=True)
    stating(channels=[f"Q{i}" for i in range(12)])(store)
    root = store / "zarr.json"
    root.write_text(root.read_text().replace('"n_trials": 2', '"n_trials": 3'))
    with (
        pytest.warns(UserWarning, match=r"zarr\.json was changed"),
        pytest.warns(UserWarning, match=f"{NAME} cannot be read as recordings"),
    ):
        opened = open_store(store)
    assert NAME not in opened
    assert len(opened.channels) == 12


def test_dimensions_of_dreamer_are_not_believed(tmp_path):
    (tmp_path / "DREAMER.mat").write_bytes(dreamer(matrix(head(1, (1, 2**31 - 1), ""))))
    assert "2147483647 subjects; DREAMER has 23" in bounded("dreamer", tmp_path)
    (tmp_path / "DREAMER.mat").write_bytes(dreamer(matrix(head(1, (1, 23), ""))))
    assert "said to have 23 items, more than its data" in bounded("dreamer", tmp_path)


@pytest.mark.parametrize("where", ["label.mat", "1_20131027.mat"])
def test_labels_that_inflate_are_refused_by_their_size(tmp_path, where):
    trial = matrix(head(6, (62, 2), "x_eeg1") + element(9, bytes(992)))
    (tmp_path / "1_20131027.mat").write_bytes(HEADER + trial)
    (tmp_path / "label.mat").write_bytes(LABEL)
    with (tmp_path / where).open("ab") as file:
        if where == "label.mat":
            file.truncate(len(HEADER))
        name = "label" if where == "label.mat" else "labels"
        file.write(inflating(name, 8, (1, 1 << 30), 1, 1024))
    assert (tmp_path / where).stat().st_size < 2_000_000
    assert "1073741824 items, more than 999" in bounded("seed", tmp_path)


def test_a_trial_that_inflates_is_refused_by_its_size(tmp_path):
    n = (2048 << 20) // 62 // 8
    trial = inflating("x_eeg1", 6, (62, n * 8), 2, 62 * n * 8 >> 20)
    (tmp_path / "1_20131027.mat").write_bytes(HEADER + trial)
    (tmp_path / "label.mat").write_bytes(LABEL)
    assert "items, more than" in bounded("seed", tmp_path)
