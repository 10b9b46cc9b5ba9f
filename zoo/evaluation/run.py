"""Evaluate a model under a protocol, so that the result can be checked and run again.

``evaluate`` splits, proves the split, runs the folds (in parallel, and from where it stopped if it
is run again), and gives a ``Result``: one file with the configuration, the fold table, every
prediction and the versions, from which ``rerun`` repeats the run. Beside each model stands the
majority class of the same folds.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypedDict, Unpack

import joblib
import pandas as pd

from omfa.pipeline.errors import DataError, DataWarning
from omfa.pipeline.signal_path import lacking
from omfa.pipeline.words import duration
from omfa.pipeline.writing import set_aside
from omfa.zoo.data.rules import OneTarget
from omfa.zoo.data.targets import Target, labels_of, target_from_json, target_to_json
from omfa.zoo.estimators.names import (
    Factory,
    factory_named,
    resolve,
    with_smoothing_in_its_name,
)
from omfa.zoo.evaluation.folds import (
    Job,
    compute_features,
    expected_seconds,
    grouped,
    read_fold,
    run_folds,
    spread_over,
)
from omfa.zoo.evaluation.provenance import (
    describe_checkpoint,
    describe_dataset,
    describe_weights,
    found_again,
    pretraining_of,
    versions,
    without_author,
)
from omfa.zoo.evaluation.results import (
    FORMAT,
    DamagedResult,
    Result,
    fold_table,
    folds_from_table,
    prediction_table,
)
from omfa.zoo.protocols.identity import doubles
from omfa.zoo.protocols.protocol import (
    CENTRED_BY,
    RECORDING,
    SIDES,
    Fold,
    Pretraining,
    Protocol,
    as_protocol,
    check_fold,
    describe_folds,
)
from omfa.zoo.protocols.splits import split
from omfa.zoo.protocols.windows import (
    Dataset,
    Estimator,
    as_dataset,
    check_dataset,
    doubtful_unit,
)


class Deciding(TypedDict, total=False):
    """What decides a result beside the model, the data and the protocol.

    Attributes
    ----------
    target : str, Rating, Merged or None
        A label's column, a rule that makes classes of one, or None for the dataset's
        ``target``.
    seed : int
        Of the models; each fold's is derived from it. The split has its own.
    parameters : mapping, optional
        Further arguments of ``estimator``; JSON. ``checkpoint`` among them is the name or folder
        of a checkpoint, whose card then says what pre-training saw.
    pretraining : Pretraining, optional
        What pre-training saw; nothing, if not given. Not for checkpoints.
    transductive : bool
        Allow a checkpoint whose pre-training saw signals of tested subjects; the result says so.
    """

    target: OneTarget | None
    seed: int
    parameters: Mapping[str, Any] | None
    pretraining: Pretraining | None
    transductive: bool


def evaluate(
    estimator: str | Factory,
    dataset: Dataset,
    protocol: str | Protocol = "within-subject",
    *,
    out: str | Path | None = None,
    n_jobs: int = 1,
    scheduler: Any = None,
    progress: bool = False,
    **deciding: Unpack[Deciding],
) -> Result:
    """Train and test a model on every fold of a protocol.

    Parameters
    ----------
    estimator : str or callable
        A name in ``BASELINES``, ``"omfa"``, ``"omfa:random"``, ``"omfa:scratch"``,
        ``"braindecode:EEGNet"`` (any of braindecode's classification models),
        ``"module:function"``, or the function itself; called as ``function(seed=...,
        **parameters)`` for each fold, it returns an ``Estimator``. If it takes a ``run_seed``, it
        also gets ``seed`` as it is given here, for what all folds start from.
    dataset : Dataset
    protocol : str or Protocol, default="within-subject"
        A name in ``PROTOCOLS`` or ``PROTOCOL_PRESETS``, or a protocol with settings.
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
    **deciding
        ``target``, ``seed``, ``parameters``, ``pretraining``, ``transductive``: see ``Deciding``.

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

    Examples
    --------
    >>> from omfa.zoo import Protocol, evaluate, open_dataset
    >>> data = open_dataset("dreamer.zarr", 2.0, target="valence>3")
    >>> result = evaluate("majority", data, Protocol("within-subject", n_folds=3))
    >>> result.subjects["balanced_accuracy"].round(2).tolist()
    [0.42, 0.5]
    """
    run = prepare(estimator, dataset, protocol, needs_name=out is not None, **deciding)
    return run.run(out=out, n_jobs=n_jobs, scheduler=scheduler, progress=progress)


def rerun(
    path: str | Path,
    dataset: Dataset | str | Path | Sequence[str | Path] | None = None,
    *,
    out: str | Path | None = None,
    n_jobs: int = 1,
    scheduler: Any = None,
    progress: bool = False,
    allow_code: bool = False,
) -> Result:
    """Repeat a run from its file: the same folds, as they were written down.

    Parameters
    ----------
    path : str or Path
        A result's file.
    dataset : Dataset, address or sequence of address, optional
        The data, or the stores to open as the file says; by default those that it names, as seen
        from its folder.
    out, n_jobs, scheduler, progress
        As for ``evaluate``.
    allow_code : bool
        Import and call a model that the file names as ``"module:function"``, with the file's
        parameters. Without it a name of omfa's or braindecode's own is needed: a file may come
        from anybody.

    Returns
    -------
    Result
        Under today's versions, which its config names.

    Raises
    ------
    DataError
        If the data or the checkpoint are not those of the file, or it names code.

    Examples
    --------
    >>> from omfa.zoo import Protocol, evaluate, open_dataset, rerun
    >>> data = open_dataset("dreamer.zarr", 2.0, target="valence>3")
    >>> result = evaluate("majority", data, Protocol("within-subject", n_folds=3), out="results")
    >>> rerun(result.path, data).predictions.equals(result.predictions)
    True
    """
    old = Result.load(path)
    doing = f"Running {Path(path).name} again"
    factory = factory_named(old.estimator, allow_code=allow_code)
    if dataset is None or isinstance(dataset, str | Path | list | tuple):
        recipe = old.config["dataset"].get("recipe")
        if recipe is None:
            raise DataError(
                doing,
                "it does not say how its dataset is opened",
                "Pass the dataset: rerun(path, dataset)",
            )
        # Not at the top: a dataset of one's own needs no store, and no Zarr.
        from omfa.zoo.data.opening import checked_recipe, open_dataset

        recipe = checked_recipe(recipe, doing=doing)
        if dataset is None:
            recipe["stores"] = found_again(recipe["stores"], Path(path).parent, doing=doing)
        else:
            recipe["stores"] = [dataset] if isinstance(dataset, str | Path) else list(dataset)
        dataset = open_dataset(**recipe)
    dataset = as_dataset(dataset)
    check_dataset(dataset)
    described = describe_dataset(dataset)
    if described["fingerprint"] != old.config["dataset"]["fingerprint"]:
        differ = [
            key for key, value in described.items() if old.config["dataset"].get(key) != value
        ]
        raise DataError(
            doing,
            f"the data differ from those it was made with (in {', '.join(differ)})",
            "Ingest and open the stores with the settings of the file's config.json",
        )
    labels = labels_of(dataset, target_from_json(old.config["target"]))
    folds = folds_from_table(old.folds, dataset.metadata, labels)
    for fold in folds:
        # A file can be edited: its folds are proved like those of a splitter.
        check_fold(dataset.metadata, fold, old.protocol, dataset.recorded)
    config = {**old.config, "dataset": described, "versions": versions(factory)}
    # Of the run of then; this one gets its own.
    for key in ("created", "seconds"):
        config.pop(key, None)
    if (name := config["parameters"].get("checkpoint")) is not None:
        if (Path(path).parent / name).is_dir():
            name = str(Path(path).parent / name)
            config["parameters"] = {**config["parameters"], "checkpoint": name}
        checkpoint = describe_checkpoint(name)
        if checkpoint["weights"] != config["checkpoint"]["weights"]:
            raise DataError(
                doing,
                f"the weights of the checkpoint {name} are not those it was made with",
                "Put the checkpoint of then in its place, or evaluate the new one",
            )
        # Of today's card and digests: what was not found then may be found now.
        claim = pretraining_of(name, dataset, folds, transductive=True)
        claim.check(dataset.metadata, folds, old.protocol, dataset.recorded)
        if claim.kind != (before := config["pretraining"]["kind"]):
            warnings.warn(
                f"{doing}: its pre-training was called {before!r}, and by the digests of the "
                f"checkpoint's card it is {claim.kind!r}, as the new result says",
                DataWarning,
                stacklevel=2,
            )
        config["pretraining"] = asdict(claim)
    if config.get("weights") is not None:
        name = config["parameters"]["weights"]
        near = str(Path(path).parent / name)  # an absolute one stays as it is
        config["parameters"] = {**config["parameters"], "weights": near}
        if describe_weights(near) != config["weights"]:
            raise DataError(
                doing,
                f"the weights {name} are not those it was made with",
                "Put the file of then in its place",
            )
    run = Run(config, factory, dataset, labels, folds)
    run.check()
    return run.run(out=out, n_jobs=n_jobs, scheduler=scheduler, progress=progress, anew=True)


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

    Examples
    --------
    >>> from omfa.zoo import Protocol, open_dataset, plan
    >>> data = open_dataset("dreamer.zarr", 2.0, target="valence>3")
    >>> found = plan("majority", data, Protocol("within-subject", n_folds=3), timed=False)
    >>> len(found.folds)
    18
    """

    config: dict[str, Any]
    folds: pd.DataFrame
    n_fits: int
    seconds: float

    def __str__(self) -> str:
        """Describe the plan in a line."""
        protocol = Protocol(**self.config["protocol"])
        windows = self.folds.groupby("side")["windows"].mean().round().astype(int)
        sides = ", ".join(f"{windows[side]} {side}" for side in SIDES)
        return (
            f"{self.config['estimator']} under {protocol.label}, seed {self.config['seed']}: "
            f"{self.n_fits} fits ({sides} windows on average), about {duration(self.seconds)}"
        )


def plan(
    estimator: str | Factory,
    dataset: Dataset,
    protocol: str | Protocol = "within-subject",
    *,
    out: str | Path | None = None,
    n_jobs: int = 1,
    timed: bool = True,
    **deciding: Unpack[Deciding],
) -> Plan:
    """Return what ``evaluate`` would do with these arguments, and how long it would take.

    Parameters
    ----------
    estimator, dataset, protocol, out, n_jobs, **deciding
        As for ``evaluate``.
    timed : bool
        Measure the time: a few steps, or a small fit, on windows of the first fold. Otherwise it
        is NaN.

    Returns
    -------
    Plan

    Raises
    ------
    DataError
        All that ``evaluate`` raises before it trains anything.

    Examples
    --------
    >>> from omfa.zoo import Protocol, open_dataset, plan
    >>> data = open_dataset("dreamer.zarr", 2.0, target="valence>3")
    >>> plan("majority", data, Protocol("within-subject", n_folds=3), timed=False).n_fits
    6
    """
    run = prepare(estimator, dataset, protocol, needs_name=out is not None, **deciding)
    return run.plan(out=out, n_jobs=n_jobs, timed=timed)


def prepare(
    estimator: str | Factory,
    dataset: Dataset,
    protocol: str | Protocol,
    *,
    target: OneTarget | None = None,
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
    pretraining: Pretraining | None = None,
    transductive: bool = False,
    needs_name: bool = False,
) -> Run:
    """Prepare a run as far as that takes no time, and refuse one that cannot be done.

    Parameters
    ----------
    estimator, dataset, protocol
        As for ``evaluate``.
    target, seed, parameters, pretraining, transductive
        See ``Deciding``.
    needs_name : bool
        Refuse a model that cannot be found again by its name, since its result is to be kept.

    Returns
    -------
    Run
    """
    dataset = as_dataset(dataset)
    check_dataset(dataset)
    protocol, parameters = as_protocol(protocol), dict(parameters or {})
    labels = labels_of(dataset, target)
    folds = split(dataset.metadata, labels.codes, protocol, classes=labels.classes)
    if doubles(dataset.recorded):  # split has proved the folds by name
        for fold in folds:
            check_fold(dataset.metadata, fold, protocol, dataset.recorded)
    name, factory = resolve(estimator, needs_name=needs_name)
    marked, parameters = with_smoothing_in_its_name(name, parameters)
    if marked != name:
        name, factory = marked, factory_named(marked)
    checkpoint = None
    if parameters.get("checkpoint") is not None:
        from omfa.zoo.checkpoints.folder import load_card
        from omfa.zoo.checkpoints.input import check_input

        if pretraining is not None:
            raise DataError(
                f"Evaluating {name} from the checkpoint {parameters['checkpoint']}",
                "pretraining=... was given as well",
                "Leave it out: the checkpoint's card says what pre-training saw",
            )
        checkpoint = describe_checkpoint(parameters["checkpoint"])
        check_input(load_card(parameters["checkpoint"]), dataset)
        pretraining = pretraining_of(
            parameters["checkpoint"], dataset, folds, transductive=transductive
        )
    weights = None
    if name.startswith("braindecode:") and parameters.get("weights") is not None:
        weights = describe_weights(parameters["weights"])
        # Whose signals a file of weights saw is not in it.
        pretraining = pretraining or Pretraining("unknown")
    pretraining = pretraining or Pretraining()
    pretraining.check(dataset.metadata, folds, protocol, dataset.recorded)
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
        "dataset": describe_dataset(dataset),
        "versions": versions(factory),
    }
    if weights is not None:
        config["weights"] = weights
    run = Run(config, factory, dataset, labels, folds)
    run.check()
    return run


@dataclass(frozen=True, eq=False)
class Run:
    """A run that may start: what ``evaluate`` was asked for, checked."""

    config: dict[str, Any]
    factory: Factory
    dataset: Dataset
    labels: Target
    folds: Sequence[Fold]

    @cached_property
    def job(self) -> Job:
        """What its folds share."""
        return Job(self.factory, self.config, self.dataset, self.labels)

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
        windows = self.job.windows(self.folds[0].train)
        model.check(windows)
        if found := doubtful_unit(windows):
            warnings.warn(found, DataWarning, stacklevel=4)
        self._check_whitening()
        named = model.bands or {}
        for low, high in sorted({path.band for path in self.dataset.paths}):
            # Half of a band is still that band; the fall above 45 Hz takes a quarter of gamma.
            if lacking((low, high), named, least=0.5):
                warnings.warn(
                    f"{self.config['estimator']} measures power by band, and signals of {low:g} to "
                    f"{high:g} Hz hold {', '.join(lacking((low, high), named))}: of the rest it "
                    "measures what the filters left",
                    DataWarning,
                    stacklevel=4,
                )

    def _check_whitening(self) -> None:
        """Warn where each recording holds one class and was brought to the covariance of all."""
        if not any(path.whiten for path in self.dataset.paths):
            return
        names = self.dataset.metadata[list(RECORDING)].astype(str).agg("/".join, axis=1)
        classes = pd.Series(self.labels.codes).groupby(names.to_numpy())
        if len(classes) and (classes.nunique() < 2).all():
            warnings.warn(
                f"Evaluating {self.config['estimator']}: each recording holds one class and was "
                "whitened by its own covariance, which takes away what tells the classes apart in "
                "power and between channels. Ingest without --whiten",
                DataWarning,
                stacklevel=5,
            )

    def _check_centring(self, model: Estimator, by: str) -> None:
        """Refuse a model of signals, and a test side from which centring would take the class."""
        doing = f"Evaluating {self.config['estimator']} with features centred by {by}"
        if model.reads_signals:
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

    def plan(self, *, out: str | Path | None, n_jobs: int, timed: bool) -> Plan:
        """Return what ``run`` would do; see the function ``plan``."""
        folds, numbers = self.folds, list(range(len(self.folds)))
        if out is not None:
            path = Path(out) / _file_name(self.config)
            kept = path.with_suffix(".folds")
            numbers = [k for k in numbers if read_fold(kept, k, folds[k]) is None]
            # Kept folds go when the result is written.
            with suppress(DamagedResult, FileNotFoundError):
                Result.load(path)
                numbers = []
        todo = [folds[k] for k in numbers]
        described = describe_folds(self.dataset.metadata, folds, self.labels.codes)
        seconds = 0.0
        if todo:
            seconds = expected_seconds(self.job, folds, todo) if timed else float("nan")
        # More processes than cores, or than groups of folds, make nothing faster.
        groups = grouped(self.job, folds, numbers)
        at_once = max(1, min(joblib.effective_n_jobs(n_jobs), len(groups), joblib.cpu_count()))
        return Plan(self.config, described, len(todo), seconds / at_once)

    def run(
        self,
        *,
        out: str | Path | None,
        n_jobs: int,
        scheduler: Any,
        progress: bool,
        anew: bool = False,
    ) -> Result:
        """Run the folds that are not kept yet; see ``evaluate``.

        With ``anew`` a finished result is made again.
        """
        config, folds, job = self.config, self.folds, self.job
        with tempfile.TemporaryDirectory() as temporary:
            path, kept = None, Path(temporary) / "folds"
            if out is not None:
                path = Path(out) / _file_name(config)
                if not anew and (finished := _finished(path)) is not None:
                    return finished
                kept = path.with_suffix(".folds")
            kept.mkdir(parents=True, exist_ok=True)
            started = datetime.now(UTC)
            todo = [k for k in range(len(folds)) if read_fold(kept, k, folds[k]) is None]
            spread = partial(
                spread_over, n_jobs=n_jobs, scheduler=scheduler, folder=Path(temporary)
            )
            # Features are on disk for as long as something holds them.
            features = compute_features(job, folds, spread, progress=progress) if todo else None
            failed = run_folds(job, folds, todo, kept, spread, progress=progress)
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
            predicted = [read_fold(kept, k, fold) for k, fold in enumerate(folds)]
            config = {
                **(config if path is None else without_author(config, path.parent)),
                "created": started.isoformat(timespec="seconds"),
                "seconds": round((datetime.now(UTC) - started).total_seconds(), 1),
            }
            result = Result(
                config,
                fold_table(folds, self.dataset.metadata, leaky=config["leaky"]),
                prediction_table(folds, predicted, self.dataset.metadata, self.labels),
                path,
            )
            if path is not None:
                result.save(path)
                # Last: until the result has its name, the folds are all there is of it.
                shutil.rmtree(kept)
            return result


def _finished(path: Path) -> Result | None:
    """Return the result that is there; a damaged one is set aside, so that it is made again."""
    try:
        return Result.load(path)
    except FileNotFoundError:
        return None
    except DamagedResult as error:
        aside = set_aside(path)
        warnings.warn(
            f"{error} It is made again; the old file is {aside}.", DataWarning, stacklevel=2
        )
        return None


def _file_name(config: Mapping[str, Any]) -> str:
    # How the data are cached does not decide the result; their fingerprint is in the digest.
    # Neither does where a checkpoint lies; its weights are.
    deciding = {**config, "dataset": {**config["dataset"], "recipe": None}}
    for name in ("checkpoint", "weights"):
        if config.get(name) is not None:
            deciding["parameters"] = {**deciding["parameters"], name: None}
    digest = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:10]
    model = "".join(c if c.isalnum() or c in "+-" else "-" for c in config["estimator"])
    return f"{config['protocol']['name']}_{model}_{digest}.zip"
