"""What shuffled windows with labels cost from each tier, and what the streamed one keeps in memory.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_datasets.py [--quick] [--torcheeg PYTHON]

Simulated DEAP at real length, windows of 1 s, batches of 256 in random order, one process. Every
measurement has a process of its own, and they take turns, so that the ratios are of one run.
Windows per CPU second are compared, since they change least on a shared machine; the clock's stand
beside them. ``--torcheeg`` names the Python of an environment that has TorchEEG, whose LMDB is then
read in the same run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import measuring
import numpy as np

from omfa.pipeline import ingest, open_store, simulate
from omfa.pipeline import store as stores
from omfa.pipeline.metadata import read_root, write_root

BATCH = 256
TARGET = "valence>5"
BUFFER = 64e6  # bytes the streamed tier keeps in the test of its memory
_OPEN: dict[str, Any] = {}


# -------------------------------------------------------------- in the measured processes


def open_tier(store: Path, cache: str, folder: Path) -> None:
    """Open a dataset and read a batch."""
    from omfa.zoo import open_dataset

    _OPEN["data"] = open_dataset(store, 1.0, target=TARGET, cache=cache, cache_dir=folder)
    _OPEN["data"].take(np.arange(BATCH))


def epoch(repeats: int) -> int:
    """Read every window in random order; return how many were read."""
    loader = _OPEN["data"].loader(BATCH, shuffle=True)
    return sum(len(batch.y) for _ in range(repeats) for batch in loader)


def open_plain(store: Path, cache: str, folder: Path) -> None:
    """Put all windows into one array, which is what indexing can do at best."""
    open_tier(store, cache, folder)
    data = _OPEN["data"]
    _OPEN["X"] = np.concatenate(
        [data.take(np.arange(i, min(i + 1024, len(data))))[0] for i in range(0, len(data), 1024)]
    )
    _OPEN["y"] = data.y.copy()


def indexed() -> Iterator[tuple[Any, Any]]:
    """Yield the array's windows and labels in random order."""
    X, y = _OPEN["X"], _OPEN["y"]
    order = np.random.default_rng(0).permutation(len(X))
    for i in range(0, len(order), BATCH):
        yield X[order[i : i + BATCH]], y[order[i : i + BATCH]]


def plain(repeats: int) -> int:
    """Index the array; a batch is held while the next is made, as by ``epoch`` and in training."""
    return sum(len(batch[1]) for _ in range(repeats) for batch in indexed())


def decode(repeats: int) -> int:
    """Decode every recording from start to end; return the windows in it."""
    data = _OPEN["data"]
    for _ in range(repeats):
        for source in data.sources:
            source.read()
    return repeats * len(data)


def stream_epoch(store: Path) -> int:
    """Open a store and read it once by the streamed tier with a small buffer."""
    from omfa.zoo import open_dataset

    data = open_dataset(store, 1.0, target=TARGET, cache="stream", buffer_bytes=BUFFER)
    return sum(len(batch.y) for batch in data.loader(BATCH, shuffle=True))


def nothing() -> None:
    """Import what the tiers import."""
    import omfa.zoo.data.dataset  # noqa: F401


def train() -> tuple[int, float, float]:
    """Train OMFA for an epoch; return steps, the share of time that they wait, the first wait."""
    import torch

    from omfa.models import OMFA

    data = _OPEN["data"]
    model = OMFA(2, chs_info=data.chs_info, n_times=data.n_times, sfreq=data.sfreq, preset="tiny")
    optimizer, waits = torch.optim.AdamW(model.parameters()), []
    begun = start = time.perf_counter()
    for batch in data.loader(64, shuffle=True):
        waits.append(time.perf_counter() - start)
        loss = torch.nn.functional.cross_entropy(model(batch.X, mask=batch.present), batch.y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        start = time.perf_counter()
    return len(waits), sum(waits) / (start - begun), waits[0]


# ------------------------------------------------------------------------------- the run


def multiplied(store: Path, folder: Path, times: int) -> Path:
    """Lay a store with every recording several times, under the names of other subjects."""
    root = read_root(stores.locate(store))
    assert root is not None
    settings = {name: value for name, value in root.settings.items() if name != "recordings"}
    for k in range(times):
        for recording in open_store(store):
            document = json.loads((store / recording.recording / stores.METADATA).read_bytes())
            attrs = document["attributes"]
            attrs["subject"] = f"{attrs['subject']}x{k}"
            name = f"sub-{attrs['subject']}_ses-{attrs['session']}_run-{attrs['run']}"
            attrs["recording"] = name
            shutil.copytree(store / recording.recording, folder / name, copy_function=os.link)
            (folder / name / stores.METADATA).unlink()
            (folder / name / stores.METADATA).write_text(json.dumps(document))
    write_root(stores.locate(folder), settings)
    return folder


def tiers_table(store: Path, root: Path, scratch: Path, args: Any) -> None:
    """Print windows per second of each tier, and ratios."""
    passes = 1 if args.quick else 3

    def task(work: Callable[..., Any], opening: Callable[..., Any], cache: str) -> Any:
        warm = (opening, store, cache, scratch / "cache")
        return partial(measuring.measure, work, passes, warm=warm)

    costs = measuring.interleave(
        args.repeats,
        {
            "one float32 array, NumPy indexing": task(plain, open_plain, "memory"),
            "memory": task(epoch, open_tier, "memory"),
            "memmap": task(epoch, open_tier, "memmap"),
            "stream": task(epoch, open_tier, "stream"),
            "decoding in order, nothing else": task(decode, open_tier, "stream"),
        },
    )
    rows = {name: (c.result / c.cpu, c.result / c.wall, c.others) for name, c in costs.items()}
    if args.torcheeg:
        script = Path(__file__).with_name("torcheeg_windows.py")
        command = [args.torcheeg, script, root / "data_preprocessed_python"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.strip().splitlines()[-1])
        rows["TorchEEG, dataset[i]"] = (*found["items"], float("nan"))
        rows["TorchEEG, DataLoader"] = (*found["batches"], float("nan"))
    fastest = rows["one float32 array, NumPy indexing"][0]
    decoding = rows["decoding in order, nothing else"][0]
    peer = rows.get("TorchEEG, dataset[i]", (float("nan"),))[0]
    measuring.show(
        "windows of DEAP, 1 s, with label, shuffled, batches of 256; ratios by CPU",
        ["", "/ CPU s", "/ s", "of array", "of decoding", "of TorchEEG", "others' cores"],
        [
            [name, cpu, wall, cpu / fastest, cpu / decoding, cpu / peer, others]
            for name, (cpu, wall, others) in rows.items()
        ],
    )


def main() -> None:
    """Print the tables."""
    arguments = measuring.parser(__doc__)
    arguments.add_argument("--subjects", type=int, default=8)
    arguments.add_argument("--torcheeg", help="a Python that has TorchEEG")
    args = arguments.parse_args()
    measuring.heading(["numpy", "torch", "zarr", "numcodecs"])
    with measuring.scratch(args.scratch) as scratch:
        root, store = scratch / "DEAP", scratch / "deap.zarr"
        subjects = 2 if args.quick else args.subjects
        simulate("deap", root, subjects=subjects, seconds=20 if args.quick else None)
        ingest("deap", root, store)
        tiers_table(store, root, scratch, args)
        base = measuring.measure(nothing).peak
        rows = []
        for times in (1, 2) if args.quick else (1, 4, 16):
            many = multiplied(store, scratch / f"x{times}", times)
            cost = measuring.measure(stream_epoch, many)
            decoded = sum(source["n_times"] for _, source in open_store(many).recordings.iterrows())
            rows.append([times, decoded * 32 * 2 / 1e6, cost.result, cost.peak, cost.peak - base])
        measuring.show(
            f"peak memory of one shuffled epoch, streamed, buffer of {BUFFER / 1e6:.0f} MB; "
            f"imports alone take {base:.0f} MB",
            ["times", "decoded MB", "windows", "peak MB", "above imports MB"],
            rows,
        )
        rows = []
        for cache in ("memory", "memmap", "stream"):
            cost = measuring.measure(train, warm=(open_tier, store, cache, scratch / "cache"))
            steps, share, first = cost.result
            rows.append([cache, steps / cost.wall, 100 * share, 1000 * first])
        measuring.show(
            "an epoch of training OMFA tiny on the CPU, batches of 64 windows of 32 channels x 1 s",
            ["tier", "steps / s", "waiting, %", "for the first batch, ms"],
            rows,
        )


if __name__ == "__main__":
    main()
