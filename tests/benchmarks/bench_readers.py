"""What reading a corpus costs, against the plainest way to get at the same numbers.

    python tests/benchmarks/bench_readers.py [NAME ...] [--quick] [--repeats N] [--scratch FOLDER]

A case simulates a little of a corpus at full size, reads it with omfa's reader, and reads it with
the floor: what one would call without omfa, such as ``pickle.load``. Each runs in a process of its
own, after the same on a tiny tree, so that imports are in no figure, with the files in the page
cache. Printed is the least CPU time of each over a few
runs, their ratio, and the peak memory beside what is allowed: three times the largest recording, as
float32 samples of all that is read of it, and 400 MB.
"""

import pickle
import warnings
from functools import partial
from pathlib import Path
from typing import Any

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


def simulate_faced(root: Path, quick: bool) -> None:
    """Write four subjects' pickles."""
    simulate("faced", root, subjects=4, seconds=2 if quick else None)


def read_faced(root: Path) -> float:
    """Read them with omfa, ratings and people too."""
    return read_all("faced", root)


def unpickle_faced(root: Path) -> None:
    """Run the pickles."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy: names of another version in the pickle
        for path in sorted(root.glob("Processed_data/*.pkl")):
            with path.open("rb") as file:
                pickle.load(file)


def simulate_mahnob_hci(root: Path, quick: bool) -> None:
    """Write a subject's sessions."""
    simulate("mahnob-hci", root, subjects=1, seconds=2 if quick else None)


def read_mahnob_hci(root: Path) -> float:
    """Read those with an emotion with omfa, all channels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the sessions that are left out
        return read_all("mahnob-hci", root)


def mne_mahnob_hci(root: Path) -> None:
    """Read the same files with MNE."""
    import mne

    for path in sorted(root.glob("Sessions/*/*_S_*.bdf")):
        mne.io.read_raw_bdf(path, preload=True, verbose="error")


def simulate_amigos(root: Path, quick: bool) -> None:
    """Write two subjects' files."""
    simulate("amigos", root, subjects=2, seconds=2 if quick else None)


def read_amigos(root: Path) -> float:
    """Read them with omfa, ECG and GSR too."""
    return read_all("amigos", root)


def loadmat_amigos(root: Path) -> None:
    """Load all their variables."""
    for path in sorted(root.rglob("*.mat")):
        scipy.io.loadmat(path)


CASES = {
    # name: (what writes the files, our reader, the floor)
    "faced, against pickle.load": (simulate_faced, read_faced, unpickle_faced),
    "mahnob-hci, against MNE": (simulate_mahnob_hci, read_mahnob_hci, mne_mahnob_hci),
    "amigos, against loadmat": (simulate_amigos, read_amigos, loadmat_amigos),
}


def main() -> None:
    """Simulate, measure, print."""
    arguments = parser(__doc__)
    arguments.add_argument("names", nargs="*", help="cases whose names begin so; by default all")
    options = arguments.parse_args()
    heading(["numpy", "scipy", "mne"])
    rows = []
    for name, (write, ours, floor) in CASES.items():
        if options.names and not name.startswith(tuple(options.names)):
            continue
        with scratch(options.scratch) as folder:
            root, tiny = folder / "corpus", folder / "tiny"
            write(root, options.quick)
            write(tiny, True)
            ours(root)  # into the page cache
            works = {
                way: partial(measure, work, root, warm=(work, tiny))
                for way, work in (("ours", ours), ("floor", floor))
            }
            costs = interleave(options.repeats, works)
        mine, base = costs["ours"], costs["floor"]
        allowed = 3 * mine.result + 400
        rows.append([name, base.cpu, mine.cpu, mine.cpu / base.cpu, mine.peak, allowed])
    show(
        "Readers", ["case", "floor, CPU s", "omfa, CPU s", "ratio", "peak, MB", "allowed, MB"], rows
    )


if __name__ == "__main__":
    main()
