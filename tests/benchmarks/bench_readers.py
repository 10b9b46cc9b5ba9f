"""What reading a corpus costs, against the plainest way to get at the same numbers.

    python tests/benchmarks/bench_readers.py [NAME ...] [--quick] [--repeats N] [--scratch FOLDER]

A case simulates a little of a corpus at full size, reads it with omfa's reader, and reads it with
the floor: what one would call without omfa, such as ``loadmat``. Each runs in a process of its
own, imports left out, the files in the page cache. Printed is the least CPU time of each over a few
runs, their ratio, and the peak memory beside what is allowed: three times the largest recording, as
float32 samples of all that is read of it, and 400 MB.
"""

from functools import partial
from pathlib import Path
from typing import Any

import h5py
import scipy.io
from measuring import heading, interleave, measure, parser, scratch, show

from omfa.pipeline import simulate
from omfa.pipeline.readers import get_reader


def read_all(source: str, root: Path, **options: Any) -> float:
    """Read every recording of a tree; return the MB of the largest."""
    reader = get_reader(source, **options)
    largest = 0
    for key in reader.discover(root):
        found = reader.read(key)
        signals = [*found.segments, *(s for group in found.auxiliary for s in group.segments)]
        largest = max(largest, sum(signal.nbytes for signal in signals))
    return largest / 1e6


def simulate_eav(root: Path, quick: bool) -> None:
    """Write one subject's arrays."""
    simulate("eav", root, subjects=1, seconds=2 if quick else None)


def read_eav(root: Path) -> float:
    """Read them with omfa, labels too."""
    return read_all("eav", root)


def load_eav(root: Path) -> None:
    """Load them with SciPy, labels too."""
    for path in root.glob("EAV/*/EEG/*.mat"):
        scipy.io.loadmat(path)


def simulate_thu_ep(root: Path, quick: bool) -> None:
    """Write two subjects' arrays and the ratings."""
    simulate("thu-ep", root, subjects=2, seconds=2 if quick else None)


def read_thu_ep(root: Path) -> float:
    """Read the broad band with omfa, ratings too."""
    return read_all("thu-ep", root)


def load_thu_ep(root: Path) -> None:
    """Load all bands with h5py, ratings too."""
    for path in root.glob("*/*.mat"):
        with h5py.File(path) as file:
            file["ratings" if path.stem == "ratings" else "data"][:]


CASES = {
    # name: (what writes the files, our reader, the floor)
    "eav, against loadmat": (simulate_eav, read_eav, load_eav),
    "thu-ep, against h5py": (simulate_thu_ep, read_thu_ep, load_thu_ep),
}


def main() -> None:
    """Simulate, measure, print."""
    arguments = parser(__doc__)
    arguments.add_argument("names", nargs="*", help="cases whose names begin so; by default all")
    options = arguments.parse_args()
    heading(["numpy", "scipy", "mne", "h5py"])
    rows = []
    for name, (write, ours, floor) in CASES.items():
        if options.names and not name.startswith(tuple(options.names)):
            continue
        with scratch(options.scratch) as folder:
            root = folder / "corpus"
            write(root, options.quick)
            ours(root)  # into the page cache
            ways = {way: partial(measure, work, root)
                    for way, work in (("ours", ours), ("floor", floor))}  # fmt: skip
            costs = interleave(options.repeats, ways)
        mine, base = costs["ours"], costs["floor"]
        allowed = 3 * mine.result + 400
        rows.append([name, base.cpu, mine.cpu, mine.cpu / base.cpu, mine.peak, allowed])
    show(
        "Readers", ["case", "floor, CPU s", "omfa, CPU s", "ratio", "peak, MB", "allowed, MB"], rows
    )


if __name__ == "__main__":
    main()
