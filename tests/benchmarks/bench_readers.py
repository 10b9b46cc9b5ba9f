"""What reading one recording of a corpus costs, against the least that its format allows.

    python tests/benchmarks/bench_readers.py [CORPUS ...]

Each corpus is simulated at its real size, as many recordings as one file holds, and read by our
reader and by the library that everybody would read the format with ("the floor"), each in a
process of its own, in turn. Printed are CPU seconds, their ratio, and our peak memory beside what
is allowed: three times the largest recording, as float32, and 400 MB.

    python tests/benchmarks/bench_readers.py --keep FOLDER seed-iv

keeps the simulated trees for another run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import measuring

from omfa.pipeline import DataError, simulate
from omfa.pipeline.readers import get_reader

PACKAGES = ("omfa", "numpy", "scipy", "mne", "isal")


def with_loadmat(paths: Sequence[Path]) -> None:
    """Load all variables with SciPy."""
    import scipy.io

    scipy.io.loadmat(paths[0])


def with_mne_cnt(paths: Sequence[Path]) -> None:
    """Load all channels of a Neuroscan recording with MNE."""
    import mne

    # The type is not in the header, and MNE's guess needs its number of samples.
    mne.io.read_raw_cnt(paths[0], data_format="int32", preload=True, verbose="error")


@dataclass(frozen=True)
class Case:
    """A form of a corpus.

    Attributes
    ----------
    source : str
    extent : mapping
        The arguments of ``simulate`` that give one file of full size.
    floor : callable
        Reads a recording's files, its paths given, with the library that is compared with.
    at_most : float
        Our CPU time over the floor's.
    options : mapping
        The reader's.
    """

    source: str
    extent: Mapping[str, Any]
    floor: Callable[[Sequence[Path]], None]
    at_most: float
    options: Mapping[str, Any] = field(default_factory=dict)


CASES = {
    "seed-iv": Case("seed-iv", {"subjects": 1, "sessions": 1}, with_loadmat, 1.8),
    "seed-v": Case("seed-v", {"subjects": 1, "sessions": 1}, with_mne_cnt, 1.5),
    "seed-vii": Case("seed-vii", {"subjects": 1}, with_loadmat, 1.8),
    "seed-vii-compressed": Case(
        "seed-vii", {"subjects": 1, "quirks": ("compressed",)}, with_loadmat, 1.8
    ),
}
"""By the name that is given on the command line."""


def with_reader(case: Case, root: Path) -> float:
    """Read every recording of the first file; return the bytes of the largest."""
    reader = get_reader(case.source, **case.options)
    keys = list(reader.discover(root))
    keys = [key for key in keys if key.files[0] == keys[0].files[0]]
    read_each = getattr(reader, "read_each", None)
    found = read_each(keys) if read_each else ((key, reader.read(key)) for key in keys)
    largest = 0.0
    for _, recording in found:
        if isinstance(recording, DataError):
            raise recording
        largest = max(largest, sum(4.0 * segment.size for segment in recording.segments))
    return largest


def paths_of(case: Case, root: Path) -> Sequence[Path]:
    """Return the files of the first recording."""
    return get_reader(case.source, **case.options).discover(root)[0].paths


def imports(case: Case) -> None:
    """Import what reading needs, so that no figure has it."""
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
                    *(name, f"{paths[0].stat().st_size / 1e6:,.0f}", ours.cpu, floor.cpu),
                    *(ours.cpu / floor.cpu, case.at_most, ours.peak, allowed, floor.peak),
                ]
            )
    header = [
        *("corpus", "file, MB", "ours, CPU s", "floor, CPU s", "ratio", "at most"),
        *("ours, peak MB", "allowed MB", "floor, peak MB"),
    ]
    measuring.show("Reading the recordings of one file", header, rows)


if __name__ == "__main__":
    main()
