"""Run the benchmark: stores from public files, then every row on every task, resuming.

A cell is a row on a task: calls of ``evaluate``, which keeps what it finishes, as ``ingest`` does.
So the same call goes on after an interruption and reads what is done.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from omfa.pipeline.errors import DataError
from omfa.pipeline.ingestion import ingest
from omfa.pipeline.ingestion import plan as plan_ingest
from omfa.pipeline.progress import bar
from omfa.pipeline.readers.files import FilesReader
from omfa.pipeline.store import open_store
from omfa.pipeline.words import duration, some
from omfa.zoo.benchmark.rows import FEATURES, NETWORKS, OMFA, PAIRS, Row, peer
from omfa.zoo.benchmark.settings import BenchmarkSettings
from omfa.zoo.benchmark.tasks import RECORDINGS, SOURCES, TASKS, Recordings, Task
from omfa.zoo.checkpoints.folder import load
from omfa.zoo.checkpoints.input import InputWarning
from omfa.zoo.data.dataset import StoreDataset
from omfa.zoo.data.opening import open_dataset
from omfa.zoo.data.trials import TrialsLeftOut
from omfa.zoo.estimators.baselines import BASELINES
from omfa.zoo.estimators.omfa_networks import architecture_of
from omfa.zoo.estimators.settings import RANDOM, Training
from omfa.zoo.evaluation.results import Result
from omfa.zoo.evaluation.run import Plan, evaluate, plan
from omfa.zoo.protocols.held_out import held_out_names
from omfa.zoo.protocols.protocol import SUBJECT, Protocol


@dataclass(frozen=True, eq=False)
class Cell:
    """A row on a task: its results, one for each seed and checkpoint, or why there are none."""

    task: Task
    row: Row
    results: tuple[Result, ...] = ()
    error: str = ""


class Benchmark:
    """The tasks whose data are there: what to run, and running it.

    Parameters
    ----------
    out : path
        Folder of the stores that are made, the results and the report.
    folders : mapping of str to path, optional
        Folders of the public files as they are distributed, by dataset (``SOURCES``).
    stores : sequence of address
        Stores that are made already; which recordings a store has is read from it.
    how : BenchmarkSettings, optional
    workers : int
        Processes that cells run in.
    say : callable, optional
        Called with a line of text for each step.

    Attributes
    ----------
    stores : dict of str to str
        Address by recordings (``RECORDINGS``); of those to be made too.
    missing : list of str
        What is left out, and why; a sentence each.

    Raises
    ------
    DataError
        If a folder or store is not what it should be, two stores are of the same recordings, the
        checkpoints differ in architecture, or nothing is left to run.
    """

    def __init__(
        self,
        out: str | Path,
        folders: Mapping[str, str | Path] | None = None,
        stores: Sequence[str | Path] = (),
        how: BenchmarkSettings | None = None,
        *,
        workers: int = 1,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.out, self.how = Path(out), how or BenchmarkSettings()
        self.workers, self.say = workers, say
        self.folders = {name: Path(folder) for name, folder in (folders or {}).items()}
        self.stores: dict[str, str] = {}
        self.missing: list[str] = []
        self._opened: tuple[str, StoreDataset] | None = None
        for store in stores:
            name = _recordings_of(store)
            if name in self.stores:
                raise DataError(
                    f"Adding the store {store} to the benchmark",
                    f"{self.stores[name]} holds the same recordings ({name})",
                    "Give one of them",
                )
            self.stores[name] = str(store)
        self.to_make = [
            recordings
            for name, recordings in RECORDINGS.items()
            if name not in self.stores and recordings.source in self.folders
            if any(task.recordings == name for task in self._asked)
        ]
        for recordings in self.to_make:
            self.stores[recordings.name] = str(self.out / "stores" / f"{recordings.name}.zarr")
        for name in dict.fromkeys(task.recordings for task in self._asked):
            if name not in self.stores:
                self.missing.append(_where_to_get(name))
        self.architecture = _one_architecture(self.how.checkpoints)
        if not self.tasks:
            raise DataError("Running the benchmark", "; ".join(self.missing), "Give a folder")

    def __getstate__(self) -> dict[str, Any]:
        """Leave the opened signals and the printing behind: a process opens its own."""
        return self.__dict__ | {"_opened": None, "say": None}

    @property
    def _asked(self) -> list[Task]:
        return [TASKS[name] for name in self.how.tasks or TASKS]

    @property
    def tasks(self) -> list[Task]:
        """The tasks that can be run; those that turn out to have too few people are left out."""
        return [task for task in self._asked if task.recordings in self.stores]

    @property
    def rows(self) -> list[Row]:
        """The rows of every task."""
        known = [row for row in FEATURES if row.model in BASELINES]
        peers = [peer(model, file) for model, file in self.how.weights.items()]
        return [*OMFA, *known, *(NETWORKS if self.how.networks else ()), *peers]

    # ---- data

    def make_stores(self) -> None:
        """Ingest the folders of public files; what is stored already is kept."""
        for recordings in self.to_make:
            self.say(f"ingesting {recordings.name} of {recordings.source}")
            folder, store = self._ingest_arguments(recordings)
            with _reading(recordings, folder):
                made = ingest(_reader(recordings), folder, store, workers=max(1, self.workers))
            if bad := [
                outcome.recording for outcome in made.outcomes if outcome.status == "failed"
            ]:
                raise DataError(
                    f"Ingesting {recordings.name} from {folder}",
                    f"{len(bad)} recordings failed ({some(bad)})",
                    f"See `omfa-ingest inspect {store}`, mend the files and run the same again",
                )

    def _ingest_arguments(self, recordings: Recordings) -> tuple[Path, str]:
        return self.folders[recordings.source], self.stores[recordings.name]

    def dataset(self, task: Task) -> StoreDataset:
        """Return the windows of a task; the last one that was opened is kept."""
        if self._opened is None or self._opened[0] != task.name:
            self._opened = None  # before the next is read, so that there is one in memory
            with warnings.catch_warnings():
                # A few trials at the end of a recording are shorter; the report counts people.
                warnings.simplefilter("ignore", TrialsLeftOut)
                opened = open_dataset(
                    self.stores[task.recordings],
                    task.window_seconds,
                    target=task.target,
                    channels=self.how.channels,
                )
            self._opened = task.name, opened
        return self._opened[1]

    def protocol(self, task: Task) -> Protocol:
        """Return how a task's people are divided.

        Raises
        ------
        DataError
            If there are too few of them.
        """
        known = sorted(set(self._people(task)))
        held = held_out_names(known)
        others = [name for name in known if name not in held]
        if self.how.split == "held-out":
            if not held or len(others) < 2:
                raise DataError(
                    f"Dividing the people of {task.name}",
                    f"there are {len(held)} held out and {len(others)} others",
                    "Give the recordings of one or more to be tested and of two or more to learn",
                )
            return Protocol("cross-subject", n_folds=1, tested=tuple(held))
        few = others
        if self.how.people is not None and self.how.people < len(others):
            spread = np.linspace(0, len(others) - 1, self.how.people).round().astype(int)
            few = [others[k] for k in spread]
        if len(few) < 3:
            raise DataError(
                f"Dividing the people of {task.name}",
                f"there are {len(few)} who are not held out",
                "Give three or more: one to learn from, one to choose on, one to test",
            )
        skip = tuple(name for name in known if name not in few)
        return Protocol("cross-subject", n_folds=min(self.how.n_folds, len(few)), skip=skip)

    # ---- cells

    def parameters(self, task: Task, row: Row) -> dict[str, Any]:
        """Return the parameters of a row's model on a task, but for the checkpoint."""
        own = dict(row.parameters)
        if row.kind == "omfa" and not row.pretrained:
            own |= self.architecture
        if row.trained:
            # All epochs are run on training and validation together: everybody learns from the
            # same people, as the models on features do.
            epochs = self.how.epochs if row.kind == "omfa" else self.how.network_epochs
            epochs = max(epochs, ceil(self.how.least_steps / self._steps_an_epoch(task)))
            own |= {"epochs": epochs, "patience": None, "refit": True}
        return own

    def _steps_an_epoch(self, task: Task) -> int:
        """Return the steps of an epoch over all windows of those who are not held out."""
        held = set(held_out_names())
        n_windows = sum(person not in held for person in self._people(task))
        return ceil(n_windows / Training.batch_size)

    def _people(self, task: Task) -> list[str]:
        """Return who each window is of, as ``"dataset/subject"``."""
        who = self.dataset(task).metadata[list(SUBJECT)].astype(str)
        return ["/".join(names) for names in who.itertuples(index=False)]

    def runs(self, task: Task, row: Row) -> Iterator[dict[str, Any]]:
        """Yield the seed and the parameters of each run of a row on a task."""
        n_seeds = self.how.n_seeds if row.trained else 1
        if row.model == RANDOM:
            # As many draws of random weights as there are pre-trainings.
            n_seeds = max(n_seeds, len(self.how.checkpoints))
        for checkpoint in self.how.checkpoints if row.pretrained else (None,):
            start = {} if checkpoint is None else {"checkpoint": checkpoint}
            for seed in range(n_seeds):
                yield {"seed": seed, "parameters": self.parameters(task, row) | start}

    def cell(self, task: Task, row: Row) -> Cell:
        """Run a row on a task; a failure leaves the others alone."""
        results = []
        with _without_input_warnings():
            try:
                for run in self.runs(task, row):
                    results.append(
                        evaluate(
                            row.model,
                            self.dataset(task),
                            self.protocol(task),
                            transductive=self._transductive(row),
                            out=self.out / "results",
                            **run,
                        )
                    )
            except DataError as error:
                return Cell(task, row, error=str(error))
        return Cell(task, row, tuple(results))

    def _transductive(self, row: Row) -> bool:
        """Whether a checkpoint that saw tested people is let pass: for choices, and never at last.

        The result says so.
        """
        return row.pretrained and self.how.split == "development"

    def _plan(self, task: Task, row: Row, *, timed: bool) -> Plan:
        with _without_input_warnings():
            return plan(
                row.model,
                self.dataset(task),
                self.protocol(task),
                transductive=self._transductive(row),
                out=self.out / "results",
                timed=timed,
                **next(self.runs(task, row)),
            )

    def ready(self) -> list[Task]:
        """Return the tasks that have enough people; say in ``missing`` which have not."""
        found = []
        for task in self.tasks:
            try:
                self.protocol(task)
            except DataError as error:
                if (text := f"{task.name}: {error}") not in self.missing:
                    self.missing.append(text)
            else:
                found.append(task)
        if not found:
            raise DataError("Running the benchmark", "; ".join(self.missing), "Give more data")
        return found

    def check(self, tasks: Sequence[Task]) -> None:
        """Refuse, before anything is trained, what cannot be run.

        Raises
        ------
        DataError
            All that ``evaluate`` raises before it trains: above all if a checkpoint saw people who
            are held out.
        """
        for task in tasks:
            for row in self.rows:
                self._plan(task, row, timed=False)

    def run(self, *, progress: bool = False) -> list[Cell]:
        """Make the stores, check, then run every row on every task; read what is finished."""
        self.make_stores()
        tasks = self.ready()
        self.check(tasks)
        todo = [(task, row) for task in tasks for row in self.rows]
        # In the order of tasks: each process opens the signals of one after another. One BLAS
        # thread a process, or the processes fight for the cores.
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
            if self.workers == 1:
                done: Iterator[Cell] = (self.cell(task, row) for task, row in todo)
            else:
                packed, self._opened = pickle.dumps(self), None
                parallel = joblib.Parallel(n_jobs=self.workers, return_as="generator")
                done = parallel(joblib.delayed(_cell)(packed, *one) for one in todo)
            shown = None if progress else False
            return list(bar(done, total=len(todo), unit="cell", shown=shown))

    # ---- the plan

    def plan(self, *, timed: bool = True) -> str:
        """Describe what ``run`` would do and how long it takes; train nothing, ingest nothing.

        Parameters
        ----------
        timed : bool
            Take a few steps of each kind of work on this machine.
        """
        lines = [f"split        {self.how.split}"]
        lines += [f"{name:12} {store}" for name, store in self.stores.items()]
        for recordings in self.to_make:
            folder, store = self._ingest_arguments(recordings)
            with _reading(recordings, folder):
                found = plan_ingest(_reader(recordings), folder, store)
            n_left = sum(state != "current" for state in found.states.values())
            took = f", about {duration(found.seconds)}" if n_left else ""
            lines.append(f"to ingest    {recordings.name}: {n_left} recordings{took}")
            if n_left:
                lines.append("Fits can be planned once the stores are made.")
                return "\n".join([*lines, *(f"left out     {reason}" for reason in self.missing)])
        seconds, n_fits = 0.0, 0
        for task in self.ready():
            a_fit: dict[str, float] = {}
            for row in self.rows:
                # A pre-trained row takes what its control takes.
                like = next((one for one, other in PAIRS if other == row.name), row.name)
                new = timed and like not in a_fit
                if new:
                    self.say(f"timing {row.name} on {task.name}")
                one = self._plan(task, row, timed=new)
                fits = one.n_fits * len(list(self.runs(task, row)))
                if new and one.n_fits:
                    a_fit[like] = one.seconds / one.n_fits
                spent = fits * a_fit.get(like, 0.0)
                n_fits, seconds = n_fits + fits, seconds + spent
                took = f", about {duration(spent)}" if timed and fits else ""
                lines.append(f"{task.name:12} {row.name:36} {fits:3} fits{took}")
        lines += [f"left out     {reason}" for reason in self.missing]
        after = f", about {duration(seconds / max(1, self.workers))}" if timed else ""
        at_once = f" in {self.workers} processes" if self.workers > 1 else ""
        lines.append(f"{n_fits} fits{after}{at_once}; what is finished is read")
        return "\n".join(lines)


def _cell(benchmark: bytes, task: Task, row: Row) -> Cell:
    """Run a cell in a process of its own."""
    return _unpacked(benchmark).cell(task, row)


# A process keeps the benchmark of its first cell, and so the signals of the task that it had last.
@lru_cache(maxsize=1)
def _unpacked(benchmark: bytes) -> Benchmark:
    found: Benchmark = pickle.loads(benchmark)
    return found


@contextmanager
def _without_input_warnings() -> Iterator[None]:
    """Let it pass that a checkpoint is given channels that it never saw: every model meets them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        yield


def _reader(recordings: Recordings) -> FilesReader:
    return FilesReader(name=recordings.source, **recordings.reader)  # type: ignore[arg-type]


def _recordings_of(address: str | Path) -> str:
    """Return which of ``RECORDINGS`` a store holds."""
    store = open_store(address)
    labels = {label for each in store.recordings["labels"] for label in each}
    for name, recordings in RECORDINGS.items():
        if store.name == recordings.source and recordings.label in labels:
            return name
    raise DataError(
        f"Adding the store {address} to the benchmark",
        f"it is of {store.name!r} with the labels {', '.join(sorted(labels)) or 'none'}",
        "Give one of "
        + "; ".join(f"{one.source} with {one.label}" for one in RECORDINGS.values())
        + ". Or give the folder of the public files, and the store is made",
    )


@contextmanager
def _reading(recordings: Recordings, folder: Path) -> Iterator[None]:
    """Where the folder is at fault, say what it should be: the reader's own flags are not here."""
    try:
        yield
    except DataError:
        source = SOURCES[recordings.source]
        try:
            _reader(recordings).discover(folder)
        except DataError as error:
            raise DataError(
                f"Reading {source.title} from {folder}",
                str(error.args[1]),
                f"Give the folder as it comes from {source.url} ({source.files})",
            ) from error
        raise


def _where_to_get(name: str) -> str:
    source = SOURCES[RECORDINGS[name].source]
    tasks = ", ".join(task.name for task in TASKS.values() if task.recordings == name)
    return (
        f"{tasks}: no data. Get {source.title} ({source.licence}) from {source.url} and give "
        f"--{source.name} FOLDER ({source.files})"
    )


def _one_architecture(checkpoints: Sequence[str]) -> dict[str, Any]:
    """Return the architecture that the controls share with the checkpoints."""
    found = {name: architecture_of(load(name)) for name in checkpoints}
    first = found[checkpoints[0]]
    for name, own in found.items():
        if own != first:
            differ = [key for key, value in own.items() if value != first[key]]
            raise DataError(
                f"Comparing the checkpoints {checkpoints[0]} and {name}",
                f"they differ in {', '.join(differ)}",
                "Give seeds of one pre-training",
            )
    return first
