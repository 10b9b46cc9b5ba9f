"""Evaluate a model under a protocol, so that the result can be checked and run again.

``evaluate`` splits, proves the split, runs the folds (in parallel, and from where it stopped if it
is run again), and gives a ``Result``: one file with the configuration, the fold table, every
prediction and the versions, from which ``rerun`` repeats the run. Beside each model stands the
majority class of the same folds.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib
import inspect
import io
import json
import os
import platform
import shutil
import tempfile
import time
import weakref
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline.recording import DataError
from omfa.zoo.labels import Labels, Target, make_labels, target_from_json, target_to_json
from omfa.zoo.metrics import (
    METRICS,
    Comparison,
    bootstrap_interval,
    confusion_matrix,
    paired_test,
    scores,
)
from omfa.zoo.protocols import (
    CENTRED_BY,
    LEAKY_LABEL,
    SIDES,
    SUBJECT,
    TRIAL,
    Fold,
    Pretraining,
    Protocol,
    as_protocol,
    check_fold,
    codes,
    describe_folds,
    split,
)
from omfa.zoo.windows import (
    BATCH,
    COLUMNS,
    Dataset,
    Estimator,
    Extractor,
    Windows,
    check_dataset,
    feature_name,
)

Factory = Callable[..., Estimator]

FORMAT = 1
"""Of the result's file."""

WINDOW = (*TRIAL, "i_window_in_trial")

_PACKAGES = ("omfa", "numpy", "scipy", "pandas", "scikit-learn", "pyriemann", "joblib", "torch")


# ---- the result -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Result:
    """A model under a protocol: how it was run, and what it predicted for every test window.

    Attributes
    ----------
    config : dict
        Estimator, parameters, seed, protocol, target and its rule, classes, dataset, what
        pre-training saw, versions. JSON.
    folds : pandas.DataFrame
        A row per fold and trial (``leaky-window``: per fold and window) with its ``side``.
    predictions : pandas.DataFrame
        A row per fold and test window: its names, ``y_true``, ``y_pred`` and ``y_majority``,
        which are positions in ``classes``.
    path : Path or None
        Where it is stored.
    """

    config: dict[str, Any]
    folds: pd.DataFrame
    predictions: pd.DataFrame
    path: Path | None = None

    @property
    def estimator(self) -> str:
        """The model's name."""
        return str(self.config["estimator"])

    @property
    def protocol(self) -> Protocol:
        """The protocol with its settings."""
        return Protocol(**self.config["protocol"])

    @property
    def leaky(self) -> bool:
        """Whether windows of one trial were on both sides."""
        return self.protocol.leaky

    @property
    def label(self) -> str:
        """The protocol as tables and figures must call it."""
        return self.protocol.label

    @property
    def data(self) -> str:
        """The datasets as tables and figures must call them: simulated ones say so."""
        told = self.config["dataset"]
        return "simulated " * told.get("simulated", False) + "+".join(told["datasets"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(self.config["classes"])

    @property
    def confusion(self) -> npt.NDArray[np.int64]:
        """Test windows by true (row) and predicted class."""
        return self._confusion(self.predictions, "y_pred")

    @cached_property
    def subjects(self) -> pd.DataFrame:
        """The scores of each subject over all its test windows.

        Indexed by dataset and subject; a column per metric, the same of the majority class under
        ``majority_...``, the number of test windows, and the protocol's label.
        """
        rows = {}
        for name, own in self.predictions.groupby(list(SUBJECT), sort=True):
            rows[name] = {
                "protocol": self.label,
                "n_windows": len(own),
                **scores(self._confusion(own, "y_pred")),
                **{
                    f"majority_{metric}": value
                    for metric, value in scores(self._confusion(own, "y_majority")).items()
                },
            }
        index = pd.MultiIndex.from_tuples(rows, names=SUBJECT)
        return pd.DataFrame(list(rows.values()), index=index)

    def summary(self) -> pd.DataFrame:
        """Mean over subjects, its 95 % bootstrap interval, and the majority class, by metric."""
        rows = []
        for metric in METRICS:
            values = self.subjects[metric]
            low, high = bootstrap_interval(values)
            majority = self.subjects[f"majority_{metric}"].mean()
            rows.append((self.label, values.mean(), low, high, majority))
        columns = ["protocol", "mean", "low", "high", "majority"]
        return pd.DataFrame(rows, columns=columns, index=pd.Index(METRICS, name="metric"))

    def _confusion(self, predictions: pd.DataFrame, column: str) -> npt.NDArray[np.int64]:
        y_true = predictions["y_true"].to_numpy()
        return confusion_matrix(y_true, predictions[column].to_numpy(), len(self.classes))

    def __repr__(self) -> str:
        row = self.summary().loc["balanced_accuracy"]
        return (
            f"<Result of {self.estimator} on {self.data} under {self.label}: "
            f"balanced accuracy {row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}], "
            f"majority {row['majority']:.3f}, "
            f"{len(self.subjects)} subjects, {self.config['rule']}, "
            f"pre-training: {self.config['pretraining']['kind']}>"
        )

    def save(self, path: str | Path) -> Path:
        """Write the result to one file, a zip of ``config.json`` and two tables.

        Parameters
        ----------
        path : str or Path
            Must hold the word "leaky" if the protocol is ``leaky-window``.

        Returns
        -------
        Path

        Raises
        ------
        DataError
            If a leaky result would be written under a name that does not say so.
        """
        path = Path(path)
        if self.leaky and "leaky" not in path.name.lower():
            raise DataError(
                f"Saving a result to {path.name}",
                f"its protocol is {LEAKY_LABEL}",
                f"Say so in the name: {path.stem}-leaky{path.suffix}",
            )
        content = {
            "config.json": json.dumps(self.config, indent=1),
            "folds.csv": self.folds.assign(protocol=self.label).to_csv(index=False),
            "predictions.csv": self.predictions.assign(protocol=self.label).to_csv(index=False),
        }
        memory = io.BytesIO()
        with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in content.items():
                archive.writestr(name, text)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, memory.getvalue())
        return path

    @classmethod
    def load(cls, path: str | Path) -> Result:
        """Read a result that ``save`` or ``evaluate`` wrote.

        Raises
        ------
        DataError
            If the file is not one, is damaged, or is of a newer format.
        """
        path = Path(path)
        doing = f"Reading the result {path.name}"
        try:
            with zipfile.ZipFile(path) as archive:
                config = json.loads(archive.read("config.json"))
                folds = _read_table(archive.read("folds.csv"))
                predictions = _read_table(archive.read("predictions.csv"))
        except FileNotFoundError:
            raise
        except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
            raise DataError(
                doing, f"it is damaged or no result ({error})", "Run the evaluation again"
            ) from error
        if config.get("format") != FORMAT:
            raise DataError(
                doing, f"it is of format {config.get('format')}, not {FORMAT}", "Update omfa"
            )
        return cls(config, folds, predictions, path)


def _read_table(content: bytes) -> pd.DataFrame:
    # Subjects may be called "01" or "NA".
    table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    numbers = [name for name in table.columns if name.startswith(("y_", "i_"))]
    return table.drop(columns="protocol").astype(dict.fromkeys(numbers, np.int64))


def _write(path: Path, content: bytes) -> None:
    """Write under a name of its own, then rename: nobody sees half a file."""
    staged = path.with_name(f".{path.name}.{os.getpid()}.part")
    staged.write_bytes(content)
    staged.replace(path)


# ---- running --------------------------------------------------------------------------------


def evaluate(
    estimator: str | Factory,
    dataset: Dataset,
    protocol: str | Protocol = "within-subject",
    *,
    target: Target = None,
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
    pretraining: Pretraining | None = None,
    transductive: bool = False,
    out: str | Path | None = None,
    n_jobs: int = 1,
    scheduler: Any = None,
    progress: bool = False,
) -> Result:
    """Train and test a model on every fold of a protocol.

    Parameters
    ----------
    estimator : str or callable
        A name in ``BASELINES``, ``"omfa"``, ``"braindecode:EEGNet"`` (any of braindecode's
        classification models), ``"module:function"``, or the function itself; called as
        ``function(seed=..., **parameters)`` for each fold, it returns an ``Estimator``.
    dataset : Dataset
    protocol : str or Protocol, default="within-subject"
        A name in ``PROTOCOLS`` or ``PRESETS``, or a protocol with settings.
    target : str, Rating or None
        A label's column, a rating and the rule that makes classes of it, or None for the
        dataset's ``target``.
    seed : int
        Of the models; each fold's is derived from it. The split has its own.
    parameters : mapping, optional
        Further arguments of ``estimator``; JSON. ``checkpoint`` among them is the name or folder
        of a checkpoint, whose card then says what pre-training saw.
    pretraining : Pretraining, optional
        What pre-training saw; nothing, if not given. Not for checkpoints.
    transductive : bool
        Allow a checkpoint whose pre-training saw signals of tested subjects; the result says so.
    out : str or Path, optional
        Folder for the result's file, whose name starts with the protocol's and ends with a digest
        of all that decides the result. Folds are kept there as they finish: the same call goes on
        after an interruption, and reads a finished result.
    n_jobs : int
        Processes; joblib's meaning.
    scheduler : str or distributed.Client, optional
        A Dask cluster to run on instead, as an address or as its client. Results are the same.
    progress : bool
        Show a bar.

    Returns
    -------
    Result

    Raises
    ------
    DataError
        Before anything is trained: if the labels or the split are impossible, the checkpoint saw
        tested subjects, the model does not take the parameters or the windows, or has no name to
        be run again by although ``out`` is given. At the end: if folds failed (the others are
        kept).
    """
    run = _prepare(
        estimator,
        dataset,
        protocol,
        target=target,
        seed=seed,
        parameters=parameters,
        pretraining=pretraining,
        transductive=transductive,
        needs_name=out is not None,
    )
    return _run(run, out=out, n_jobs=n_jobs, scheduler=scheduler, progress=progress)


def rerun(
    path: str | Path,
    dataset: Dataset | None = None,
    *,
    out: str | Path | None = None,
    n_jobs: int = 1,
    scheduler: Any = None,
    progress: bool = False,
) -> Result:
    """Repeat a run from its file: the same folds, as they were written down.

    Parameters
    ----------
    path : str or Path
        A result's file.
    dataset : Dataset, optional
        The data; opened as the file says if not given.
    out, n_jobs, scheduler, progress
        As for ``evaluate``.

    Returns
    -------
    Result
        Under today's versions, which its config names.

    Raises
    ------
    DataError
        If the data or the checkpoint are not those of the file.
    """
    old = Result.load(path)
    doing = f"Running {Path(path).name} again"
    if dataset is None:
        recipe = old.config["dataset"].get("recipe")
        if recipe is None:
            raise DataError(
                doing,
                "it does not say how its dataset is opened",
                "Pass the dataset: rerun(path, dataset)",
            )
        # Not at the top: a dataset of one's own needs no store, and no Zarr.
        dataset = importlib.import_module("omfa.zoo.datasets").open_dataset(**recipe)
    assert dataset is not None
    check_dataset(dataset)
    described = _describe(dataset)
    if described["fingerprint"] != old.config["dataset"]["fingerprint"]:
        differ = [
            key for key, value in described.items() if old.config["dataset"].get(key) != value
        ]
        raise DataError(
            doing,
            f"the data differ from those it was made with (in {', '.join(differ)})",
            "Ingest and open the stores with the settings of the file's config.json",
        )
    labels = _labels(dataset, target_from_json(old.config["target"]))
    folds = _folds_from_table(old.folds, dataset.metadata, labels)
    for fold in folds:
        check_fold(dataset.metadata, fold, old.protocol)
    _, factory = _resolve(old.estimator, needs_name=True)
    config = {**old.config, "dataset": described, "versions": _versions(factory)}
    for key in ("created", "seconds"):
        config.pop(key, None)
    if (name := config["parameters"].get("checkpoint")) is not None:
        checkpoint = _describe_checkpoint(name)
        if checkpoint["weights"] != config["checkpoint"]["weights"]:
            raise DataError(
                doing,
                f"the weights of the checkpoint {name} are not those it was made with",
                "Put the checkpoint of then in its place, or evaluate the new one",
            )
    run = _Run(config, factory, dataset, labels, folds)
    run.check()
    return _run(run, out=out, n_jobs=n_jobs, scheduler=scheduler, progress=progress, anew=True)


@dataclass(frozen=True, eq=False)
class Plan:
    """What ``evaluate`` would do.

    Attributes
    ----------
    config : dict
        Of the result.
    folds : pandas.DataFrame
        A row per fold and side: subjects, trials, windows, windows of each class.
    n_fits : int
        Folds that are left to run.
    seconds : float
        Expected, from work done on real windows on this machine; networks may stop earlier.
    """

    config: dict[str, Any]
    folds: pd.DataFrame
    n_fits: int
    seconds: float

    def __str__(self) -> str:
        """Tell it in a line."""
        protocol = Protocol(**self.config["protocol"])
        windows = self.folds.groupby("side")["windows"].mean().round().astype(int)
        sides = ", ".join(f"{windows[side]} {side}" for side in SIDES)
        return (
            f"{self.config['estimator']} under {protocol.label}, seed {self.config['seed']}: "
            f"{self.n_fits} fits ({sides} windows on average), about {duration(self.seconds)}"
        )


def duration(seconds: float) -> str:
    """Write a time for people."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(1, round(seconds))} s"


def plan(
    estimator: str | Factory,
    dataset: Dataset,
    protocol: str | Protocol = "within-subject",
    *,
    target: Target = None,
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
    pretraining: Pretraining | None = None,
    transductive: bool = False,
    out: str | Path | None = None,
    n_jobs: int = 1,
    timed: bool = True,
) -> Plan:
    """Tell what ``evaluate`` would do with these arguments and how long it would take.

    The time is measured: a few steps, or a small fit, on windows of the first fold. With
    ``timed=False`` it is not, and stays unknown.

    Raises
    ------
    DataError
        All that ``evaluate`` raises before it trains anything.
    """
    run = _prepare(
        estimator,
        dataset,
        protocol,
        target=target,
        seed=seed,
        parameters=parameters,
        pretraining=pretraining,
        transductive=transductive,
        needs_name=out is not None,
    )
    folds, todo = run.folds, list(run.folds)
    if out is not None:
        path = Path(out) / _file_name(run.config)
        kept = path.with_suffix(".folds")
        todo = [fold for k, fold in enumerate(folds) if _read_fold(kept, k, fold) is None]
        todo = [] if path.exists() else todo
    described = describe_folds(dataset.metadata, folds, run.labels.codes)
    seconds = 0.0
    if todo:
        seconds = _expected_seconds(run.job, folds, todo) if timed else float("nan")
    at_once = max(1, min(joblib.effective_n_jobs(n_jobs), len(todo), joblib.cpu_count()))
    return Plan(run.config, described, len(todo), seconds / at_once)


TIMED_OF_AT_MOST = 256
"""Windows that a plan takes its time from."""


def _expected_seconds(job: _Job, folds: Sequence[Fold], todo: Sequence[Fold]) -> float:
    y, train = job.labels.codes, folds[0].train
    some = []
    for value in np.unique(y[train]):
        among = train[y[train] == value]
        share = max(1, TIMED_OF_AT_MOST * len(among) // len(train))
        some.append(among[np.linspace(0, len(among) - 1, min(share, len(among))).astype(int)])
    rows = np.unique(np.concatenate(some))
    job, model = copy.copy(job), job.make(0)
    total = 0.0
    if (extract := getattr(model, "features", None)) is not None:
        job.windows(rows[:1]).features(extract)  # what the first call alone takes
        started = time.perf_counter()
        known = job.windows(rows).features(extract)
        used = _used(folds)
        total += (time.perf_counter() - started) * len(used) / len(rows)
        stored = np.zeros((int(rows.max()) + 1, *known.shape[1:]), known.dtype)
        stored[rows] = known
        job.features = {feature_name(extract): stored}
    sample = job.windows(rows)
    sizes = [tuple(len(fold.side(side)) for side in SIDES) for fold in todo]
    if (told := getattr(model, "expected_seconds", None)) is not None:
        return total + told(sample, sizes)
    model.fit(sample, sample)  # what the first call alone takes
    started = time.perf_counter()
    model.fit(sample, sample)
    model.predict(job.windows(rows, labelled=False))
    return total + (time.perf_counter() - started) * np.sum(sizes) / (3 * len(rows))


def _prepare(
    estimator: str | Factory,
    dataset: Dataset,
    protocol: str | Protocol,
    *,
    target: Target,
    seed: int,
    parameters: Mapping[str, Any] | None,
    pretraining: Pretraining | None,
    transductive: bool,
    needs_name: bool,
) -> _Run:
    """Do all of a run that takes no time, and refuse what cannot be done."""
    check_dataset(dataset)
    protocol, parameters = as_protocol(protocol), dict(parameters or {})
    labels = _labels(dataset, target)
    folds = split(dataset.metadata, labels.codes, protocol, classes=labels.classes)
    name, factory = _resolve(estimator, needs_name=needs_name)
    checkpoint = None
    if parameters.get("checkpoint") is not None:
        from omfa.zoo.checkpoints import load_card
        from omfa.zoo.contract import check_input

        if pretraining is not None:
            raise DataError(
                f"Evaluating {name} from the checkpoint {parameters['checkpoint']}",
                "pretraining=... was given as well",
                "Leave it out: the checkpoint's card says what pre-training saw",
            )
        checkpoint = _describe_checkpoint(parameters["checkpoint"])
        check_input(load_card(parameters["checkpoint"]), dataset)
        pretraining = _pretraining(
            parameters["checkpoint"], dataset.metadata, folds, transductive=transductive
        )
    pretraining = pretraining or Pretraining()
    pretraining.check(dataset.metadata, folds, protocol)
    config = {
        "format": FORMAT,
        "leaky": protocol.leaky,
        "protocol": asdict(protocol),
        "protocol_label": protocol.label,
        "estimator": name,
        "parameters": parameters,
        "checkpoint": checkpoint,
        "seed": seed,
        "target": target_to_json(target),
        "rule": labels.rule,
        "classes": list(labels.classes),
        "pretraining": asdict(pretraining),
        "dataset": _describe(dataset),
        "versions": _versions(factory),
    }
    run = _Run(config, factory, dataset, labels, folds)
    run.check()
    return run


def _describe_checkpoint(name: str) -> dict[str, Any]:
    """Name a checkpoint by its weights: one that was changed is another one."""
    from omfa.zoo.checkpoints import load, load_card
    from omfa.zoo.finetune import digest

    card = load_card(name)
    return {"name": card.name, "simulated": card.simulated, "weights": digest(load(name))}


def _pretraining(
    checkpoint: str, metadata: pd.DataFrame, folds: Sequence[Fold], *, transductive: bool
) -> Pretraining:
    """Derive what pre-training saw of the test sides from the checkpoint's card."""
    from omfa.zoo.checkpoints import load_card

    card = load_card(checkpoint)
    saw = {
        (str(part["dataset"]), _bare(subject)) for part in card.saw for subject in part["subjects"]
    }
    subjects = metadata[list(SUBJECT)].astype(str).drop_duplicates().to_numpy().tolist()
    # As this dataset spells them, for the check against its test sides.
    spelt = {(dataset, _bare(subject)): subject for dataset, subject in subjects}
    seen = tuple(sorted(f"{d}/{spelt.get((d, s), s)}" for d, s in saw))
    tested = metadata.iloc[np.unique(np.concatenate([fold.test for fold in folds]))]
    pairs = tested[list(SUBJECT)].astype(str).drop_duplicates().to_numpy().tolist()
    caught = [f"{d}/{s}" for d, s in pairs if (d, _bare(s)) in saw]
    if not caught:
        apart = {d for d, _ in pairs}.isdisjoint(d for d, _ in saw)
        return Pretraining("dataset held out" if apart else "inductive", seen)
    doing = f"Evaluating the checkpoint {checkpoint}"
    found = f"it saw {len(caught)} of the tested subjects ({', '.join(caught[:3])}"
    found += ", ...)" if len(caught) > 3 else ")"
    if card.stage != "pretrained":
        raise DataError(
            doing,
            f"{found}, and it is {card.stage}, so it may have seen their labels",
            "Start from a pre-trained checkpoint, or test on others: Protocol(..., skip=(...))",
        )
    if not transductive:
        raise DataError(
            doing,
            f"{found}, without their labels",
            "Pre-train without them, or pass transductive=True (--transductive), and the result "
            "will say so",
        )
    return Pretraining("transductive", seen)


def _bare(subject: object) -> str:
    """Name a subject with or without the prefix that BIDS and datasets give."""
    return str(subject).removeprefix("sub-")


def _labels(dataset: Dataset, target: Target) -> Labels:
    """Take the dataset's own classes where it has some, else make them of the metadata."""
    own = getattr(dataset, "classes", None)
    if target is not None or own is None:
        return make_labels(dataset.metadata, target)
    if not own:
        raise DataError(
            "Reading the classes of the dataset",
            "it was opened without a target, or with numbers for one",
            "Pass target='COLUMN' or target=Rating(...) here or to open_dataset",
        )
    rule = getattr(getattr(dataset, "target", None), "rule", "the dataset's target")
    codes = dataset.metadata["target"].to_numpy(dtype=np.int64)
    return Labels(codes, tuple(own), rule)


@dataclass(frozen=True, eq=False)
class _Run:
    """A run that may start: what ``evaluate`` was asked for, checked."""

    config: dict[str, Any]
    factory: Factory
    dataset: Dataset
    labels: Labels
    folds: Sequence[Fold]

    @cached_property
    def job(self) -> _Job:
        """What its folds share."""
        return _Job(self.factory, self.config, self.dataset, self.labels)

    def check(self) -> None:
        """Refuse parameters that the model does not take, and windows that it cannot read."""
        parameters = self.config["parameters"]
        try:
            inspect.signature(self.factory).bind(seed=0, **parameters)
        except TypeError as error:
            known = [name for name in inspect.signature(self.factory).parameters if name != "seed"]
            raise DataError(
                f"Setting up {self.config['estimator']}",
                str(error),
                f"It takes {', '.join(known)}" if known else "It takes no parameters",
            ) from error
        model = self.job.make(0)
        if self.job.centred is not None:
            self._check_centring(model, self.job.centred)
        check = getattr(model, "check", None)
        if check is not None:
            check(self.job.windows(self.folds[0].train))

    def _check_centring(self, model: Estimator, by: str) -> None:
        """Refuse a model of signals, and a test side from which centring would take the class."""
        doing = f"Evaluating {self.config['estimator']} with features centred by {by}"
        if getattr(model, "features", ...) is None:
            raise DataError(
                doing,
                "it reads signals, not features",
                "Use a baseline, or omfa with freeze=encoder; or leave the centring out",
            )
        names = self.dataset.metadata[list(CENTRED_BY[by])].astype(str).agg("/".join, axis=1)
        for fold in self.folds:
            y = pd.Series(self.labels.codes[fold.test])
            n_classes = y.groupby(names.to_numpy()[fold.test]).nunique()
            for name in n_classes.index[n_classes < 2][:1]:
                raise DataError(
                    doing,
                    f"the windows of {name} that {fold.name} tests are all of one class, which "
                    "centring takes away",
                    "Leave the centring out, or use fewer folds",
                )


def _run(
    run: _Run,
    *,
    out: str | Path | None,
    n_jobs: int,
    scheduler: Any,
    progress: bool,
    anew: bool = False,
) -> Result:
    config, folds, job = run.config, run.folds, run.job
    with tempfile.TemporaryDirectory() as temporary:
        path, kept = None, Path(temporary) / "folds"
        if out is not None:
            path = Path(out) / _file_name(config)
            if path.exists() and not anew:
                return Result.load(path)
            kept = path.with_suffix(".folds")
        kept.mkdir(parents=True, exist_ok=True)
        started = datetime.now(UTC)
        todo = [k for k in range(len(folds)) if _read_fold(kept, k, folds[k]) is None]
        spread = partial(_spread, n_jobs=n_jobs, scheduler=scheduler, folder=Path(temporary))
        # Features are on disk for as long as something holds them.
        features = _compute_features(job, folds, spread, progress=progress) if todo else None
        failed = _run_folds(job, folds, todo, kept, spread, progress=progress)
        del features
        if failed:
            k, error = failed[0]
            raise DataError(
                f"Evaluating {config['estimator']} under {config['protocol_label']}",
                f"{len(failed)} of {len(folds)} folds failed, first {folds[k].name}: {error}",
                "Mend it and run the same again; finished folds are kept"
                if out
                else "Mend it and run again; with out=FOLDER finished folds are kept",
            )
        predicted = [_read_fold(kept, k, fold) for k, fold in enumerate(folds)]
        config = {
            **config,
            "created": started.isoformat(timespec="seconds"),
            "seconds": round((datetime.now(UTC) - started).total_seconds(), 1),
        }
        result = Result(
            config,
            _fold_table(folds, run.dataset.metadata, leaky=config["leaky"]),
            _prediction_table(folds, predicted, run.dataset.metadata, run.labels),
            path,
        )
        if path is not None:
            result.save(path)
            shutil.rmtree(kept)
        return result


class _Job:
    """What the folds of a run share; sent to the workers, so it pickles."""

    def __init__(
        self, factory: Factory, config: Mapping[str, Any], dataset: Dataset, labels: Labels
    ) -> None:
        self.factory, self.dataset, self.labels = factory, dataset, labels
        self.parameters, self.seed = config["parameters"], config["seed"]
        self.centred = Protocol(**config["protocol"]).centred
        self.features: dict[str, Path | npt.NDArray[Any]] = {}  # a path is of a mapped file

    def make(self, fold: int) -> Estimator:
        """Make a fold's estimator, its seed derived from the run's and the fold's number."""
        seed = int(np.random.SeedSequence([self.seed, fold]).generate_state(1)[0]) % 2**31
        return self.factory(seed=seed, **self.parameters)

    def windows(
        self, rows: npt.NDArray[np.int64], *, labelled: bool = True, whole: bool = True
    ) -> Windows:
        """Make a side, or a part of one, whose features are not yet to be centred."""
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


Spread = Callable[[Callable[["_Job", Any], Any], "_Job", Sequence[Any]], Iterator[Any]]


def _spread(
    function: Callable[[_Job, Any], Any],
    job: _Job,
    items: Sequence[Any],
    *,
    n_jobs: int,
    scheduler: Any,
    folder: Path,
) -> Iterator[Any]:
    """Yield ``function(job, item)`` for each item as it is done: here, in processes, or on Dask."""
    if not items:
        return
    if scheduler is not None:
        yield from _on_dask(function, job, items, scheduler)
    elif n_jobs == 1:
        yield from (function(job, item) for item in items)
    else:
        # Written once: a job may hold all signals, and there may be hundreds of items.
        path = folder / f"job-{len(job.features)}.pickle"
        path.write_bytes(cloudpickle.dumps(job))
        # One BLAS thread a process, or the processes fight for the cores.
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
            parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")
            yield from parallel(joblib.delayed(_call)(function, path, item) for item in items)


def _call(function: Callable[[_Job, Any], Any], path: Path, item: Any) -> Any:
    return function(_read_job(path), item)


@lru_cache(maxsize=1)
def _read_job(path: Path) -> _Job:
    job: _Job = cloudpickle.loads(path.read_bytes())
    return job


def _on_dask(
    function: Callable[[_Job, Any], Any], job: _Job, items: Sequence[Any], scheduler: Any
) -> Iterator[Any]:
    from distributed import Client, as_completed

    with contextlib.ExitStack() as stack:
        client = scheduler
        if isinstance(scheduler, str):
            try:
                client = stack.enter_context(Client(scheduler, timeout=20))
                client.wait_for_workers(1, timeout=60)
            except (OSError, TimeoutError) as error:
                raise DataError(
                    f"Connecting to the Dask scheduler {scheduler}",
                    str(error) or "no worker came within 60 s",
                    "Start it and its workers, or leave the scheduler out",
                ) from error
        # A worker may not see this machine's files.
        sent = copy.copy(job)
        sent.features = {
            name: np.load(value) if isinstance(value, Path) else value
            for name, value in job.features.items()
        }
        shared = client.scatter(sent, broadcast=True, hash=False)
        futures = [client.submit(function, shared, item, pure=False) for item in items]
        for future in as_completed(futures):
            yield future.result()
            future.release()


def _run_folds(
    job: _Job,
    folds: Sequence[Fold],
    todo: Sequence[int],
    kept: Path,
    spread: Spread,
    *,
    progress: bool,
) -> list[tuple[int, str]]:
    """Run the folds in ``todo`` and keep them; return those that failed with their errors."""
    failed = []
    done = spread(_run_fold, job, [(k, folds[k]) for k in todo])
    for k, arrays, error in _bar(done, len(todo), "fold", progress):
        if error:
            failed.append((k, error))
            continue
        memory = io.BytesIO()
        np.savez(memory, **arrays)
        _write(kept / f"{k}.npz", memory.getvalue())
    return sorted(failed)


def _bar(done: Iterator[Any], total: int, unit: str, progress: bool) -> Iterator[Any]:
    if not progress:
        return done
    from tqdm.auto import tqdm

    bar: Iterator[Any] = tqdm(done, total=total, unit=unit, disable=None)
    return bar


def _run_fold(
    job: _Job, numbered: tuple[int, Fold]
) -> tuple[int, dict[str, npt.NDArray[np.int64]], str]:
    """Fit and predict one fold; an error is returned, so that the other folds go on."""
    k, fold = numbered
    try:
        model = job.make(k)
        model.fit(job.windows(fold.train), job.windows(fold.validation))
        y_pred = np.asarray(model.predict(job.windows(fold.test, labelled=False)))
        n_outputs = len(job.labels.classes)
        if y_pred.shape != fold.test.shape or not np.isin(y_pred, np.arange(n_outputs)).all():
            raise ValueError(
                f"predict returned {y_pred.dtype} {y_pred.shape}, expected a class 0 to "
                f"{n_outputs - 1} for each of {len(fold.test)} windows"
            )
        trained = job.labels.codes[np.concatenate([fold.train, fold.validation])]
        y_majority = np.full(len(y_pred), np.bincount(trained).argmax())
        arrays = {"test": fold.test, "y_pred": y_pred.astype(np.int64), "y_majority": y_majority}
    except Exception as error:  # any model may fail in any way; the run reports it at its end
        return k, {}, f"{type(error).__name__}: {error}"
    return k, arrays, ""


def _read_fold(kept: Path, k: int, fold: Fold) -> dict[str, npt.NDArray[np.int64]] | None:
    path = kept / f"{k}.npz"
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in ("test", "y_pred", "y_majority")}
    return arrays if np.array_equal(arrays["test"], fold.test) else None


class _Features:
    """An extractor's features of some windows of a dataset, in a mapped file that goes with it."""

    def __init__(self, extract: Extractor, rows: npt.NDArray[np.int64]) -> None:
        self.extract, self.rows = extract, rows
        folder = tempfile.mkdtemp(prefix="omfa-")
        self.path = Path(folder) / "features.npy"
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)


_LAST: weakref.WeakKeyDictionary[Dataset, _Features] = weakref.WeakKeyDictionary()
"""Of each dataset of stores, whose signals do not change, the features that were last computed:
those of a frozen encoder serve all seeds, and all protocols that use the same windows. Only the
same: sums over a batch of other windows may end in another last bit."""


def _compute_features(
    job: _Job, folds: Sequence[Fold], spread: Spread, *, progress: bool
) -> _Features | None:
    """Compute the estimator's features of every window in use, once.

    No statistic crosses a split by this: an extractor sees a window at a time.
    """
    extract: Extractor | None = getattr(job.make(0), "features", None)
    if extract is None:
        return None
    used, of_stores = _used(folds), getattr(job.dataset, "recipe", None) is not None
    known = _LAST.get(job.dataset) if of_stores else None
    if known is None or known.extract != extract or not np.array_equal(known.rows, used):
        known, stored = _Features(extract, used), None
        chunks = [used[start : start + BATCH] for start in range(0, len(used), BATCH)]
        done = spread(partial(_extract, extract=extract), job, chunks)
        progress = progress and len(chunks) > 1
        for rows, part in _bar(done, len(chunks), f" x {BATCH} windows", progress):
            if stored is None:
                shape = (len(job.dataset.metadata), *part.shape[1:])
                stored = np.lib.format.open_memmap(known.path, "w+", part.dtype, shape)
            stored[rows] = part
        assert stored is not None  # a fold is never empty
        stored.flush()
        if of_stores:
            _LAST[job.dataset] = known
    job.features = {feature_name(extract): known.path}
    return known


def _used(folds: Sequence[Fold]) -> npt.NDArray[np.int64]:
    return np.unique(np.concatenate([fold.side(side) for fold in folds for side in SIDES]))


def _extract(
    job: _Job, rows: npt.NDArray[np.int64], extract: Extractor
) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    return rows, job.windows(rows, whole=False).features(extract)


# ---- tables ---------------------------------------------------------------------------------


def _fold_table(folds: Sequence[Fold], metadata: pd.DataFrame, *, leaky: bool) -> pd.DataFrame:
    columns = list(WINDOW if leaky else TRIAL)
    parts = []
    for fold in folds:
        for side in SIDES:
            names = metadata.iloc[fold.side(side)][columns].drop_duplicates()
            parts.append(names.assign(fold=fold.name, side=side))
    return _named(pd.concat(parts, ignore_index=True)[["fold", "side", *columns]])


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """Make names of what names a trial, as they are when read from a file."""
    return table.astype(dict.fromkeys(TRIAL, str))


def _folds_from_table(table: pd.DataFrame, metadata: pd.DataFrame, labels: Labels) -> list[Fold]:
    columns = [name for name in WINDOW if name in table]
    names = _named(metadata[columns])
    unit = codes(pd.concat([names, table[columns]], ignore_index=True), columns)
    of_row, of_table = unit[: len(metadata)], unit[len(metadata) :]
    folds = []
    for name, rows in table.groupby("fold", sort=False).indices.items():
        side = table["side"].to_numpy()[rows]
        sides = {
            which: np.flatnonzero(
                np.isin(of_row, of_table[rows[side == which]]) & (labels.codes >= 0)
            )
            for which in SIDES
        }
        folds.append(Fold(str(name), **sides))
    return folds


def _prediction_table(
    folds: Sequence[Fold],
    predicted: Sequence[Mapping[str, npt.NDArray[np.int64]] | None],
    metadata: pd.DataFrame,
    labels: Labels,
) -> pd.DataFrame:
    parts = []
    for fold, arrays in zip(folds, predicted, strict=True):
        assert arrays is not None
        part = metadata.iloc[fold.test][list(WINDOW)].assign(
            y_true=labels.codes[fold.test],
            y_pred=arrays["y_pred"],
            y_majority=arrays["y_majority"],
        )
        part.insert(0, "fold", fold.name)
        parts.append(part)
    return _named(pd.concat(parts, ignore_index=True))


# ---- how it was made ------------------------------------------------------------------------


def _resolve(estimator: str | Factory, *, needs_name: bool) -> tuple[str, Factory]:
    """Find the factory and the name by which it is found again."""
    if isinstance(estimator, str):
        return estimator, _factory_named(estimator)
    from omfa.zoo.baselines import BASELINES

    for name, factory in BASELINES.items():
        if factory is estimator:
            return name, factory
    name = f"{getattr(estimator, '__module__', '?')}:{getattr(estimator, '__qualname__', '?')}"
    if needs_name:
        try:
            found = _factory_named(name)
        except DataError:
            found = None
        if found is not estimator:
            raise DataError(
                f"Naming the model {name}",
                "it cannot be imported by that name, so its result could not be run again",
                "Define it in a module as a function, its settings in parameters={...}; or leave "
                "out=... away",
            )
    return name, estimator


def _factory_named(name: str) -> Factory:
    from omfa.zoo.baselines import BASELINES

    if name in BASELINES:
        return BASELINES[name]
    module, _, function = name.partition(":")
    if name in ("omfa", "omfa:scratch") or module == "braindecode":
        from omfa.zoo import finetune  # torch is not for those who run baselines

        if module == "braindecode":
            return partial(finetune.braindecode, model=function)
        return finetune.omfa if name == "omfa" else finetune.omfa_from_scratch
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise DataError(
            f"Looking for the model {name!r}",
            f"there is none of that name ({error})",
            "Use 'omfa', 'omfa:scratch', 'braindecode:EEGNet' or another of braindecode's, "
            f"'module:function', or one of {', '.join(BASELINES)}",
        ) from error
    factory: Factory = found
    return factory


def _file_name(config: Mapping[str, Any]) -> str:
    # How the data are cached does not decide the result; their fingerprint is in the digest.
    # Neither does where a checkpoint lies; its weights are.
    deciding = {**config, "dataset": {**config["dataset"], "recipe": None}}
    if config.get("checkpoint") is not None:
        deciding["parameters"] = {**config["parameters"], "checkpoint": None}
    digest = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:10]
    model = "".join(c if c.isalnum() or c in "+-" else "-" for c in config["estimator"])
    return f"{config['protocol']['name']}_{model}_{digest}.zip"


def _describe(dataset: Dataset) -> dict[str, Any]:
    metadata = dataset.metadata
    recipe = getattr(dataset, "recipe", None)
    return {
        "datasets": sorted(metadata["dataset"].astype(str).unique()),
        "simulated": bool(getattr(dataset, "simulated", False)),
        "subjects": len(metadata[list(SUBJECT)].drop_duplicates()),
        "windows": len(metadata),
        "channels": list(dataset.channels),
        "sfreq": float(dataset.sfreq),
        "recipe": None if recipe is None else dict(recipe),
        "fingerprint": fingerprint(dataset),
    }


def fingerprint(dataset: Dataset) -> str:
    """Tell datasets apart: a digest of all metadata and of 64 windows spread over the dataset.

    Parameters
    ----------
    dataset : Dataset

    Returns
    -------
    str
        SHA-256, hexadecimal.
    """
    metadata = dataset.metadata
    digest = hashlib.sha256(json.dumps([list(dataset.channels), float(dataset.sfreq)]).encode())
    for column in sorted(map(str, metadata.columns)):
        digest.update(column.encode())
        digest.update(pd.util.hash_array(metadata[column].astype(str).to_numpy(object)).tobytes())
    rows = np.unique(np.linspace(0, len(metadata) - 1, 64).astype(np.int64))
    X, present, _ = dataset.take(rows)
    digest.update(np.ascontiguousarray(X).tobytes() + np.ascontiguousarray(present).tobytes())
    return digest.hexdigest()


def _versions(factory: Factory) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    found["code"] = _code_digest(factory)
    return found


def _code_digest(factory: Factory) -> str:
    """Digest the sources that decide a result, so that an edit never passes for the old code."""
    here = Path(__file__).parent
    names = ["evaluation", "labels", "protocols", "windows"]
    function = factory.func if isinstance(factory, partial) else inspect.unwrap(factory)
    try:
        own = inspect.getsourcefile(function)
    except TypeError:  # a callable object
        own = inspect.getsourcefile(type(function))
    files = [Path(own)] if own and Path(own).exists() else []
    if not own or Path(own).resolve() != (here / "baselines.py").resolve():
        # Anything but a baseline may be built of the models and of how they are trained.
        names += ["baselines", "finetune"]
        files += sorted(here.parent.glob("models/*.py"))
    files += [here / f"{name}.py" for name in names]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


# ---- several results ------------------------------------------------------------------------


Seeds = Result | Sequence[Result]
"""A result, or those of one model with several seeds on the same folds, averaged by subject."""


def compare(first: Seeds, second: Seeds, metric: str = "balanced_accuracy") -> Comparison:
    """Test two results, paired over subjects, with Wilcoxon's signed-rank test.

    Parameters
    ----------
    first, second : Result or sequence of Result
        Of two models on the same folds; of each one result, or one for each seed.
    metric : str
        One of ``METRICS``.

    Returns
    -------
    Comparison

    Raises
    ------
    DataError
        If the folds or the true classes differ: then a difference is not the models' alone.
    """
    one, other = _as_seeds(first), _as_seeds(second)
    _check_same_folds([*one, *other])
    return paired_test(by_subject(one)[metric], by_subject(other)[metric], metric)


def _as_seeds(results: Seeds) -> tuple[Result, ...]:
    return (results,) if isinstance(results, Result) else tuple(results)


def _check_same_folds(results: Sequence[Result]) -> None:
    first, test = results[0], [*WINDOW, "fold", "y_true"]
    for result in results[1:]:
        same = (
            first.classes == result.classes
            and _same(first.predictions[test], result.predictions[test])
            and _same(first.folds, result.folds)
        )
        if not same:
            raise DataError(
                f"Comparing {first.estimator} with {result.estimator}",
                f"they were not run on the same folds ({first.label}, {first.config['rule']}; "
                f"{result.label}, {result.config['rule']})",
                "Evaluate both with the same dataset, protocol, target and split seed",
            )


def by_subject(results: Sequence[Result]) -> pd.DataFrame:
    """Return the scores of each subject, averaged over the seeds of a model."""
    columns = [*METRICS, *(f"majority_{metric}" for metric in METRICS)]
    parts = [result.subjects[columns] for result in results]
    return pd.concat(parts).groupby(level=list(SUBJECT), sort=True).mean()


def _same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    return one.astype(str).equals(other.astype(str))


def compare_table(
    results: Sequence[Seeds],
    reference: Seeds | None = None,
    *,
    metric: str = "balanced_accuracy",
) -> pd.DataFrame:
    """Put results side by side.

    Parameters
    ----------
    results : sequence of Result or of sequences of Result
        A row each; of a sequence, which holds one model's seeds, the average.
    reference : Result or sequence of Result, optional
        Those on its folds are tested against it.
    metric : str
        What interval and test are of.

    Returns
    -------
    pandas.DataFrame
        A row per result: protocol (a leaky one says so), data (simulated ones say so), model, rule,
        pre-training, subjects, seeds, all metrics averaged over subjects, the 95 % interval, the
        majority class, and with a reference the mean difference from it and the p of the paired
        test.
    """
    rows = []
    for one in results:
        seeds = _as_seeds(one)
        _check_same_folds(seeds)
        first, subjects = seeds[0], by_subject(seeds)
        low, high = bootstrap_interval(subjects[metric])
        row = {
            "protocol": first.label,  # first: pandas leaves out middle columns when it prints
            "data": first.data,
            "model": first.estimator,
            "rule": first.config["rule"],
            "pretraining": first.config["pretraining"]["kind"],
            "n_subjects": len(subjects),
            "n_seeds": len(seeds),
            **subjects[list(METRICS)].mean(),
            "low": low,
            "high": high,
            "majority": subjects[f"majority_{metric}"].mean(),
        }
        if reference is not None:
            row |= {"difference": np.nan, "p": np.nan}
            if one is not reference:
                test = compare(one, reference, metric)
                row |= {"difference": test.difference, "p": test.p}
        rows.append(row)
    return pd.DataFrame(rows)


__all__ = [
    "COLUMNS",
    "Plan",
    "Result",
    "compare",
    "compare_table",
    "evaluate",
    "fingerprint",
    "plan",
    "rerun",
]
