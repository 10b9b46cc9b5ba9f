"""Small stores of open EEG for a pre-training elsewhere: a few channels of each recording.

``python tests/benchmarks/gpu_stores.py OUT --eegmmidb DIR --ssvep DIR --eegmat DIR``

Stage 1 learns from single channels, so a few of each recording teach much of what all do, in a
store that is small enough to travel. The people whom the benchmark holds out are not ingested at
all, so they cannot be learned from where the stores go.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import mne

from omfa.models.graph import bare_name
from omfa.pipeline import ingest
from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.files import FilesReader
from omfa.zoo.benchmark.tasks import RECORDINGS
from omfa.zoo.protocols.held_out import HELD_OUT

FOLDERS = {"eegmmidb": "fists", "ssvep": "ssvep", "eegmat": "eegmat"}
"""The datasets, and which recordings of each (``omfa.zoo.benchmark.tasks.RECORDINGS``)."""

CHANNELS = {
    # Both halves of the head from front to back, among them the motor areas.
    "eegmmidb": ("F4", "C3", "C4", "P3", "O2"),
    "ssvep": ("Oz", "O1", "O2"),
    "eegmat": ("F4", "C3", "O2"),
}
"""What travels of each dataset; our choice, as many as make 30 MB together."""


def left_out(files: Iterable[Path], kept: Sequence[str]) -> list[str]:
    """Return the channels of EDF files, as spelled there, that are not kept."""
    wanted = {bare_name(name) for name in kept}
    found: set[str] = set()
    for file in files:
        found.update(mne.io.read_raw_edf(file, preload=False, verbose="error").ch_names)
    return sorted(name for name in found if bare_name(name) not in wanted)


def make_small(dataset: str, folder: Path, store: Path, *, people: int | None = None) -> int:
    """Ingest a few channels of the people of a dataset who are not held out.

    Parameters
    ----------
    dataset : str
        One of ``FOLDERS``.
    folder : Path
        Of its EDF files.
    store : Path
    people : int, optional
        Only the first so many.

    Returns
    -------
    int
        Bytes of the store.

    Raises
    ------
    DataError
        If the folder has nobody who is not held out, or a recording cannot be ingested.
    """
    recordings = RECORDINGS[FOLDERS[dataset]]
    reader = FilesReader(name=recordings.source, **recordings.reader)
    keys = list(reader.discover(folder))
    subjects = sorted({key.subject for key in keys})
    free = [who for who in subjects if f"sub-{who}" not in HELD_OUT[dataset]][:people]
    if not free:
        raise DataError(
            f"Making a small store of {dataset} from {folder}",
            f"it has {len(subjects)} people, and none who is not held out",
            "Give the folder of the files that the benchmark reads",
        )
    made = ingest(
        reader,
        folder,
        store,
        subjects=free,
        exclude=left_out(
            (folder / file for key in keys if key.subject in free for file in key.files),
            CHANNELS[dataset],
        ),
        serial=True,
        progress=False,
    )
    if failed := [one.recording for one in made.outcomes if one.status == "failed"]:
        raise DataError(
            f"Making a small store of {dataset} from {folder}",
            f"{len(failed)} recordings failed, {failed[0]} the first",
            f"See `omfa-ingest inspect {store}`, mend the files and run the same again",
        )
    size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    print(
        f"{store.name}: {len(free)} people, {len(made.outcomes)} recordings, "
        f"{len(CHANNELS[dataset])} channels, {size / 1e6:.1f} MB"
    )
    return size


def add_folders(parser: argparse.ArgumentParser) -> None:
    """Add a flag for the folder of each dataset."""
    for dataset in FOLDERS:
        parser.add_argument(f"--{dataset}", type=Path, metavar="DIR", help="its EDF files")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of the stores")
    parser.add_argument("--people", type=int, help="only the first so many of each dataset")
    add_folders(parser)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sizes = [
        make_small(name, folder, args.out / f"{name}.zarr", people=args.people)
        for name in FOLDERS
        if (folder := getattr(args, name)) is not None
    ]
    print(f"together: {sum(sizes) / 1e6:.1f} MB")


if __name__ == "__main__":
    try:
        main()
    except DataError as error:
        sys.exit(str(error))
