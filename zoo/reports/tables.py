"""Results as rows of tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from omfa.pipeline.errors import DataError
from omfa.zoo.estimators.baselines import BASELINES
from omfa.zoo.evaluation.results import (
    COMPARED,
    Result,
    by_subject,
    compare,
    compared,
    inflations,
    interval_of,
    n_seeds,
    per_trial,
    pretraining_recipe,
    seeds_in_words,
)
from omfa.zoo.protocols.comparisons import Comparison
from omfa.zoo.protocols.metrics import METRICS


@dataclass(frozen=True)
class Entry:
    """A row of a report: a model on a dataset under a protocol.

    Attributes
    ----------
    table : str
        Where it is listed. The first entry of a table, dataset and protocol is the one that the
        others are compared with.
    name : str
    results : tuple of Result
        One for each seed of the fit, of pre-training or both.
    paper : float or None
        The accuracy that the paper states, in percent.
    paper_difference : float or None
        The difference from the first entry that the paper states, in percentage points.
    paper_words : str
        What it says where it states no figure.
    control : str or None
        The row that differs from this pre-trained one in its first weights alone, by its name;
        empty where there is none. By default it is looked for, see ``pairs.control_of``.
    """

    table: str
    name: str
    results: tuple[Result, ...]
    paper: float | None = None
    paper_difference: float | None = None
    paper_words: str = ""
    control: str | None = None

    @property
    def first(self) -> Result:
        """The result of the first seed."""
        return self.results[0]

    @property
    def place(self) -> tuple[str, str, str]:
        """Table, data and protocol: what entries are compared within."""
        return self.table, self.first.data, self.first.label


def _facts(entry: Entry) -> dict[str, Any]:
    """Return the columns that describe an entry in every table."""
    config = entry.first.config
    return {
        "table": entry.table,
        "dataset": "+".join(config["dataset"]["datasets"]),
        "simulated": bool(config["dataset"].get("simulated", False)),
        "whitened": bool(config["dataset"].get("whitened", False)),
        "protocol": entry.first.label,
        "leaky": entry.first.leaky,
        "row": entry.name,
        "model": entry.first.estimator,
        "pretraining": config["pretraining"]["kind"],
        "saw": " ".join(_pretrained_on(entry.first)),
        "rule": config["rule"],
    }


def _pretrained_on(result: Result) -> list[str]:
    """List the datasets whose signals pre-training used."""
    return sorted({name.split("/")[0] for name in result.config["pretraining"]["seen"]})


def scores_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """Put all scores in one tidy table.

    Parameters
    ----------
    entries : sequence of Entry

    Returns
    -------
    pandas.DataFrame
        A row per entry, seed, subject and metric: ``value``, that of one decision per trial
        (``per_trial``) and that of the majority class, as shares; whether the row is ``leaky``,
        ``simulated`` or ``whitened``; ``pretraining`` and ``saw``, the kind of pre-training and its
        datasets; ``result``, the file.
    """
    parts = []
    for entry in entries:
        for result in entry.results:
            subjects = result.subjects.reset_index()
            for metric in METRICS:
                part = subjects[["subject"]].assign(
                    metric=metric,
                    value=subjects[metric],
                    per_trial=subjects[per_trial(metric)],
                    majority=subjects[f"majority_{metric}"],
                    result="" if result.path is None else result.path.name,
                )
                checkpoint = result.config.get("checkpoint") or {}
                seeds = {
                    "seed": result.config["seed"],
                    "pretraining_seed": checkpoint.get("pretraining_seed"),
                }
                parts.append(part.assign(**_facts(entry), **seeds))
    columns = [*_FACTS, "seed", "pretraining_seed", "subject", "metric"]
    columns += ["value", "per_trial", "majority", "result"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


_FACTS = (
    *("table", "dataset", "simulated", "whitened", "protocol", "leaky", "row", "model"),
    *("pretraining", "saw", "rule"),
)


def summary_table(entries: Sequence[Entry], metrics: Sequence[str] = METRICS) -> pd.DataFrame:
    """Summarise entries over subjects.

    Parameters
    ----------
    entries : sequence of Entry
    metrics : sequence of str
        Some of ``METRICS``.

    Returns
    -------
    pandas.DataFrame
        A row per entry and metric: mean over subjects, its 95 % interval, the mean of one decision
        per trial, the majority class; ``COMPARED`` with the first entry of the place, p corrected
        over the entries of the place in this metric; the columns of ``inflations``, p corrected
        over the leaky entries of the table and data; and what the paper states, as a share like all
        else.
    """
    if not entries:
        return pd.DataFrame(columns=[*_FACTS, *_NUMBERS])
    parts = [_summary(entries, metric) for metric in metrics]
    # Stable: the metrics of an entry follow one another.
    return pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)


_NUMBERS = (
    *("n_subjects", "n_pretraining_seeds", "n_seeds", "seeds", "metric"),
    *("mean", "low", "high", "per_trial", "majority", *COMPARED),
    *(f"inflation_{name}" for name in (*COMPARED, "over")),
    *("paper", "paper_difference", "paper_words"),
)


def _summary(entries: Sequence[Entry], metric: str) -> pd.DataFrame:
    """Return the rows of one metric, numbered as the entries are."""
    first: dict[tuple[str, str, str], Entry] = {}
    rows = []
    for entry in entries:
        first.setdefault(entry.place, entry)
        subjects = by_subject(entry.results)
        low, high = interval_of(entry.results, metric)
        pretrainings, fits = n_seeds(entry.results)
        row = _facts(entry) | {
            "n_subjects": len(subjects),
            "n_pretraining_seeds": pretrainings,
            "n_seeds": fits,
            "seeds": seeds_in_words(entry.results),
            "metric": metric,
            "mean": subjects[metric].mean(),
            "low": low,
            "high": high,
            "per_trial": subjects[per_trial(metric)].mean(),
            "majority": subjects[f"majority_{metric}"].mean(),
        }
        for name in ("paper", "paper_difference"):  # of accuracy
            value = getattr(entry, name)
            row[name] = value / 100 if value is not None and metric == "accuracy" else np.nan
        rows.append(row | {"paper_words": entry.paper_words})
    tests = [_difference(entry, first[entry.place], metric) for entry in entries]
    families: list[pd.DataFrame | pd.Series] = [
        # What is corrected together: comparisons with one row, and leaky runs of one data.
        _by_family(
            [entry.place for entry in entries], lambda own: compared([tests[i] for i in own])
        ),
        _by_family(
            [entry.place[:2] for entry in entries],
            lambda own: inflations([entries[i].results for i in own], metric),
        ),
    ]
    table = pd.DataFrame(rows).join(families)
    return table[[*_FACTS, *_NUMBERS]]


def _by_family(
    families: Sequence[Any], of: Callable[[Sequence[int]], pd.DataFrame]
) -> pd.DataFrame:
    """Call ``of`` with the positions of each family; return its rows in the entries' order."""
    own: dict[Any, list[int]] = {}
    for i, family in enumerate(families):
        own.setdefault(family, []).append(i)
    parts = [of(rows).set_axis(rows, axis=0) for rows in own.values()]
    return pd.concat(parts).sort_index()


def _difference(entry: Entry, first: Entry, metric: str) -> Comparison | None:
    if entry is first:
        return None
    try:
        return compare(entry.results, first.results, metric)
    except DataError:  # not on the same folds: there is nothing to compare
        return None


def read_entries(paths: Sequence[str | Path]) -> list[Entry]:
    """Read results, and list them as a report does.

    Parameters
    ----------
    paths : sequence of path
        Files that ``evaluate`` wrote, folders of them, or folders of ``reproduce``.

    Returns
    -------
    list of Entry
        A table for each data, rule and length of windows; seeds of a model are one entry, and so
        are checkpoints that differ by the seed of their pre-training alone; baselines come last.

    Raises
    ------
    DataError
        If there is none, or one is damaged.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        home = path / "results" if (path / "results").is_dir() else path
        found = sorted(home.glob("*.zip")) if home.is_dir() else [path]
        if not found or not found[0].exists():
            raise DataError(
                f"Looking for results in {path}",
                "there are none",
                "Name a folder that `omfa-zoo evaluate --out` wrote into",
            )
        files += found
    models: dict[str, list[Result]] = {}
    for result in map(Result.load, files):
        models.setdefault(json.dumps(_identity(result), sort_keys=True), []).append(result)
    groups = sorted(models.values(), key=lambda seeds: _order(seeds[0]))
    names = _names(groups)
    return [
        Entry(_table_of(seeds[0]), name, tuple(seeds))
        for seeds, name in zip(groups, names, strict=True)
    ]


def _identity(result: Result) -> dict[str, Any]:
    """Return the configuration that all seeds of a model share."""
    config = {k: v for k, v in result.config.items() if k not in ("seed", "created", "seconds")}
    # Seeds may have read copies of a store, or cached it otherwise: its fingerprint is compared.
    config["dataset"] = {**config["dataset"], "recipe": None}
    if config.get("checkpoint"):
        # Those of several pre-training seeds are one model, and lie in several folders.
        config["checkpoint"] = pretraining_recipe(result)
        config["parameters"] = {**config["parameters"], "checkpoint": None}
    return config


def _order(result: Result) -> tuple[str, bool, bool, str, str]:
    return (
        _table_of(result),
        # False comes first: what is leaky is seen before what holds, and baselines come last.
        not result.leaky,
        result.estimator in BASELINES,
        result.label,
        result.estimator,
    )


def _table_of(result: Result) -> str:
    return ", ".join(filter(None, (result.data, result.config["rule"], result.windows)))


def _names(groups: Sequence[Sequence[Result]]) -> list[str]:
    """Name models, by their parameters too where the name alone is not enough."""
    plain = [_name(seeds) for seeds in groups]
    results = [seeds[0] for seeds in groups]
    places = [
        (_table_of(r), str(r.config["protocol"]), n) for r, n in zip(results, plain, strict=True)
    ]
    names = []
    for result, name, place in zip(results, plain, places, strict=True):
        if places.count(place) > 1:
            pairs = [
                f"{key}={value}"
                for key, value in result.config["parameters"].items()
                if key != "checkpoint"
            ]
            versions = f"omfa {result.config['versions']['omfa']}, code"
            pairs.append(f"{versions} {result.config['versions']['code'][:6]}")
            name = f"{name} ({', '.join(pairs)})"
        names.append(name)
    return names


def _name(seeds: Sequence[Result]) -> str:
    first = seeds[0]
    names = sorted({(one.config.get("checkpoint") or {}).get("name", "") for one in seeds})
    return f"{first.estimator} from {' '.join(names)}" if names[0] else first.estimator


def calibration_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """Say what probabilities are worth: a row per entry that has any, and metric.

    Parameters
    ----------
    entries : sequence of Entry

    Returns
    -------
    pandas.DataFrame
        ``mean``, over people, and ``pooled``, over the windows of all, see ``Result.calibration``;
        both averaged over the seeds.
    """
    parts = []
    for entry in entries:
        found = [one.calibration() for one in entry.results]
        if all(map(len, found)):
            # What a seed has no answer to has no mean either.
            means = pd.DataFrame(
                np.mean([one[["mean", "pooled"]].to_numpy() for one in found], axis=0),
                index=found[0].index,
                columns=["mean", "pooled"],
            )
            parts.append(means.reset_index().assign(**_facts(entry)))
    columns = [*_FACTS, "metric", "mean", "pooled"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
