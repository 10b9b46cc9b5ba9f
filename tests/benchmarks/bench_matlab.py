"""How the corpus readers' MATLAB parsing compares with ``scipy.io.loadmat``, in one run.

    python tests/benchmarks/bench_matlab.py [FOLDER] [--subjects N]

FOLDER keeps the simulated files for another run: a SEED session of full size, and a DREAMER.mat of
full length with N of 23 subjects. Printed is the least CPU time of each over a few runs, imports
left out, the ratio to loadmat, and the peak memory of a process that does only that.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import scipy.io

from omfa.pipeline import simulate
from omfa.pipeline.matlab import variables
from omfa.pipeline.readers.corpora.dreamer import DreamerReader
from omfa.pipeline.readers.corpora.seed import SeedReader

RUNS = 3


def with_loadmat(path: Path) -> None:
    """Load all variables, as the corpora's other readers do."""
    scipy.io.loadmat(path)


def inflated_only(path: Path) -> None:
    """Walk the variables without decoding: inflating and the checksum, the floor."""
    for _ in variables(path):
        pass


def with_reader(path: Path) -> None:
    """Read every recording of the file, as float32 microvolts."""
    reader = DreamerReader(auxiliary=False) if path.name == "DREAMER.mat" else SeedReader()
    keys = [key for key in reader.discover(path.parent) if key.paths[0] == path]
    if isinstance(reader, DreamerReader):
        for _ in reader.read_each(keys):
            pass
    else:
        reader.read(keys[0])


def _measure(way, path, answer) -> None:
    started = time.process_time()
    way(path)
    seconds = time.process_time() - started
    answer.put((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def measure(way, path: Path) -> tuple[float, float]:
    """Return CPU seconds and MB at the peak, of a new process."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    worker = context.Process(target=_measure, args=(way, path, answer))
    worker.start()
    found = answer.get()
    worker.join()
    return found


def main() -> None:
    """Simulate what is missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=None)
    parser.add_argument("--subjects", type=int, default=4, help="of DREAMER (the corpus has 23)")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    trees = {
        "SEED session": (folder / "seed", "seed", {"subjects": 1, "sessions": 1}),
        f"DREAMER, {options.subjects} subjects": (
            folder / f"dreamer{options.subjects}",
            "dreamer",
            {"subjects": options.subjects},
        ),
    }
    for what, (root, source, chosen) in trees.items():
        if not root.exists():
            simulate(source, root, **chosen)
        reader = SeedReader() if source == "seed" else DreamerReader()
        path = reader.discover(root)[0].paths[0]
        print(f"{what}: {path.stat().st_size / 1e6:.0f} MB compressed")
        ways = (with_loadmat, inflated_only, with_reader)
        found = {way: [measure(way, path) for _ in range(RUNS)] for way in ways}
        base = min(seconds for seconds, _ in found[with_loadmat])
        for way, figures in found.items():
            seconds, peak = min(figures)
            print(f"  {way.__name__:14} {seconds:6.2f} s  {seconds / base:5.2f} x  {peak:6.0f} MB")


if __name__ == "__main__":
    main()
