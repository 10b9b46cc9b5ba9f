"""What a recording costs in bytes, files, CPU and waiting, by type, codec, chunk and shard.

    python tests/benchmarks/bench_store.py [--quick] [--eeg FOLDER]

On real EEG (EEGMMIDB and EEGMAT below FOLDER, where they are) and on simulated SEED and DEAP, band-
passed and resampled as ``omfa-ingest`` does it, laid end to end. Each table varies one thing about
the store's own choice, on the first of them; one compares codecs on all. The last compares metadata
consolidated in each recording and in the root.
"""

from __future__ import annotations

import json
import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray
import zarr
from numcodecs import blosc
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from omfa.pipeline import simulate
from omfa.pipeline import store as stores
from omfa.pipeline.channels import UCS_VERSION
from omfa.pipeline.encoding import FORMAT, digest
from omfa.pipeline.metadata import write_root
from omfa.pipeline.preprocess import Preprocessing, preprocess
from omfa.pipeline.readers import get_reader

EEG = Path(__file__).parents[2].parent / "shared" / "real-eeg"
SFREQ = 128
TRIAL = 60 * SFREQ  # samples of the trial that is read alone
AMPLIFIER_STEP = 1 / 32  # microvolts; SEED's and DEAP's amplifiers have 0.030 and 0.031

Float32 = npt.NDArray[np.float32]


def _blosc(name: str, level: int, shuffle: str) -> BloscCodec:
    return BloscCodec(cname=name, clevel=level, shuffle=shuffle)


CODECS: dict[str, Any] = {
    "none": None,
    "zstd 1": ZstdCodec(level=1),
    "blosc lz4 5, shuffle": _blosc("lz4", 5, "shuffle"),
    "blosc lz4 5, bitshuffle": _blosc("lz4", 5, "bitshuffle"),
    "blosc zstd 1, shuffle": _blosc("zstd", 1, "shuffle"),
    "blosc zstd 1, shuffle, crc32c": [_blosc("zstd", 1, "shuffle"), Crc32cCodec()],
    "blosc zstd 1, bitshuffle": _blosc("zstd", 1, "bitshuffle"),
    "blosc zstd 3, shuffle": _blosc("zstd", 3, "shuffle"),
    "blosc zstd 3, bitshuffle": _blosc("zstd", 3, "bitshuffle"),
    "blosc zstd 5, shuffle": _blosc("zstd", 5, "shuffle"),
}


@dataclass(frozen=True)
class Layout:
    """One way to store a signal."""

    dtype: str = "float16"
    codec: str = "blosc zstd 1, shuffle, crc32c"
    seconds: float | None = None  # of a chunk; by default the store's, 0 for all
    n_chans: int = 0  # of a chunk; 0 for all
    sharded: bool = True


def as_stored(signal: Float32, dtype: str) -> npt.NDArray[Any]:
    """Return the signal in a stored type."""
    match dtype:
        case "float16, rounded":
            return (np.round(signal / AMPLIFIER_STEP) * AMPLIFIER_STEP).astype(np.float16)
        case "int16, scaled":
            return np.round(signal / AMPLIFIER_STEP).astype(np.int16)
        case _:
            return signal.astype(dtype)


def as_read(stored: npt.NDArray[Any]) -> Float32:
    """Return microvolts."""
    scale = np.float32(AMPLIFIER_STEP if stored.dtype == np.int16 else 1)
    return stored.astype(np.float32) * scale


def write(folder: Path, stored: npt.NDArray[Any], layout: Layout) -> zarr.Array:
    """Store a signal in a layout."""
    n_chans, n_times = stored.shape
    rows = layout.n_chans or n_chans
    length = stores.CHUNK_SAMPLES // n_chans
    if layout.seconds is not None:
        length = round(layout.seconds * SFREQ)
    length = min(length or n_times, n_times)
    whole = (-(-n_chans // rows) * rows, -(-n_times // length) * length)
    array = zarr.create_array(
        folder,
        shape=stored.shape,
        dtype=stored.dtype,
        chunks=(rows, length),
        shards=whole if layout.sharded else None,
        compressors=CODECS[layout.codec],
        fill_value=0,
        config={"write_empty_chunks": True},
        overwrite=True,
    )
    array[...] = stored
    return array


def cpu(work: Callable[[], Any], repeats: int) -> float:
    """Return the least CPU seconds of some runs."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def row(folder: Path, signal: Float32, layout: Layout, repeats: int) -> list[object]:
    """Measure one layout: ratio of bytes, bits a sample, files, seconds, error."""
    stored = as_stored(signal, layout.dtype)
    written = cpu(lambda: write(folder, stored, layout), repeats)
    array = zarr.open_array(folder, mode="r")
    read = cpu(lambda: array[...], repeats)
    rng = np.random.default_rng(0)
    waits = []
    for start in rng.integers(0, signal.shape[1] - TRIAL, 20):
        begun = time.perf_counter()
        array[:, start : start + TRIAL]
        waits.append(time.perf_counter() - begun)
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    error = float(np.sqrt(np.mean((as_read(stored) - signal) ** 2, axis=1)).max())
    hours = signal.size / (64 * SFREQ * 3600)
    shutil.rmtree(folder)
    return [
        size * 8 / signal.size,
        size / signal.nbytes,
        written / hours,
        read / hours,
        float(np.median(waits)) * 1e3,
        len(files),
        f"{error:.4f}",
    ]


def bits_and_time(folder: Path, signal: Float32, codec: str, repeats: int) -> str:
    """Return what a codec makes of a signal."""
    bits, _, written, *_ = row(folder, signal, Layout(codec=codec), repeats)
    return f"{bits:.2f}; {written / (64 * SFREQ * 3600) * 1e9:.0f}"


def signals(eeg: Path, scratch: Path, quick: bool) -> dict[str, Float32]:
    """Return preprocessed EEG by where it is from, real where it is at hand."""
    simulate("seed", scratch / "seed", subjects=1, sessions=1, seconds=20 if quick else 120)
    simulate("deap", scratch / "deap", subjects=1, seconds=2 if quick else 20)
    several = slice(3 if quick else 14)
    places = {
        "EEGMMIDB S001": ("files", eeg / "eegmmidb" / "S001"),
        "EEGMMIDB S042": ("files", eeg / "eegmmidb" / "S042"),
        "EEGMAT": ("files", eeg / "eegmat"),
        "simulated SEED": ("seed", scratch / "seed"),
        "simulated DEAP": ("deap", scratch / "deap"),
    }
    found = {}
    for name, (source, root) in places.items():
        if root.is_dir():
            reader = get_reader(source)
            recordings = map(reader.read, reader.discover(root)[several])
            pieces = [
                preprocess(segment, recording.sfreq, Preprocessing(sfreq=SFREQ))
                for recording in recordings
                for segment in recording.segments
            ]
            found[name] = np.concatenate(pieces, axis=1)
    return found


# ------------------------------------------------------------------------------- metadata


def lay_small_recordings(root: Path, n: int, *, whole: bool = True) -> None:
    """Lay a store of small recordings: one is encoded, and committed under many names.

    Parameters
    ----------
    root : Path
    n : int
    whole : bool
        Lay arrays too, and not only each recording's metadata.
    """
    one = stores.encode(_small_recording(), "auto", "benchmark")
    for i in range(n):
        subject = f"{i + 1:05d}"
        document = json.loads(one[stores.METADATA])
        name = f"sub-{subject}_ses-1_run-1"
        document["attributes"] |= {"recording": name, "subject": subject}
        del document["attributes"]["digest"]
        document["attributes"]["digest"] = digest(document)
        files = one | {stores.METADATA: json.dumps(document).encode()}
        for file, content in files.items():
            if whole or file == stores.METADATA:
                path = root / name / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    settings = {
        "format": FORMAT,
        "ucs_version": UCS_VERSION,
        "settings_digest": "benchmark",
        "source": "benchmark",
        "channels": {"cerebellar": "PO9/PO10", "aliases": {}},
    }
    write_root(stores.locate(root), settings)


def _small_recording() -> stores.AlignedRecording:
    n_times = 4 * SFREQ
    channels = stores.UCS.names[:62]
    trials = {"onset": [0], "length": [n_times], "baseline_onset": [0], "baseline_length": [0]}
    return stores.AlignedRecording(
        recording="sub-1_ses-1_run-1",
        subject="1",
        session="1",
        run="1",
        channels=list(channels),
        sfreq=float(SFREQ),
        signal=np.random.default_rng(0).standard_normal((62, n_times), np.float32),
        segments=np.array([[0, n_times]]),
        trials=pd.DataFrame(trials | {"stimulus": ["1"], "emotion": [1]}),
    )


def opening(root: Path, n: int) -> list[object]:
    """Return milliseconds to open one recording by xarray, metadata kept in three ways."""
    lay_small_recordings(root, n)
    name = f"sub-{n:05d}_ses-1_run-1"

    def ms(work: Callable[[], Any]) -> float:
        waits = []
        for _ in range(5):
            begun = time.perf_counter()
            work()
            waits.append(time.perf_counter() - begun)
        return min(waits) * 1e3

    own = ms(lambda: xarray.open_zarr(root / name))
    walked = ms(lambda: xarray.open_zarr(root, group=name, consolidated=False))
    before = (root / stores.METADATA).stat().st_size / 1e6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        begun = time.perf_counter()
        zarr.consolidate_metadata(root)
        making = time.perf_counter() - begun
        in_root = ms(lambda: xarray.open_zarr(root, group=name))
    after = (root / stores.METADATA).stat().st_size / 1e6
    shutil.rmtree(root)
    return [n, own, walked, in_root, before, after, making]


def main() -> None:
    """Print the tables."""
    arguments = measuring.parser(__doc__)
    arguments.add_argument("--eeg", type=Path, default=EEG, help="folder with eegmmidb and eegmat")
    args = arguments.parse_args()
    repeats = 1 if args.quick else args.repeats
    blosc.use_threads = False
    measuring.heading(["zarr", "numcodecs", "numpy", "xarray"])
    with measuring.scratch(args.scratch) as scratch:
        every = signals(args.eeg, scratch, args.quick)
        title, signal = next(iter(every.items()))
        chosen = Layout()
        tables = {
            "type": [
                replace(chosen, dtype=dtype)
                for dtype in ("float32", "float16", "float16, rounded", "int16, scaled")
            ],
            "codec": [replace(chosen, codec=codec) for codec in CODECS],
            "chunk": [
                replace(chosen, seconds=seconds, n_chans=n_chans, sharded=sharded)
                for seconds, n_chans, sharded in (
                    *((4, 0, True), (4, 0, False), (32, 0, True), (32, 0, False)),
                    *((60, 0, True), (128, 0, True), (0, 0, True), (32, 1, True), (0, 1, True)),
                )
            ],
        }
        header = ["bits / sample", "of float32", "write", "read", "trial ms", "files", "error uV"]
        hours = signal.shape[1] / SFREQ / 3600
        for what, layouts in tables.items():
            rows = [[_name(what, x), *row(scratch / "s", signal, x, repeats)] for x in layouts]
            measuring.show(
                f"{what}; {title}, {len(signal)} channels, {hours:.2f} h at {SFREQ} Hz; "
                "write and read: CPU s for an hour of 64 channels",
                [what, *header],
                rows,
            )
        measuring.show(
            "bits a sample of float16, and CPU ns to write one",
            ["codec", *(f"{name} ({len(x)} channels)" for name, x in every.items())],
            [
                [codec, *(bits_and_time(scratch / "s", x, codec, repeats) for x in every.values())]
                for codec in CODECS
            ],
        )
        counts = (10, 30) if args.quick else (100, 1000)
        measuring.show(
            "ms to open a recording by xarray; the root's zarr.json, MB; s to consolidate the root",
            ["recordings", "own metadata", "none", "in root", "root MB", "then MB", "making s"],
            [opening(scratch / "many", n) for n in counts],
        )


def _name(what: str, layout: Layout) -> str:
    if what != "chunk":
        return getattr(layout, what if what == "codec" else "dtype")
    length = f"{layout.seconds} s" if layout.seconds else "whole"
    rows = f"{layout.n_chans} channel" if layout.n_chans else "all channels"
    return f"{length}, {rows}, {'one shard' if layout.sharded else 'a file each'}"


if __name__ == "__main__":
    main()
