"""What ingest costs: CPU against the plainest reader, memory, disk, two workers, long lists.

    python tests/benchmarks/bench_ingest.py [FIGURE ...] [--quick] [--torcheeg PYTHON]

Figures: seed, deap, dreamer, workers, listing, help; all by default. The trees are simulated at
the corpora's real sizes (``--quick`` makes short ones). CPU is user and system time of all
processes without imports, the least of some runs made in turn; every ratio is of one run.
TorchEEG needs an environment of its own, which ``torcheeg_deap.py`` says how to make; without
``--torcheeg`` its row is left out.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from bench_store import lay_small_recordings
from isal import igzip_lib
from measuring import Cost, heading, interleave, measure, parser, scratch, show, wait_until_idle
from numcodecs import blosc
from scipy import fft, io

from omfa.pipeline import align as alignment
from omfa.pipeline import ingest, open_store, simulate
from omfa.pipeline import store as stores
from omfa.pipeline.location import Folder, locate
from omfa.pipeline.metadata import read_root, write_root
from omfa.pipeline.readers import get_reader
from omfa.pipeline.readers.corpora.seed import DATES

N_SESSIONS = 12
FORBIDDEN = ("torch", "mne", "dask", "distributed")
TORCHEEG = Path(__file__).with_name("torcheeg_deap.py")


# ------------------------------------------------------------------- what is run and measured


def load(path: Path) -> None:
    """Read a whole MATLAB file as SciPy does."""
    io.loadmat(path)


def run(source: str, raw: Path, store: Path, workers: int = 0) -> int:
    """Ingest; with no workers in this very process."""
    summary = ingest(
        source, raw, store, serial=not workers, workers=workers or None, progress=False
    )
    if not summary.complete:
        raise RuntimeError(summary.having("failed"))
    return sum(path.stat().st_size for path in store.rglob("*") if path.is_file())


def warm_up(source: str, raw: Path, store: Path) -> None:
    """Import and compute what is done once: Dask, and an ingest of a tiny tree."""
    import distributed  # noqa: F401 - at the top it would log as another program sets it up

    run(source, raw, store)


def staged(source: str, raw: Path, store: Path) -> dict[str, float]:
    """Ingest with a stopwatch around every stage; return CPU seconds."""
    spent: Counter[str] = Counter()

    def timed(stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return work(*args, **kwargs)
            finally:
                spent[stage] += time.process_time() - start

        return measured

    def timed_each(work: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def measured(*args: Any) -> Iterator[Any]:
            step = timed("read", partial(next, work(*args), None))
            while (item := step()) is not None:
                yield item

        return measured

    reader = type(get_reader(source))
    each = hasattr(reader, "read_each")
    places = {
        "checksum of the source": [(alignment, "source_files")],
        "quality figures, spectra": [(alignment, "assess"), (alignment, "spectrum")],
        "filter and resample": [(alignment, "preprocess")],
        "narrow, compress, check": [(stores, "encode")],
        "commit": [(Folder, "commit")],
    }
    start = time.process_time()
    with ExitStack() as stack:
        for stage, named in places.items():
            for owner, name in named:
                replaced = timed(stage, getattr(owner, name))
                stack.enter_context(patch.object(owner, name, replaced))
        method = "read_each" if each else "read"
        original = getattr(reader, method)
        replaced = timed_each(original) if each else timed("read", original)
        stack.enter_context(patch.object(reader, method, replaced))
        run(source, raw, store)
    total = time.process_time() - start
    shown = {stage: spent[stage] for stage in ("read", *places)}
    return shown | {"all else": total - sum(spent.values())}


def floor(source: str, raw: Path, store: Path) -> dict[str, float]:
    """Return CPU seconds of what any program with these results would do at the very least."""
    spent: Counter[str] = Counter()

    def spend(stage: str, work: Callable[..., Any], *args: Any) -> None:
        start = time.process_time()
        work(*args)
        spent[stage] += time.process_time() - start

    for file in {key.paths[0] for key in get_reader(source).discover(raw)}:
        spend("inflate, or read", inflate if file.suffix == ".mat" else Path.read_bytes, file)
    for recording in open_store(store):
        signal = recording.signal()
        ratio = recording.attrs["source_sfreq"] / recording.sfreq
        for length in recording.array("segment_length"):
            spend("one FFT there and back", there_and_back, len(signal), int(length), ratio)
        spend("zstd of the stored signal", compress, signal)
    return dict(spent)


def there_and_back(n_chans: int, n_times: int, ratio: float) -> None:
    """Transform a segment at its source's rate, and back at its stored rate."""
    new = fft.next_fast_len(n_times, real=True)
    old = fft.next_fast_len(round(new * ratio), real=True)
    rows = np.zeros((4, old), np.float32)  # as many as a vector register takes
    for _ in range(0, n_chans, len(rows)):
        fft.irfft(fft.rfft(rows, workers=1)[:, : new // 2 + 1], n=new, workers=1)


def compress(signal: np.ndarray) -> None:
    """Compress a signal as the store does."""
    blosc.use_threads = False
    step = stores.CHUNK_SAMPLES // len(signal)
    for at in range(0, signal.shape[1], step):
        chunk = np.ascontiguousarray(signal[:, at : at + step])
        blosc.compress(chunk, b"zstd", 1, blosc.SHUFFLE)


def inflate(path: Path) -> None:
    """Inflate every variable of a MATLAB file and keep nothing."""
    with path.open("rb") as file:
        file.seek(128)
        while head := file.read(8):
            stream = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_ZLIB)
            left = struct.unpack("<2I", head)[1]
            while not stream.eof:
                data = file.read(min(left, 1 << 16)) if stream.needs_input else b""
                left -= len(data)
                stream.decompress(data, 1 << 18)
            file.seek(left, 1)


def listed(root: Path) -> int:
    """Open a store and list its recordings."""
    return len(open_store(root).recordings)


def relisted(root: Path) -> None:
    """Make the root's list again, as the end of a run does."""
    location = locate(root)
    written = read_root(location)
    assert written is not None
    write_root(location, {k: v for k, v in written.settings.items() if k != "recordings"})


# --------------------------------------------------------------------------------- figures


class Trees:
    """Simulated trees, and stores made of them, in a scratch folder."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self.folder = folder
        self.quick = quick
        self.n_stores = 0

    def __call__(self, source: str, **sizes: int | None) -> Path:
        """Simulate a tree unless it is there."""
        root = self.folder / source
        if not root.exists():
            print(f"simulating {source} ...", file=sys.stderr, flush=True)
            simulate(source, root, seconds=20 if self.quick else None, **sizes)
        return root

    def tiny(self, source: str) -> Path:
        """Simulate a tree that is ingested before the clock starts, for what is done once."""
        root = self.folder / f"tiny-{source}"
        if not root.exists():
            simulate(source, root, subjects=1, seconds=2)
        return root

    def store(self) -> Path:
        """Return where the next store goes."""
        self.n_stores += 1
        return self.folder / f"store-{self.n_stores}"

    def ingest(self, source: str, raw: Path, work: Callable[..., Any] = run, *more: Any) -> Cost:
        """Measure an ingest into a new store, which is removed."""
        warm = (warm_up, source, self.tiny(source), self.store())
        cost = measure(work, source, raw, store := self.store(), *more, warm=warm)
        shutil.rmtree(store)
        shutil.rmtree(warm[-1])
        return cost


def against_loadmat(trees: Trees, source: str, repeats: int, limit: float) -> None:
    """Show one file's ingest against ``scipy.io.loadmat`` of it, by stages."""
    raw = trees(source, **({"subjects": 1, "sessions": 1} if source == "seed" else {}))
    file = next(raw.rglob("*[0-9].mat" if source == "seed" else "DREAMER.mat"))
    works = {
        "scipy.io.loadmat": partial(measure, load, file),
        "omfa-ingest": partial(trees.ingest, source, raw),
    }
    costs = interleave(repeats, works)
    unit = costs["scipy.io.loadmat"].cpu
    rows = [[name, cost.cpu, cost.cpu / unit, cost.peak] for name, cost in costs.items()]
    parts = min(
        (trees.ingest(source, raw, staged).result for _ in range(repeats)),
        key=lambda parts: sum(parts.values()),
    )
    rows += [[f"- {stage}", cpu, cpu / unit, ""] for stage, cpu in parts.items()]
    run(source, raw, store := trees.store())
    least = min((floor(source, raw, store) for _ in range(repeats)), key=lambda f: sum(f.values()))
    rows.append(["floor", total := sum(least.values()), total / unit, ""])
    rows += [[f"- {stage}", cpu, cpu / unit, ""] for stage, cpu in least.items()]
    size = file.stat().st_size / 1e6
    title = f"{file.name}, {size:.0f} MB; at most {limit} x loadmat"
    show(title, [source, "CPU s", "x loadmat", "peak MB"], rows)
    memory(trees, source, raw, store, costs["omfa-ingest"])


def memory(trees: Trees, source: str, raw: Path, store: Path, serial: Cost) -> None:
    """Show the memory of the largest process against the largest recording's size."""
    worker = trees.ingest(source, raw, run, 1)
    decoded = max(
        attrs["n_chans"] * attrs["n_times"] * 4e-6 * attrs["source_sfreq"] / attrs["sfreq"]
        for attrs in (recording.attrs for recording in open_store(store))
    )
    bound = 3000.0 if source == "dreamer" else 3 * decoded + 400
    rows = [
        ["the largest recording's EEG as float32", decoded],
        ["allowed", bound],
        ["omfa-ingest --serial", serial.peak],
        ["the largest process with a Dask worker", worker.peak],
    ]
    show(f"{source}: memory", ["", "MB"], rows)


def deap(trees: Trees, repeats: int, torcheeg: str | None) -> None:
    """Show two DEAP subjects against TorchEEG, and what the store takes on disk."""
    raw = trees("deap", subjects=2)
    dats = raw / "data_preprocessed_python"
    works: dict[str, Callable[[], Cost]] = {"omfa-ingest": partial(trees.ingest, "deap", raw)}
    if torcheeg:
        works["TorchEEG 1.1.3, band-pass"] = partial(by_torcheeg, torcheeg, dats, "--band")
        works["TorchEEG 1.1.3, nothing done"] = partial(by_torcheeg, torcheeg, dats)
    costs = interleave(repeats, works)
    unit = costs["omfa-ingest"].cpu
    rows = [[name, cost.cpu, cost.cpu / unit] for name, cost in costs.items()]
    parts = trees.ingest("deap", raw, staged).result
    rows += [[f"- {stage}", cpu, cpu / unit] for stage, cpu in parts.items()]
    title = "DEAP, 2 subjects, 0.5-45 Hz; at least 10 times less CPU than TorchEEG's band-pass"
    show(title, ["deap", "CPU s", "x omfa-ingest"], rows)
    run("deap", raw, store := trees.store())
    memory(trees, "deap", raw, store, costs["omfa-ingest"])
    source_bytes = sum(file.stat().st_size for file in dats.iterdir())
    rows = []
    for overlap in (0.0, 0.75):
        windows = cut(store, overlap)
        size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
        rows.append([f"{overlap:.0%}", windows, size / 1e6, size / source_bytes])
    show(
        f"DEAP on disk; its two files have {source_bytes / 1e6:.0f} MB, at most 0.5 of it",
        ["overlap", "windows of 1 s", "store MB", "of the source"],
        rows,
    )


def by_torcheeg(python: str, root: Path, *flags: str) -> Cost:
    """Run TorchEEG in its own environment."""
    done = subprocess.run(
        [python, str(TORCHEEG), str(root), *flags], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    told = json.loads(done.stdout.splitlines()[-1])
    return Cost(told["cpu"], 0.0, 0.0, 0.0, told["windows"])


def cut(store: Path, overlap: float) -> int:
    """Cut every trial of a store into windows of a second; return how many there are."""
    n = 0
    for recording in open_store(store):
        length = round(recording.sfreq)
        step = round(length * (1 - overlap))
        for trial in recording.trials.itertuples():
            signal = recording.signal(trial.onset, trial.onset + trial.length)
            views = np.lib.stride_tricks.sliding_window_view(signal, length, axis=1)[:, ::step]
            n += views.shape[1]
    return n


def workers(trees: Trees, repeats: int) -> None:
    """Show the wall time of many SEED sessions with one Dask worker and with two."""
    one = trees("seed", subjects=1, sessions=1)
    many = trees.folder / "seed-many"
    folder = many / "Preprocessed_EEG"
    folder.mkdir(parents=True)
    (label,) = one.rglob("label.mat")
    os.link(label, folder / "label.mat")
    names = [f"{s}_{date}.mat" for s, dates in enumerate(DATES, 1) for date in dates]
    names = names[: 4 if trees.quick else N_SESSIONS]
    for name in names:
        os.link(next(one.rglob("1_*.mat")), folder / name)

    def timed(raw: Path, n: int) -> Cost:
        wait_until_idle(patience=0 if trees.quick else 60)
        return trees.ingest("seed", raw, run, n)

    works = {(raw, n): partial(timed, raw, n) for raw in (many, trees.tiny("seed")) for n in (1, 2)}
    costs = interleave(repeats, works, by="wall")
    starting = trees.tiny("seed")

    def recordings(n: int) -> Cost:
        all_of_it, start = costs[many, n], costs[starting, n]
        return replace(all_of_it, wall=all_of_it.wall - start.wall, cpu=all_of_it.cpu - start.cpu)

    pairs = {
        "all": (costs[many, 1], costs[many, 2]),
        "starting and stopping Dask": (costs[starting, 1], costs[starting, 2]),
        "the recordings": (recordings(1), recordings(2)),
    }
    rows = [
        [name, a.wall, b.wall, a.wall / b.wall, a.cpu, b.cpu, a.others, b.others]
        for name, (a, b) in pairs.items()
    ]
    show(
        f"{len(names)} SEED sessions (one under many names); at least 1.7",
        ["", "1 worker, s", "2 workers, s", "ratio", "CPU s", "CPU s", "others, cores", "cores"],
        rows,
    )


def listing(trees: Trees, repeats: int) -> None:
    """Show how long a store takes to be opened and listed."""
    rows = []
    for n in (10, 100, 1000) if trees.quick else (100, 1000, 10_000):
        root = trees.store()
        lay_small_recordings(root, n, whole=n <= 1000)
        works = {
            "open": partial(measure, listed, root),
            "relist": partial(measure, relisted, root),
        }
        costs = interleave(repeats, works, by="wall")
        size = (root / stores.METADATA).stat().st_size / 1e6
        rows.append([f"{n:,}", costs["open"].wall, size, costs["relist"].wall])
        shutil.rmtree(root)
    show(
        "Opening and listing a store of 62 channels; 1,000 recordings in 1 s",
        ["recordings", "open and list, s", "root's metadata, MB", "list made again, s"],
        rows,
    )


def help_text(repeats: int) -> None:
    """Show how long the command line takes to say what it can do."""
    command = [str(Path(sys.executable).with_name("omfa-ingest")), "--help"]
    times = []
    for _ in range(max(5, repeats)):
        start = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    environment = os.environ | {"PYTHONPROFILEIMPORTTIME": "1"}
    traced = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    modules = {line.rsplit("|", 1)[-1].strip() for line in traced.stderr.splitlines()}
    found = [name for name in FORBIDDEN if name in modules]
    show(
        "omfa-ingest --help; at most 1 s, without torch, MNE and Dask",
        ["wall s", "modules", "of torch, mne, dask, distributed"],
        [[min(times), len(modules), ", ".join(found) or "none"]],
    )


def main() -> None:
    """Print the tables."""
    arguments = parser(__doc__)
    arguments.add_argument("figures", nargs="*", metavar="FIGURE", help="which; by default all")
    arguments.add_argument("--torcheeg", metavar="PYTHON", help="TorchEEG's interpreter")
    args = arguments.parse_args()
    repeats = 1 if args.quick else args.repeats
    heading(["omfa", "numpy", "scipy", "zarr", "numcodecs", "isal", "distributed"])
    with scratch(args.scratch) as folder:
        trees = Trees(folder, quick=args.quick)
        figures: dict[str, Callable[[], None]] = {
            "seed": partial(against_loadmat, trees, "seed", repeats, 2.0),
            "deap": partial(deap, trees, repeats, args.torcheeg),
            "dreamer": partial(against_loadmat, trees, "dreamer", repeats, 2.5),
            "workers": partial(workers, trees, repeats),
            "listing": partial(listing, trees, repeats),
            "help": partial(help_text, repeats),
        }
        if unknown := set(args.figures) - set(figures):
            arguments.error(f"unknown figure {', '.join(unknown)}; choose of {', '.join(figures)}")
        for name in args.figures or figures:
            figures[name]()


if __name__ == "__main__":
    main()
