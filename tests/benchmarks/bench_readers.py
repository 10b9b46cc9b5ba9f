"""What reading a little of a corpus costs, against the plainest way to the same numbers.

    python tests/benchmarks/bench_readers.py [CORPUS ...]

A little of each corpus is simulated at its real size, and read by our reader and by the library
that everybody would read the format with ("the floor"), each in a process of its own, in turn, the
files in the page cache. Printed are CPU seconds, their ratio, and our peak memory beside what
is allowed: three times the largest recording, as float32, and 400 MB.

    python tests/benchmarks/bench_readers.py --keep FOLDER seed-iv

keeps the simulated trees for another run.
"""

from __future__ import annotations

import functools
import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import measuring

from omfa.pipeline import DataError, simulate
from omfa.pipeline.readers import get_reader

PACKAGES = ("omfa", "numpy", "scipy", "mne", "isal", "h5py")


def with_loadmat(paths: Sequence[Path]) -> None:
    """Load all variables with SciPy."""
    import scipy.io

    for path in paths:
        scipy.io.loadmat(path)


def with_mne_cnt(paths: Sequence[Path]) -> None:
    """Load all channels of Neuroscan recordings with MNE."""
    import mne

    for path in paths:
        # The type is not in the header, and MNE's guess needs its number of samples.
        mne.io.read_raw_cnt(path, data_format="int32", preload=True, verbose="error")


def with_mne_bdf(paths: Sequence[Path]) -> None:
    """Load all channels of BioSemi recordings with MNE."""
    import mne

    for path in paths:
        mne.io.read_raw_bdf(path, preload=True, verbose="error")


def with_pickle(paths: Sequence[Path]) -> None:
    """Run the pickles."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy: names of another version in the pickle
        for path in paths:
            with path.open("rb") as file:
                pickle.load(file)


def with_h5py(paths: Sequence[Path]) -> None:
    """Load all bands with h5py."""
    import h5py

    for path in paths:
        with h5py.File(path) as file:
            file["data"][:]


@dataclass(frozen=True)
class Case:
    """A form of a corpus.

    Attributes
    ----------
    source : str
    extent : mapping
        The arguments of ``simulate`` that give a file or a few of full size.
    floor : callable
        Reads the files that hold signals, their paths given, with the library that is compared
        with.
    at_most : float or None
        Our CPU time over the floor's; None where no limit was set.
    options : mapping
        The reader's.
    """

    source: str
    extent: Mapping[str, Any]
    floor: Callable[[Sequence[Path]], None]
    at_most: float | None
    options: Mapping[str, Any] = field(default_factory=dict)


CASES = {
    "seed-iv": Case("seed-iv", {"subjects": 1, "sessions": 1}, with_loadmat, 1.8),
    "seed-v": Case("seed-v", {"subjects": 1, "sessions": 1}, with_mne_cnt, 1.5),
    "seed-vii": Case("seed-vii", {"subjects": 1}, with_loadmat, 1.8),
    "seed-vii-compressed": Case(
        "seed-vii", {"subjects": 1, "quirks": ("compressed",)}, with_loadmat, 1.8
    ),
    "faced": Case("faced", {"subjects": 4}, with_pickle, 2.0),
    "mahnob-hci": Case("mahnob-hci", {"subjects": 1}, with_mne_bdf, 1.5),
    "amigos": Case("amigos", {"subjects": 2}, with_loadmat, None),
    "thu-ep": Case("thu-ep", {"subjects": 2}, with_h5py, 1.5),
    "eav": Case("eav", {"subjects": 1}, with_loadmat, None),
}
"""By the name that is given on the command line."""


def with_reader(case: Case, root: Path) -> float:
    """Read every recording; return the bytes of the largest."""
    reader = get_reader(case.source, **case.options)
    read_each = getattr(reader, "read_each", None)
    largest = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # recordings that a corpus has and a reader leaves out
        keys = list(reader.discover(root))
        found = read_each(keys) if read_each else ((key, reader.read(key)) for key in keys)
        for _, recording in found:
            if isinstance(recording, DataError):
                raise recording
            signals = [*recording.segments, *(s for a in recording.auxiliary for s in a.segments)]
            largest = max(largest, sum(4.0 * signal.size for signal in signals))
    return largest


def paths_of(case: Case, root: Path) -> Sequence[Path]:
    """Return the files that hold signals, each once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keys = get_reader(case.source, **case.options).discover(root)
    return list(dict.fromkeys(key.paths[0] for key in keys))


def imports(case: Case) -> None:
    """Import what reading needs, so that no figure has it."""
    import h5py  # noqa: F401
    import mne  # noqa: F401
    import scipy.io  # noqa: F401

    get_reader(case.source, **case.options)


def main() -> None:
    """Simulate, measure, print."""
    parser = measuring.parser(__doc__)
    parser.add_argument("cases", nargs="*", metavar="CORPUS", help=f"of {', '.join(CASES)}")
    parser.add_argument("--keep", type=Path, help="a folder of simulated trees, kept for later")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    measuring.heading(PACKAGES)
    rows = []
    with measuring.scratch(options.scratch) as scratch:
        for name in options.cases or CASES:
            case, root = CASES[name], (options.keep or scratch) / name
            if not root.exists():
                seconds = {"seconds": 4} if options.quick else {}
                simulate(case.source, root, **(case.extent | seconds), progress=False)
            paths = paths_of(case, root)
            warm = (imports, case)
            works = {
                "ours": functools.partial(measuring.measure, with_reader, case, root, warm=warm),
                "floor": functools.partial(measuring.measure, case.floor, paths, warm=warm),
            }
            costs = measuring.interleave(options.repeats, works)
            ours, floor = costs["ours"], costs["floor"]
            allowed = 3 * ours.result / 1e6 + 400
            rows.append(
                [
                    *(
                        name,
                        f"{sum(path.stat().st_size for path in paths) / 1e6:,.0f}",
                        ours.cpu,
                        floor.cpu,
                    ),
                    *(ours.cpu / floor.cpu, case.at_most or "", ours.peak, allowed, floor.peak),
                ]
            )
    header = [
        *("corpus", "files, MB", "ours, CPU s", "floor, CPU s", "ratio", "at most"),
        *("ours, peak MB", "allowed MB", "floor, peak MB"),
    ]
    measuring.show("Reading recordings", header, rows)


if __name__ == "__main__":
    main()
