"""A result: its file, its scores, and how results compare."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline.errors import DataError
from omfa.pipeline.writing import write_whole
from omfa.zoo.data.targets import Target
from omfa.zoo.estimators.settings import LOGISTIC, OMFA_MODELS
from omfa.zoo.protocols.metrics import (
    METRICS,
    Comparison,
    bootstrap_interval,
    confusion_matrix,
    paired_test,
    scores,
)
from omfa.zoo.protocols.protocol import LEAKY_LABEL, SIDES, SUBJECT, TRIAL, Fold, Protocol, codes

FORMAT = 2
"""The version of the result file's layout."""

DEFAULTS_OF_1 = {"patience": 10, "refit": False}
"""What format 1 left unsaid of a network's training: the defaults of its time."""

WINDOW = (*TRIAL, "i_window_in_trial")

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
        """Return mean over subjects, 95 % bootstrap interval and majority class of each metric."""
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
        if config.get("format") not in (1, FORMAT):
            raise DataError(
                doing, f"it is of format {config.get('format')}, not {FORMAT}", "Update omfa"
            )
        return cls(_in_words_of_today(config), folds, predictions, path)


def _in_words_of_today(config: dict[str, Any]) -> dict[str, Any]:
    """Say in a configuration of format 1 what it left to defaults that have changed since.

    So that the model that is made of it is still the one that it describes.
    """
    model, parameters = str(config.get("estimator")), config.get("parameters")
    if config["format"] == FORMAT or not isinstance(parameters, dict):
        return config
    unsaid: dict[str, Any] = {}
    own = model in OMFA_MODELS
    if (own or model.startswith("braindecode:")) and parameters.get("head") != LOGISTIC:
        unsaid |= DEFAULTS_OF_1
    # Only this head read the coherency, whatever was asked of another.
    if own and parameters.get("head", "gat") not in ("gat", LOGISTIC):
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
    numbers = [name for name in table.columns if name.startswith(("y_", "i_"))]
    return table.drop(columns="protocol").astype(dict.fromkeys(numbers, np.int64))


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
    predicted: Sequence[Mapping[str, npt.NDArray[np.int64]] | None],
    metadata: pd.DataFrame,
    labels: Target,
) -> pd.DataFrame:
    """List the true, predicted and majority class of every test window of every fold."""
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


def by_subject(results: Sequence[Result]) -> pd.DataFrame:
    """Return the scores of each subject, averaged over the seeds of a model."""
    columns = [*METRICS, *(f"majority_{metric}" for metric in METRICS)]
    parts = [result.subjects[columns] for result in results]
    return pd.concat(parts).groupby(level=list(SUBJECT), sort=True).mean()


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
            if one is not reference:  # it differs from itself by 0, with no p
                test = compare(one, reference, metric)
                row |= {"difference": test.difference, "p": test.p}
        rows.append(row)
    return pd.DataFrame(rows)
