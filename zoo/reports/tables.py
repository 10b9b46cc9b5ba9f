"""Results as rows of tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from omfa.pipeline.errors import DataError
from omfa.zoo.estimators.baselines import BASELINES
from omfa.zoo.evaluation.results import Result, by_subject, compare
from omfa.zoo.protocols.metrics import METRICS, bootstrap_interval


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
        One for each seed.
    paper : float or None
        The accuracy that the paper states, in percent.
    paper_difference : float or None
        The difference from the first entry that the paper states, in percentage points.
    paper_words : str
        What it says where it states no figure.
    """

    table: str
    name: str
    results: tuple[Result, ...]
    paper: float | None = None
    paper_difference: float | None = None
    paper_words: str = ""

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
        A row per entry, seed, subject and metric: ``value`` and that of the majority class, as
        shares; whether the row is ``leaky`` or ``simulated``; ``pretraining`` and ``saw``, the kind
        of pre-training and its datasets; ``result``, the file.
    """
    parts = []
    for entry in entries:
        for result in entry.results:
            subjects = result.subjects.reset_index()
            for metric in METRICS:
                part = subjects[["subject"]].assign(
                    metric=metric,
                    value=subjects[metric],
                    majority=subjects[f"majority_{metric}"],
                    result="" if result.path is None else result.path.name,
                )
                parts.append(part.assign(**_facts(entry), seed=result.config["seed"]))
    columns = [*_FACTS, "seed", "subject", "metric", "value", "majority", "result"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


_FACTS = (
    *("table", "dataset", "simulated", "protocol", "leaky", "row", "model"),
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
        A row per entry and metric: mean over subjects, its 95 % bootstrap interval, the majority
        class, the difference from the first entry of its place with interval and p of Wilcoxon's
        paired test, and what the paper states, as a share like all else.
    """
    reference: dict[tuple[str, str, str], Entry] = {}
    rows = []
    for entry in entries:
        first = reference.setdefault(entry.place, entry)
        subjects = by_subject(entry.results)
        for metric in metrics:
            low, high = bootstrap_interval(subjects[metric])
            row = _facts(entry) | {
                "n_subjects": len(subjects),
                "n_seeds": len(entry.results),
                "metric": metric,
                "mean": subjects[metric].mean(),
                "low": low,
                "high": high,
                "majority": subjects[f"majority_{metric}"].mean(),
                **_difference(entry, first, metric),
            }
            for name in ("paper", "paper_difference"):  # of accuracy
                value = getattr(entry, name)
                row[name] = value / 100 if value is not None and metric == "accuracy" else np.nan
            rows.append(row | {"paper_words": entry.paper_words})
    return pd.DataFrame(rows, columns=[*_FACTS, *_NUMBERS])


_NUMBERS = (
    *("n_subjects", "n_seeds", "metric", "mean", "low", "high", "majority"),
    *("difference", "difference_low", "difference_high", "p", "paper", "paper_difference"),
    "paper_words",
)


def _difference(entry: Entry, first: Entry, metric: str) -> dict[str, float]:
    nothing = dict.fromkeys(("difference", "difference_low", "difference_high", "p"), np.nan)
    if entry is first:
        return nothing
    try:
        test = compare(entry.results, first.results, metric)
    except DataError:  # not on the same folds: there is nothing to compare
        return nothing
    low, high = test.interval
    return {
        "difference": test.difference,
        "difference_low": low,
        "difference_high": high,
        "p": test.p,
    }


def read_entries(paths: Sequence[str | Path]) -> list[Entry]:
    """Read results, and list them as a report does.

    Parameters
    ----------
    paths : sequence of path
        Files that ``evaluate`` wrote, folders of them, or folders of ``reproduce``.

    Returns
    -------
    list of Entry
        A table for each data, rule and length of windows; seeds of a model are one entry;
        baselines come last.

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
    names = _names([seeds[0] for seeds in groups])
    return [
        Entry(_table_of(seeds[0]), name, tuple(seeds))
        for seeds, name in zip(groups, names, strict=True)
    ]


def _identity(result: Result) -> dict[str, Any]:
    """Return the configuration that all seeds of a model share."""
    config = {k: v for k, v in result.config.items() if k not in ("seed", "created", "seconds")}
    # Seeds may have read copies of a store, or cached it otherwise: its fingerprint is compared.
    config["dataset"] = {**config["dataset"], "recipe": None}
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
    recipe = result.config["dataset"].get("recipe") or {}
    seconds = recipe.get("window_seconds")
    windows = f", windows of {seconds:g} s" if seconds else ""
    return f"{result.data}, {result.config['rule']}{windows}"


def _names(results: Sequence[Result]) -> list[str]:
    """Name models, by their parameters too where the name alone is not enough."""
    plain = [_name(result) for result in results]
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


def _name(result: Result) -> str:
    checkpoint = result.config.get("checkpoint")
    return f"{result.estimator} from {checkpoint['name']}" if checkpoint else result.estimator
