"""Run the folds of an evaluation: here, in processes, or on Dask; and their features, once."""

from __future__ import annotations

import copy
import inspect
import io
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import numpy.typing as npt

from omfa.pipeline import cluster
from omfa.pipeline.errors import DataError, DataWarning
from omfa.pipeline.progress import LOG, bar
from omfa.pipeline.writing import write_whole
from omfa.zoo.data.targets import Target
from omfa.zoo.estimators.names import Factory
from omfa.zoo.protocols.protocol import SIDES, Fold, Protocol
from omfa.zoo.protocols.windows import (
    BATCH,
    Dataset,
    Estimator,
    Extract,
    KnownFeatures,
    Windows,
    as_estimator,
    feature_name,
)


class Job:
    """What the folds of a run share: model, data, labels, features. Workers get it, so it pickles.

    Parameters
    ----------
    factory : callable
        ``factory(seed=..., **parameters)`` makes an estimator.
    config : mapping
        A result's configuration.
    dataset : Dataset
    labels : Target
        A class for each window.
    """

    def __init__(
        self, factory: Factory, config: Mapping[str, Any], dataset: Dataset, labels: Target
    ) -> None:
        self.factory, self.dataset, self.labels = factory, dataset, labels
        self.parameters, self.seed = config["parameters"], config["seed"]
        self.centred = Protocol(**config["protocol"]).centred
        # For a model that draws something which all folds start from.
        takes = "run_seed" in inspect.signature(factory).parameters
        self.shared = {"run_seed": self.seed} if takes else {}
        # By feature_name: an array with a row per window of the dataset, or a .npy file to map.
        self.features: dict[str, Path | npt.NDArray[Any]] = {}

    def make(self, fold: int) -> Estimator:
        """Make a fold's estimator.

        Its seed follows from the run's seed and the fold's number, so folds differ from one
        another, and each is the same in whatever order or process it is run.
        """
        # SeedSequence mixes both numbers: a sum would give seed 0's fold 1 the seed of seed 1's
        # fold 0.
        seed = int(np.random.SeedSequence([self.seed, fold]).generate_state(1)[0]) % 2**31
        return as_estimator(self.factory(seed=seed, **{**self.shared, **self.parameters}))

    def windows(
        self, rows: npt.NDArray[np.int64], *, labelled: bool = True, whole: bool = True
    ) -> Windows:
        """Make a side of a fold, or with ``whole=False`` a part, whose features are not centred.

        A part must not be centred: its mean is not the side's.
        """
        # Mapped: processes share the pages, and a side reads its own rows alone.
        features = {
            name: np.load(value, mmap_mode="r") if isinstance(value, Path) else value
            for name, value in self.features.items()
        }
        return Windows(
            self.dataset,
            rows,
            classes=self.labels.classes,
            y=self.labels.codes[rows] if labelled else None,
            features=features,
            centred=self.centred if whole else None,
        )


Spread = Callable[[Callable[["Job", Any], Any], "Job", Sequence[Any]], Iterator[Any]]


def spread_over(
    function: Callable[[Job, Any], Any],
    job: Job,
    items: Sequence[Any],
    *,
    n_jobs: int,
    scheduler: Any,
    folder: Path,
) -> Iterator[Any]:
    """Yield ``function(job, item)`` for each item, in the order in which they finish.

    Parameters
    ----------
    function : callable
    job : Job
    items : sequence
    n_jobs : int
        Processes, as joblib counts them; 1 runs here.
    scheduler : str, distributed.Client or None
        A Dask cluster to run on instead.
    folder : Path
        Where the job is put for the processes to read.
    """
    if not items:
        return
    if scheduler is not None:
        yield from _on_dask(function, job, items, scheduler)
    elif n_jobs == 1:
        yield from (function(job, item) for item in items)
    else:
        # The job is written once, not sent with each of hundreds of items: it may hold all signals.
        path = folder / f"job-{len(job.features)}.pickle"
        path.write_bytes(cloudpickle.dumps(job))
        # One BLAS thread a process, or the processes fight for the cores.
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
            # Unordered: a fold is kept as soon as it is done, whatever the folds before it do.
            parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")
            yield from parallel(joblib.delayed(_call)(function, path, item) for item in items)


def _call(function: Callable[[Job, Any], Any], path: Path, item: Any) -> Any:
    return function(_read_job(path), item)


# A process reads the job for its first item and keeps it; one, because it may hold all signals.
@lru_cache(maxsize=1)
def _read_job(path: Path) -> Job:
    job: Job = cloudpickle.loads(path.read_bytes())
    return job


def _on_dask(
    function: Callable[[Job, Any], Any], job: Job, items: Sequence[Any], scheduler: Any
) -> Iterator[Any]:
    sent = copy.copy(job)
    # A worker may not see this machine's files.
    sent.features = {
        name: np.load(value) if isinstance(value, Path) else value
        for name, value in job.features.items()
    }
    doing = "Evaluating on the Dask cluster"
    with cluster.connected(scheduler) as client:
        for _, result in cluster.spread(client, function, items, shared=sent, doing=doing):
            if isinstance(result, cluster.WorkerLost):
                raise DataError(
                    doing,
                    "the workers that had a task died, most often for want of memory",
                    "Give them more memory and run the same again; finished folds are kept",
                )
            if isinstance(result, Exception):
                raise result
            yield result


def run_folds(
    job: Job,
    folds: Sequence[Fold],
    todo: Sequence[int],
    kept: Path,
    spread: Spread,
    *,
    progress: bool,
) -> list[tuple[int, str]]:
    """Run the folds in ``todo`` and keep them; return those that failed with their errors."""
    failed = []
    groups = [[(k, folds[k]) for k in group] for group in grouped(job, folds, todo)]
    ran = spread(_run_group, job, groups)
    wanted = set(todo)
    done = (fold for group in ran for fold in group if fold[0] in wanted)
    for k, arrays, error in _bar(done, len(todo), "fold", progress):
        if progress:
            LOG.debug("fold %s: %s", folds[k].name, error or "done")
        if error:
            failed.append((k, error))
            continue
        # Made in memory and put in place whole: a kept fold is never half a file.
        memory = io.BytesIO()
        np.savez(memory, **arrays)
        write_whole(kept / f"{k}.npz", memory.getvalue())
    # By number: which fails first differs from run to run.
    return sorted(failed)


CENTRED_AT_ONCE = 10_000
"""Windows of all folds that are fitted in one go where features are centred: they are then each
fold's own, and 10,000 of 62 channels take 2 GB.
"""


def grouped(job: Job, folds: Sequence[Fold], todo: Sequence[int]) -> list[list[int]]:
    """Return the numbers of folds that are fitted in one go, of the groups with any in ``todo``.

    Those beside which a fold is fitted decide what it draws at random. So the groups are those of
    all folds, and one is run whole even if some of it is kept.
    """
    if not todo or (at_once := job.make(0).at_once) == 1:
        return [[k] for k in todo]
    alike: dict[int, list[int]] = {}
    for k, fold in enumerate(folds):
        alike.setdefault(len(fold.train) + len(fold.validation), []).append(k)
    groups = []
    for n_windows, ks in alike.items():
        most = at_once
        if job.centred is not None:
            most = min(most, max(1, CENTRED_AT_ONCE // n_windows))
        groups += [ks[i : i + most] for i in range(0, len(ks), most)]
    return [group for group in groups if not set(group).isdisjoint(todo)]


def _bar(done: Iterator[Any], total: int, unit: str, progress: bool) -> Iterator[Any]:
    if not progress:
        return done
    shown: Iterator[Any] = bar(done, total=total, unit=unit)
    return shown


Ran = tuple[int, dict[str, npt.NDArray[Any]], str]
"""A fold's number, what it predicted, and why it failed."""


def _run_group(job: Job, group: Sequence[tuple[int, Fold]]) -> list[Ran]:
    """Fit folds in one go and predict; an error is returned, so that the others go on."""
    try:
        models = [job.make(k) for k, _ in group]
        sides = [(job.windows(fold.train), job.windows(fold.validation)) for _, fold in group]
        if len(group) == 1:
            models[0].fit(*sides[0])
            failed: list[Exception | None] = [None]
        else:
            failed = models[0].fit_at_once(models, sides)
    except Exception as error:  # any model may fail in any way; the run reports it at its end
        return [(k, {}, _told(error)) for k, _ in group]
    return [
        _predicted(job, k, fold, model) if error is None else (k, {}, _told(error))
        for (k, fold), model, error in zip(group, models, failed, strict=True)
    ]


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _predicted(job: Job, k: int, fold: Fold, model: Estimator) -> Ran:
    """Predict a fold's test side."""
    try:
        test = job.windows(fold.test, labelled=False)
        y_pred = np.asarray(model.predict(test))
        n_outputs = len(job.labels.classes)
        if y_pred.shape != fold.test.shape or not np.isin(y_pred, np.arange(n_outputs)).all():
            raise ValueError(
                f"predict returned {y_pred.dtype} {y_pred.shape}, expected a class 0 to "
                f"{n_outputs - 1} for each of {len(fold.test)} windows"
            )
        trained = job.labels.codes[np.concatenate([fold.train, fold.validation])]
        # The baselines are fitted on training and validation together, and so is this one.
        y_majority = np.full(len(y_pred), np.bincount(trained).argmax())
        arrays: dict[str, npt.NDArray[Any]] = {
            "test": fold.test,
            "y_pred": y_pred.astype(np.int64),
            "y_majority": y_majority,
        }
        if (p := model.predict_proba(test)) is not None:
            arrays["p"] = _checked(np.asarray(p, np.float64), (len(y_pred), n_outputs))
    except Exception as error:
        return k, {}, _told(error)
    return k, arrays, ""


def _checked(p: npt.NDArray[np.float64], shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    if p.shape != shape or not np.allclose(p.sum(axis=1), 1, atol=1e-3) or (p < 0).any():
        raise ValueError(
            f"predict_proba returned {p.shape}, expected {shape} with rows of probabilities that "
            "sum to 1"
        )
    return p


def read_fold(kept: Path, k: int, fold: Fold) -> dict[str, npt.NDArray[Any]] | None:
    """Read what a finished fold predicted; None if it is not kept, damaged, or of other windows.

    Parameters
    ----------
    kept : Path
        The folder of kept folds.
    k : int
        The fold's number.
    fold : Fold

    Returns
    -------
    dict or None
        ``test``, ``y_pred`` and ``y_majority``, each of shape (n_test,), and where the model gives
        probabilities ``p``, shape (n_test, n_classes).
    """
    path, n = kept / f"{k}.npz", len(fold.test)
    try:
        # Opened here, since numpy leaves a file that is no zip open. Data, and never code.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ("test", "y_pred", "y_majority")}
            p = stored.get("p")
    except FileNotFoundError:
        return None
    except Exception as error:  # a changed byte may break the zip, its streams or an array's header
        found = f"The kept fold {path} is damaged and is run again ({error})."
        warnings.warn(found, DataWarning, stacklevel=2)
        return None
    fits = all(a.shape == (n,) and a.dtype == np.int64 for a in arrays.values())
    # A rerun's folds come from its file; folds kept by an earlier run may be of other windows.
    if not fits or not np.array_equal(arrays["test"], fold.test):
        return None
    if p is None:
        return arrays
    return {**arrays, "p": p} if p.dtype == np.float64 and p.shape[:1] == (n,) else None


def compute_features(
    job: Job, folds: Sequence[Fold], spread: Spread, *, progress: bool
) -> KnownFeatures | None:
    """Compute the estimator's features of every window in use, once.

    No statistic crosses a split by this: an extractor gets each window alone.

    Returns
    -------
    KnownFeatures or None
        The caller holds it while folds run: its file goes with it. None for a model of signals.
    """
    extract = job.make(0).features
    if extract is None:
        return None
    used, known = _used(folds), job.dataset.known_features
    # Of the same windows only: else a result would depend on what was run before it.
    if known is None or known.extract != extract or not np.array_equal(known.rows, used):
        known, stored = KnownFeatures(extract, used), None
        chunks = [used[start : start + BATCH] for start in range(0, len(used), BATCH)]
        done = spread(partial(_extract, extract=extract), job, chunks)
        progress = progress and len(chunks) > 1
        for rows, part in _bar(done, len(chunks), f" x {BATCH} windows", progress):
            if stored is None:
                shape = (len(job.dataset.metadata), *part.shape[1:])
                # A row for every window, used or not, so that a window's number is its row; the
                # rows that are never written take no room on most disks.
                stored = np.lib.format.open_memmap(known.path, "w+", part.dtype, shape)
            stored[rows] = part
        assert stored is not None  # a fold is never empty
        stored.flush()
        # Kept for the next seed or protocol, by datasets of stores alone: other arrays may change.
        if job.dataset.recipe is not None:
            job.dataset.known_features = known
    job.features = {feature_name(extract): known.path}
    return known


def _used(folds: Sequence[Fold]) -> npt.NDArray[np.int64]:
    return np.unique(np.concatenate([fold.side(side) for fold in folds for side in SIDES]))


def _extract(
    job: Job, rows: npt.NDArray[np.int64], extract: Extract
) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    return rows, job.windows(rows, whole=False).features(extract)


# ---- how long it takes ---------------------------------------------------------------------

TIMED_OF_AT_MOST = 256
"""Windows that a plan is timed on: enough for a stable time, few enough for seconds."""


def expected_seconds(job: Job, folds: Sequence[Fold], todo: Sequence[Fold]) -> float:
    """Return how long the folds in ``todo`` would take one process, from work done on real windows.

    Parameters
    ----------
    job : Job
    folds, todo : sequence of Fold
        All folds, whose windows need features, and those that are left to run.
    """
    y, train = job.labels.codes, folds[0].train
    some = []
    for value in np.unique(y[train]):
        among = train[y[train] == value]
        share = max(1, TIMED_OF_AT_MOST * len(among) // len(train))
        # Every class is among them, or a classifier could not be fitted.
        some.append(among[np.linspace(0, len(among) - 1, min(share, len(among))).astype(int)])
    rows = np.unique(np.concatenate(some))
    job, model = copy.copy(job), job.make(0)
    total = 0.0
    if (extract := model.features) is not None:
        job.windows(rows[:1]).features(extract)  # what the first call alone takes
        started = time.perf_counter()
        known = job.windows(rows).features(extract)
        used = _used(folds)
        total += (time.perf_counter() - started) * len(used) / len(rows)
        stored = np.zeros((int(rows.max()) + 1, *known.shape[1:]), known.dtype)
        stored[rows] = known
        job.features = {feature_name(extract): stored}
    sample = job.windows(rows)
    sizes = [(len(fold.train), len(fold.validation), len(fold.test)) for fold in todo]
    if (expected := model.expected_seconds(sample, sizes)) is not None:
        return total + expected
    model.fit(sample, sample)  # what the first call alone takes
    started = time.perf_counter()
    model.fit(sample, sample)
    model.predict(job.windows(rows, labelled=False))
    # 3: the sample was trained on, chosen on and predicted.
    return total + (time.perf_counter() - started) * np.sum(sizes) / (3 * len(rows))
