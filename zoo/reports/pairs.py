"""Which rows of a report are compared person by person: pre-trained and control, leaky and honest.

The table of differences is from its first row, whatever that is. A pair here differs in one thing:
the first weights of the encoder, or whether windows of one trial are on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from omfa.pipeline.errors import DataError
from omfa.zoo.estimators.settings import OF_WEIGHTS, RANDOM, SCRATCH, SPARING
from omfa.zoo.evaluation.results import (
    COMPARED,
    by_subject,
    compare,
    compared,
    inflation,
    twin_of,
)
from omfa.zoo.protocols.comparisons import Comparison
from omfa.zoo.reports.tables import Entry

Kind = Literal["control", "leaky"]


@dataclass(frozen=True)
class Pair:
    """Two rows, and their scores.

    Attributes
    ----------
    kind : {"control", "leaky"}
        Pre-trained less its control, or leaky less honest.
    first, second : Entry
        The first less the second.
    scores : pandas.DataFrame
        A row per subject that both have, with the columns ``second`` and ``first``: shares.
    test : Comparison
    p_holm : float
        Of the test, corrected over all pairs of its kind and data; NaN below six people.
    """

    kind: Kind
    first: Entry
    second: Entry
    scores: pd.DataFrame
    test: Comparison
    p_holm: float


def control_of(entry: Entry, entries: Sequence[Entry]) -> Entry | None:
    """Return the control of a pre-trained row, in its place; None where there is none.

    The one that the row names; else a row of random weights fitted by the same recipe; else the one
    that is fitted from scratch with the same settings.
    """
    near = [one for one in entries if one.place == entry.place and one is not entry]
    if entry.control is not None:
        return next((one for one in near if one.name == entry.control), None)
    if entry.first.estimator != "omfa" or not entry.first.config.get("checkpoint"):
        return None
    for model, but in ((RANDOM, ()), (SCRATCH, SPARING)):
        wanted = _recipe(entry, but)
        for one in near:
            if one.first.estimator == model and _recipe(one, but) == wanted:
                return one
    return None


def _recipe(entry: Entry, but: Sequence[str]) -> dict[str, Any]:
    """Return how a model is fitted: its parameters without the weights that it starts from."""
    left_out = {"checkpoint", *OF_WEIGHTS, *but}
    return {k: v for k, v in entry.first.config["parameters"].items() if k not in left_out}


def pairs(entries: Sequence[Entry], metric: str) -> list[Pair]:
    """Return the pairs among the rows of one table and data, in the order of their first rows.

    Parameters
    ----------
    entries : sequence of Entry
    metric : str
        One of ``METRICS``.

    Returns
    -------
    list of Pair
        Of each kind together; those of different folds or without a common subject are no pair.
    """
    controls = [_tested("control", one, control_of(one, entries), metric) for one in entries]
    leaks = [_tested("leaky", one, _twin(one, entries), metric) for one in entries]
    return [pair for kind in (controls, leaks) for pair in _corrected(kind)]


def _twin(entry: Entry, entries: Sequence[Entry]) -> Entry | None:
    twin = twin_of(entry.results, [one.results for one in entries])
    return next((one for one in entries if one.results is twin), None)


def _tested(kind: Kind, first: Entry, second: Entry | None, metric: str) -> Pair | None:
    if second is None:
        return None
    try:
        test = (inflation if kind == "leaky" else compare)(first.results, second.results, metric)
    except DataError:  # not on the same folds: there is nothing to compare
        return None
    sides = {"second": by_subject(second.results), "first": by_subject(first.results)}
    scores = pd.DataFrame({name: own[metric] for name, own in sides.items()}).dropna()
    return Pair(kind, first, second, scores, test, float("nan")) if len(scores) else None


def _corrected(found: Sequence[Pair | None]) -> list[Pair]:
    known = [pair for pair in found if pair is not None]
    p = compared([pair.test for pair in known])["p_holm"]
    return [replace(one, p_holm=float(value)) for one, value in zip(known, p, strict=True)]


COLUMNS = (
    *("table", "data", "simulated", "kind", "row", "protocol", "leaky", "other", "other_protocol"),
    *("metric", "n_subjects", "difference", "difference_low", "difference_high"),
    *("p", "p_holm", "least_p", "effect", "detectable"),
)


def pairs_table(found: Sequence[Pair]) -> pd.DataFrame:
    """Put pairs in one table, a row each: who is compared, and the difference with its test."""
    rows: list[dict[str, Any]] = []
    for pair in found:
        first = pair.first.first
        test = compared([pair.test]).iloc[0]
        rows.append(
            {
                "table": pair.first.table,
                "data": first.data,
                "simulated": bool(first.config["dataset"].get("simulated", False)),
                "kind": pair.kind,
                "row": pair.first.name,
                "protocol": first.label,
                "leaky": first.leaky,
                "other": pair.second.name,
                "other_protocol": pair.second.first.label,
                "metric": pair.test.metric,
                "n_subjects": pair.test.n_subjects,
                **{name: test[name] for name in COMPARED},
                "p_holm": pair.p_holm,
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))
