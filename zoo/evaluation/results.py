"""A result: its file, its scores, and how results compare."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline import views
from omfa.pipeline.errors import DataError
from omfa.pipeline.writing import write_whole
from omfa.zoo.data.targets import Target
from omfa.zoo.estimators.settings import COHERENCY, LOGISTIC, OMFA_MODELS
from omfa.zoo.protocols.comparisons import Comparison, holm, mean_interval, paired_test
from omfa.zoo.protocols.metrics import (
    BOUNDS,
    METRICS,
    PROBABILITY_BOUNDS,
    PROBABILITY_METRICS,
    TRIAL_METRICS,
    confusion_matrix,
    probability_scores,
    scores,
    vote,
)
from omfa.zoo.protocols.protocol import LEAKY_LABEL, SIDES, SUBJECT, TRIAL, Fold, Protocol, codes

FORMAT = 4
"""The version of the result file's layout."""

DEFAULTS_OF_1 = {"patience": 10, "refit": False}
"""What format 1 left unsaid of a network's training: the defaults of its time."""

DEFAULTS_OF_2 = {"spectral": False}
"""What formats 1 and 2 left unsaid of an OMFA without a checkpoint."""

DEFAULTS_OF_3 = {"bursts": False}
"""What formats 1 to 3 left unsaid of it."""

WINDOW = (*TRIAL, "i_window_in_trial")

P, DECIMALS = "p_", 6
"""What the column of a class's probability is called after, and the decimals that it has."""

LARGEST = 256_000_000
"""Bytes that a result may unpack to, unless its reader says otherwise: some two million windows."""

MOST_PACKED = 300
"""How many times its packed size a table of a result may have; our own have 10 to 60 times."""


PARTS = ("config.json", "folds.csv", "predictions.csv")


class DamagedResult(DataError):
    """A file that is no result, or no longer."""


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
        which are positions in ``classes``; where the model gives probabilities, that of every class
        as ``p_<class>``.
    path : Path or None
        Where it is stored.

    Examples
    --------
    >>> from omfa.zoo import Protocol, Result, evaluate, open_dataset
    >>> data = open_dataset("dreamer.zarr", 2.0, target="valence>3")
    >>> result = evaluate("majority", data, Protocol("within-subject", n_folds=3), out="results")
    >>> Result.load(result.path).label, result.classes, result.leaky
    ('within-subject', ('low', 'high'), False)
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
        dataset = self.config["dataset"]
        return "simulated " * dataset.get("simulated", False) + "+".join(dataset["datasets"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(self.config["classes"])

    @property
    def confusion(self) -> npt.NDArray[np.int64]:
        """Test windows by true (row) and predicted class."""
        return self._confusion(self.predictions, "y_pred")

    @property
    def windows(self) -> str:
        """The length of windows in words: ``"windows of 4 s"``; empty if the data do not say it."""
        seconds = (self.config["dataset"].get("recipe") or {}).get("window_seconds")
        return f"windows of {seconds:g} s" if seconds else ""

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One decision per trial: the class that most of its test windows were given.

        A row per trial with its names, ``n_windows``, ``y_true``, ``y_pred`` and ``y_majority``.
        Of classes with as many windows it is the one of the earliest window. It is so where there
        are probabilities too, of which the means are beside it: else models that have none could
        not be compared. Where windows of a trial have several true classes, it has a row for each.
        """
        unit = [*TRIAL, "y_true"]
        ordered = self.predictions.sort_values("i_window_in_trial", kind="stable")
        groups = ordered.groupby(unit, sort=True)
        trial, n = groups.ngroup().to_numpy(), len(self.classes)
        table = groups.size().rename("n_windows").reset_index()
        for column in ("y_pred", "y_majority"):
            table[column] = vote(trial, ordered[column].to_numpy(), n)
        if self.probabilities is not None:
            columns = probability_columns(self.classes)
            table[columns] = groups[columns].mean().to_numpy()
        return table

    @property
    def probabilities(self) -> npt.NDArray[np.float64] | None:
        """The probability of every class for every test window, shape (n, n_classes), if stored."""
        columns = probability_columns(self.classes)
        if not set(columns) <= set(self.predictions.columns):
            return None
        return self.predictions[columns].to_numpy(np.float64)

    @cached_property
    def subjects(self) -> pd.DataFrame:
        """The scores of each subject over all its test windows, and over its trials.

        Indexed by dataset and subject; a column per metric, of windows (``accuracy``) and of one
        decision per trial (``trial_accuracy``), the same of the majority class under
        ``majority_...``, the numbers of test windows and trials, and the protocol's label. Where
        the model gives probabilities, ``PROBABILITY_METRICS`` of windows, and of trials by the
        means of theirs.
        """
        trials = dict(list(self.trials.groupby(list(SUBJECT))))
        rows = {}
        for name, own in self.predictions.groupby(list(SUBJECT), sort=True):
            row = {"protocol": self.label, "n_windows": len(own), "n_trials": len(trials[name])}
            for who, column in (("", "y_pred"), ("majority_", "y_majority")):
                for unit, decided in (("", own), ("trial_", trials[name])):
                    values = scores(self._confusion(decided, column))
                    row |= {f"{who}{unit}{metric}": value for metric, value in values.items()}
            if self.probabilities is not None:
                for unit, decided in (("", own), ("trial_", trials[name])):
                    values = self._of_probabilities(decided)
                    row |= {f"{unit}{metric}": value for metric, value in values.items()}
            rows[name] = row
        index = pd.MultiIndex.from_tuples(rows, names=SUBJECT)
        return pd.DataFrame(list(rows.values()), index=index)

    @cached_property
    def subject_scores(self) -> pd.DataFrame:
        """The columns of ``subjects`` that are averaged over seeds, subjects in order."""
        return self.subjects[_SCORES].sort_index()

    @cached_property
    def folds_digest(self) -> str:
        """A digest of classes, folds and true classes, equal where two results may be compared.

        Kept, because a report compares each result with others once for every metric.
        """
        found = hashlib.sha256(json.dumps(self.classes).encode())
        for table in (self.folds, self.predictions[[*WINDOW, "fold", "y_true"]]):
            found.update(json.dumps(list(table)).encode())
            # As text: a fresh table and one read from a file differ in types alone.
            rows = pd.util.hash_pandas_object(table.astype(str), index=False)
            found.update(rows.to_numpy().tobytes())
        return found.hexdigest()

    def summary(self) -> pd.DataFrame:
        """Return mean over subjects, 95 % interval, per-trial score and majority of each metric."""
        rows = []
        for metric in METRICS:
            low, high = mean_interval(self.subjects[metric], bounds=BOUNDS[metric])
            means = self.subjects[[metric, f"trial_{metric}", f"majority_{metric}"]].mean()
            mean, per_trial, majority = means
            rows.append((self.label, mean, low, high, per_trial, majority))
        columns = ["protocol", "mean", "low", "high", "per_trial", "majority"]
        return pd.DataFrame(rows, columns=columns, index=pd.Index(METRICS, name="metric"))

    def calibration(self) -> pd.DataFrame:
        """Return what the probabilities are worth; no row if the model gives none.

        A row per metric of ``PROBABILITY_METRICS``: ``mean`` over subjects with its 95 % interval
        (``low``, ``high``), ``per_trial`` by the mean probabilities of a trial, and ``pooled`` over
        all windows: the calibration error to read, for a subject has few windows for its bins.
        """
        rows = {}
        if self.probabilities is not None:
            pooled = self._of_probabilities(self.predictions)
            for metric in PROBABILITY_METRICS:
                values = self.subjects[metric].dropna()
                low, high = mean_interval(values, bounds=PROBABILITY_BOUNDS.get(metric))
                of_trials = self.subjects[f"trial_{metric}"].mean()
                rows[metric] = (values.mean(), low, high, of_trials, pooled[metric])
        columns = ["mean", "low", "high", "per_trial", "pooled"]
        index = pd.Index(list(rows), name="metric")
        return pd.DataFrame(list(rows.values()), columns=columns, index=index)

    def _of_probabilities(self, predictions: pd.DataFrame) -> dict[str, float]:
        p = predictions[probability_columns(self.classes)].to_numpy(np.float64)
        return probability_scores(predictions["y_true"].to_numpy(), p)

    def _confusion(self, predictions: pd.DataFrame, column: str) -> npt.NDArray[np.int64]:
        y_true = predictions["y_true"].to_numpy()
        return confusion_matrix(y_true, predictions[column].to_numpy(), len(self.classes))

    def __repr__(self) -> str:
        row = self.summary().loc["balanced_accuracy"]
        return (
            f"<Result of {self.estimator} on {self.data} under {self.label}: "
            f"balanced accuracy {row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}], "
            f"per trial {row['per_trial']:.3f}, majority {row['majority']:.3f}, "
            f"{len(self.subjects)} subjects, {self.config['rule']}, "
            f"pre-training: {self.config['pretraining']['kind']}>"
        )

    def _repr_html_(self) -> str:
        facts = {
            "model": self.estimator,
            "data": self.data,
            "protocol": self.label,
            "classes by": self.config["rule"],
            "pre-training": self.config["pretraining"]["kind"],
        }
        return views.cell("Result", facts, self.summary().round(3))

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
            # Each table says LEAKY itself: it may be taken out of the file.
            "folds.csv": self.folds.assign(protocol=self.label).to_csv(index=False),
            "predictions.csv": self.predictions.assign(protocol=self.label).to_csv(index=False),
        }
        memory = io.BytesIO()
        # Deflated: the tables repeat their names on every row.
        with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in content.items():
                archive.writestr(name, text)
        write_whole(path, memory.getvalue())
        return path

    @classmethod
    def load(cls, path: str | Path, *, largest: int = LARGEST) -> Result:
        """Read a result that ``save`` or ``evaluate`` wrote.

        Parameters
        ----------
        path : str or Path
        largest : int
            Bytes that it may unpack to: a small file from somebody else may claim any size.

        Raises
        ------
        DamagedResult
            If the file is not one, is damaged or too large.
        DataError
            If it is of a newer format.
        """
        path = Path(path)
        doing = f"Reading the result {path.name}"
        try:
            with zipfile.ZipFile(path) as archive:
                parts = [archive.getinfo(name) for name in PARTS]
                _check_sizes(parts, largest, doing)
                config = json.loads(archive.read(parts[0]))
                folds, predictions = (_read_table(archive.read(part)) for part in parts[1:])
            if not isinstance(config, dict):
                raise ValueError("its configuration is no table")
        # A file that is not there, or may not be read, is not damaged.
        except (FileNotFoundError, PermissionError, DamagedResult):
            raise
        except Exception as error:  # a changed byte may break the zip, its streams or the text
            raise DamagedResult(
                doing,
                f"it is damaged or no result ({error or type(error).__name__})",
                "Run the evaluation again",
            ) from error
        if config.get("format") not in range(1, FORMAT + 1):
            raise DataError(
                doing, f"it is of format {config.get('format')}, not {FORMAT}", "Update omfa"
            )
        return cls(_in_words_of_today(config), folds, predictions, path)


def _in_words_of_today(config: dict[str, Any]) -> dict[str, Any]:
    """Say in a configuration of an earlier format what it left to defaults that have changed.

    So that the model that is made of it is still the one that it describes.
    """
    model, parameters = str(config.get("estimator")), config.get("parameters")
    if config["format"] == FORMAT or not isinstance(parameters, dict):
        return config
    unsaid: dict[str, Any] = {}
    own, head = model in OMFA_MODELS, parameters.get("head", "gat")
    if own and head != COHERENCY and not config.get("checkpoint"):
        unsaid |= DEFAULTS_OF_3
        if config["format"] < 3:
            unsaid |= DEFAULTS_OF_2
    if config["format"] == 1:
        if (own or model.startswith("braindecode:")) and head != LOGISTIC:
            unsaid |= DEFAULTS_OF_1
        # Only this head read the coherency, whatever was asked of another.
        if own and head not in ("gat", LOGISTIC):
            parameters = {**parameters, "connectivity": False}
    return {**config, "format": FORMAT, "parameters": {**unsaid, **parameters}}


def _check_sizes(parts: Sequence[zipfile.ZipInfo], largest: int, doing: str) -> None:
    """Refuse a result by what it says of its sizes, before anything is unpacked."""
    size = sum(part.file_size for part in parts)
    # Small tables may pack to almost nothing.
    dense = max(part.file_size / max(part.compress_size, 10_000) for part in parts)
    if size > largest or dense > MOST_PACKED:
        raise DamagedResult(
            doing,
            f"it would unpack to {size / 1e6:,.0f} MB"
            + (f", up to {dense:,.0f} times its packed size" if dense > MOST_PACKED else ""),
            "Do not use it; if it is your own, read it by Result.load(path, largest=BYTES)"
            if dense <= MOST_PACKED
            else "Do not use it: no result is like that",
        )


def _read_table(content: bytes) -> pd.DataFrame:
    # As text, for subjects may be called "01" or "NA".
    table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    kinds: dict[str, Any] = {
        name: np.int64 for name in table.columns if name.startswith(("y_", "i_"))
    }
    kinds |= {name: np.float64 for name in table.columns if name.startswith(P)}
    return table.drop(columns="protocol").astype(kinds)


def probability_columns(classes: Sequence[str]) -> list[str]:
    """Return the names of the columns that hold the probabilities of the classes."""
    return [f"{P}{name}" for name in classes]


def fold_table(folds: Sequence[Fold], metadata: pd.DataFrame, *, leaky: bool) -> pd.DataFrame:
    """List the side of every trial, or if ``leaky`` of every window, in every fold."""
    columns = list(WINDOW if leaky else TRIAL)
    parts = []
    for fold in folds:
        for side in SIDES:
            names = metadata.iloc[fold.side(side)][columns].drop_duplicates()
            parts.append(names.assign(fold=fold.name, side=side))
    return _named(pd.concat(parts, ignore_index=True)[["fold", "side", *columns]])


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """Cast the columns that name a trial to str, so a fresh table equals one read from CSV."""
    return table.astype(dict.fromkeys(TRIAL, str))


def folds_from_table(table: pd.DataFrame, metadata: pd.DataFrame, labels: Target) -> list[Fold]:
    """Return the folds of a fold table: the positions in ``metadata`` of the windows it names."""
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


def prediction_table(
    folds: Sequence[Fold],
    predicted: Sequence[Mapping[str, npt.NDArray[Any]] | None],
    metadata: pd.DataFrame,
    labels: Target,
) -> pd.DataFrame:
    """List the true, predicted and majority class of every test window of every fold.

    And the probability of every class, ``p_<class>``, if all folds have it: folds that an earlier
    version kept have none.
    """
    parts = []
    known = [arrays for arrays in predicted if arrays is not None]
    assert len(known) == len(folds)
    likely = all("p" in arrays for arrays in known)
    for fold, arrays in zip(folds, known, strict=True):
        part = metadata.iloc[fold.test][list(WINDOW)].assign(
            y_true=labels.codes[fold.test],
            y_pred=arrays["y_pred"],
            y_majority=arrays["y_majority"],
        )
        if likely:
            # As the file has them, so that a fresh result equals the one that is read.
            part[probability_columns(labels.classes)] = np.round(arrays["p"], DECIMALS)
        part.insert(0, "fold", fold.name)
        parts.append(part)
    return _named(pd.concat(parts, ignore_index=True))


Seeds = Result | Sequence[Result]
"""A result, or those of one model on the same folds with several seeds of its fit, its checkpoint's
pre-training or both, averaged by subject."""


def compare(first: Seeds, second: Seeds, metric: str = "balanced_accuracy") -> Comparison:
    """Test two results, paired over subjects, with Wilcoxon's signed-rank test.

    Parameters
    ----------
    first, second : Result or sequence of Result
        Of two models on the same folds; of each one result, or one for each seed.
    metric : str
        One of ``METRICS``, or of ``TRIAL_METRICS`` for one decision per trial.

    Returns
    -------
    Comparison

    Raises
    ------
    DataError
        If the folds or the true classes differ: then a difference is not the models' alone.

    Examples
    --------
    >>> from omfa.zoo import Protocol, compare, evaluate, open_dataset
    >>> data = open_dataset("dreamer.zarr", 2.0, target="valence>3")
    >>> protocol = Protocol("within-subject", n_folds=3)
    >>> power = evaluate("relative-band-power+logistic", data, protocol)
    >>> compare(power, evaluate("majority", data, protocol)).n_subjects
    2
    """
    one, other = _as_seeds(first), _as_seeds(second)
    _check_same_folds([*one, *other])
    return paired_test(by_seed(one, metric), by_seed(other, metric), metric)


def inflation(leaky: Seeds, honest: Seeds, metric: str = "balanced_accuracy") -> Comparison:
    """Test by how much a leaky run exceeds its honest twin, paired over subjects.

    Parameters
    ----------
    leaky, honest : Result or sequence of Result
        Of one model on the same data, under ``leaky-window`` and under another protocol.
    metric : str
        As in ``compare``.

    Returns
    -------
    Comparison

    Raises
    ------
    DataError
        If they are no twins.

    Examples
    --------
    >>> from omfa.zoo import Protocol, evaluate, inflation, open_dataset
    >>> data = open_dataset("dreamer.zarr", 2.0, target="valence>3")
    >>> honest = evaluate("majority", data, Protocol("within-subject", n_folds=3))
    >>> leaky = evaluate("majority", data, Protocol("leaky-window", n_folds=3))
    >>> inflation(leaky, honest).n_subjects
    2
    """
    one, other = _as_seeds(leaky), _as_seeds(honest)
    if not are_twins(one[0], other[0]):
        raise DataError(
            f"Comparing {one[0].estimator} under {one[0].label} with {other[0].estimator} under "
            f"{other[0].label}",
            "they are not a leaky run and the same model, data and rule under another protocol",
            "Evaluate one model on one dataset under leaky-window and under another protocol",
        )
    tables = [by_seed(seeds, metric) for seeds in (one, other)]
    # A protocol may skip people.
    both = tables[0].index.intersection(tables[1].index)
    return paired_test(tables[0].loc[both], tables[1].loc[both], metric)


def are_twins(leaky: Result, honest: Result) -> bool:
    """Whether the second is the same model on the same data and rule, the first alone leaky."""
    return leaky.leaky and not honest.leaky and _twin_key(leaky) == _twin_key(honest)


def _twin_key(result: Result) -> str:
    config = result.config
    about = [
        *(config[name] for name in ("estimator", "rule", "classes")),
        config["dataset"]["fingerprint"],
        {k: v for k, v in config["parameters"].items() if k != "checkpoint"},
        pretraining_recipe(result),
    ]
    return json.dumps(about, sort_keys=True)


def twin_of(leaky: Seeds, others: Sequence[Seeds]) -> Seeds | None:
    """Return the honest twin of a leaky run, within-subject before others: it differs least."""
    first = _as_seeds(leaky)[0]
    twins = [one for one in others if are_twins(first, _as_seeds(one)[0])]
    twins.sort(key=lambda one: _as_seeds(one)[0].protocol.name != "within-subject")
    return twins[0] if twins else None


def pretraining_recipe(result: Result) -> str:
    """Return what all pre-training seeds of a checkpoint share; empty without a checkpoint.

    Results of earlier versions do not know it, and have the digest of the weights in its place.
    """
    checkpoint = result.config.get("checkpoint") or {}
    return str(checkpoint.get("recipe") or checkpoint.get("weights", ""))


def _weights(result: Result) -> str:
    return str((result.config.get("checkpoint") or {}).get("weights", ""))


def n_seeds(results: Sequence[Result]) -> tuple[int, int]:
    """Return how many seeds of pre-training and of the fit there are; 0 without a checkpoint."""
    pretrained = {_weights(result) for result in results} - {""}
    return len(pretrained), len({result.config["seed"] for result in results})


def seeds_in_words(results: Sequence[Result]) -> str:
    """Say how many seeds stand behind a row: "3 pre-training seeds, 2 fine-tuning seeds"."""
    pretraining, fits = n_seeds(results)
    if not pretraining:
        return f"{fits} seeds" if fits > 1 else "one seed"
    return ", ".join(
        f"{n if n > 1 else 'one'} {stage} seed{'s' * (n > 1)}"
        for n, stage in ((pretraining, "pre-training"), (fits, "fine-tuning"))
    )


def _as_seeds(results: Seeds) -> tuple[Result, ...]:
    seeds = (results,) if isinstance(results, Result) else tuple(results)
    if len({pretraining_recipe(result) for result in seeds}) > 1:
        raise DataError(
            f"Averaging {len(seeds)} results of {seeds[0].estimator}",
            "their checkpoints differ in more than the seed of their pre-training",
            "Average those of one recipe, and compare the others with them",
        )
    return seeds


def _check_same_folds(results: Sequence[Result]) -> None:
    first = results[0]
    for result in results[1:]:
        if result.folds_digest != first.folds_digest:
            raise DataError(
                f"Comparing {first.estimator} with {result.estimator}",
                f"they were not run on the same folds ({first.label}, {first.config['rule']}; "
                f"{result.label}, {result.config['rule']})",
                "Evaluate both with the same dataset, protocol, target and split seed",
            )


def same_predictions(one: Result, other: Result) -> int:
    """Return for how many test windows two runs of the same folds predict the same class."""
    _check_same_folds([one, other])
    return int((one.predictions["y_pred"] == other.predictions["y_pred"]).sum())


_SCORES = [f"{who}{metric}" for who in ("", "majority_") for metric in (*METRICS, *TRIAL_METRICS)]


def by_subject(results: Sequence[Result]) -> pd.DataFrame:
    """Return the scores of each subject, averaged over the seeds of a model.

    Over the seeds of the fit first, then over those of pre-training: each counts alike.
    """
    return _mean(_over_fits(results).values())


def by_seed(results: Sequence[Result], metric: str) -> pd.DataFrame:
    """Return a metric of each subject for each seed, whose chance an interval has to cover.

    Parameters
    ----------
    results : sequence of Result
        Of one model.
    metric : str

    Returns
    -------
    pandas.DataFrame
        A row per subject. A column per pre-training seed, averaged over those of the fit; of one
        pre-training, or none, a column per seed of the fit.
    """
    parts = list(_over_fits(results).values())
    if len(parts) == 1:
        parts = [result.subjects for result in results]
    return pd.concat([part[metric] for part in parts], axis=1, keys=range(len(parts))).sort_index()


def interval_of(results: Sequence[Result], metric: str) -> tuple[float, float]:
    """Return the 95 % interval of a model's mean over subjects and seeds."""
    return mean_interval(by_seed(results, metric), bounds=BOUNDS[metric])


def _over_fits(results: Sequence[Result]) -> dict[str, pd.DataFrame]:
    """Return the scores of each subject for each pre-training, averaged over the fits from it."""
    groups: dict[str, list[pd.DataFrame]] = {}
    for result in results:
        groups.setdefault(_weights(result), []).append(result.subject_scores)
    return {weights: _mean(parts) for weights, parts in groups.items()}


def _mean(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    first, *others = parts
    # Most often there is one, and a report asks thousands of times.
    if not others:
        return first
    return pd.concat([first, *others]).groupby(level=list(SUBJECT), sort=True).mean()


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
        What interval and test are of: one of ``METRICS``, or of ``TRIAL_METRICS``.

    Returns
    -------
    pandas.DataFrame
        A row per result: protocol (a leaky one says so), data (simulated ones say so), model, rule,
        pre-training, subjects, seeds of pre-training and of the fit, all metrics averaged over
        subjects, the 95 % interval, the metric of one decision per trial, the majority class.
        With a reference ``COMPARED``: the mean difference from it, its interval, p of the paired
        test as it is and by Holm's correction over all rows of this table, the least p that so many
        people can give, the effect size and the difference that could have been shown. Where there
        are leaky runs with their honest twins, also the columns of ``inflations``.

    Examples
    --------
    >>> from omfa.zoo import Protocol, compare_table, evaluate, open_dataset
    >>> data = open_dataset("dreamer.zarr", 2.0, target="valence>3")
    >>> result = evaluate("majority", data, Protocol("within-subject", n_folds=3))
    >>> compare_table([result])["model"].tolist()
    ['majority']
    """
    rows: list[dict[str, Any]] = []
    tests: list[Comparison | None] = []
    for one in results:
        seeds = _as_seeds(one)
        _check_same_folds(seeds)
        first, subjects = seeds[0], by_subject(seeds)
        low, high = interval_of(seeds, metric)
        pretrainings, fits = n_seeds(seeds)
        row = {
            "protocol": first.label,  # first: pandas leaves out middle columns when it prints
            "data": first.data,
            "model": first.estimator,
            "rule": first.config["rule"],
            "pretraining": first.config["pretraining"]["kind"],
            "n_subjects": len(subjects),
            "n_pretraining_seeds": pretrainings,
            "n_seeds": fits,
            **subjects[list(METRICS)].mean(),
            "low": low,
            "high": high,
            "per_trial": subjects[per_trial(metric)].mean(),
            "majority": subjects[f"majority_{metric}"].mean(),
        }
        rows.append(row)
        # A row differs from itself by 0, with no p.
        if reference is None or one is reference or not _same_folds(one, reference):
            tests.append(None)
        else:
            tests.append(compare(one, reference, metric))
    table = pd.DataFrame(rows)
    if reference is not None:
        table = table.join(compared(tests))
    leaks = inflations(results, metric)
    return table.join(leaks) if leaks["inflation_over"].any() else table


def _same_folds(one: Seeds, other: Seeds) -> bool:
    return _as_seeds(one)[0].folds_digest == _as_seeds(other)[0].folds_digest


COMPARED = (
    *("difference", "difference_low", "difference_high"),
    *("p", "p_holm", "least_p", "effect", "detectable"),
)
"""The columns of a comparison in a table."""


def per_trial(metric: str) -> str:
    """Return the name of a metric of one decision per trial."""
    return f"trial_{metric.removeprefix('trial_')}"


def inflations(results: Sequence[Seeds], metric: str) -> pd.DataFrame:
    """Test every leaky run against its honest twin, where that is among the results.

    Parameters
    ----------
    results : sequence of Result or of sequences of Result
    metric : str

    Returns
    -------
    pandas.DataFrame
        A row per result: ``COMPARED`` under ``inflation_...``, p corrected over all of them, and
        ``inflation_over``, the twin's protocol; empty where there is none.
    """
    twins = [twin_of(one, results) for one in results]
    tests = [
        None if twin is None else inflation(one, twin, metric)
        for one, twin in zip(results, twins, strict=True)
    ]
    labels = ["" if twin is None else _as_seeds(twin)[0].label for twin in twins]
    return compared(tests).add_prefix("inflation_").assign(inflation_over=labels)


def compared(tests: Sequence[Comparison | None]) -> pd.DataFrame:
    """Return ``COMPARED`` of each test, None being a row without one; p is corrected over all."""
    rows = [
        dict.fromkeys(COMPARED, np.nan)
        if test is None
        else {
            "difference": test.difference,
            "difference_low": test.interval[0],
            "difference_high": test.interval[1],
            "p": test.p,
            "least_p": test.least_p,
            "effect": test.effect,
            "detectable": test.detectable,
        }
        for test in tests
    ]
    table = pd.DataFrame(rows, columns=list(COMPARED))
    return table.assign(p_holm=holm(table["p"]))
