"""One HTML file about results: tables, dots per subject, confusion matrices, learning curves.

The numbers and pictures are computed here; ``templates/results.html`` puts them into words. The
file holds its pictures and loads nothing. What is leaky or simulated says so in every table and
picture, for these are copied out of reports. It carries no date and no path, so the same results
give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from markupsafe import Markup

from omfa.pipeline import report_page as page
from omfa.pipeline.channels import UCS
from omfa.pipeline.report_figures import Topography, topographies
from omfa.zoo.evaluation.results import COMPARED, Result, by_subject, interval_of
from omfa.zoo.protocols.comparisons import least_p_in_words
from omfa.zoo.protocols.metrics import PROBABILITY_METRICS
from omfa.zoo.reports import figures
from omfa.zoo.reports.tables import Entry, summary_table

Item = TypeVar("Item")

TEMPLATES = Path(__file__).parent / "templates"
"""The templates of reports on results, for reports that add to them."""

MOST_CONFUSIONS = 12
"""Confusion matrices in a picture: one picture for each dataset and protocol."""


@dataclass(frozen=True)
class _Comparison:
    """The entries of a dataset under one protocol, as the page shows them.

    Attributes
    ----------
    label, protocol : str
        The protocol in full, and its name alone.
    leaky : bool
    dots, confusions : bytes
        Pictures.
    n_confusions, n_left : int
        How many entries the second picture shows, and how many more there are.
    head : list of str
        The columns of the table; all but the first and the last hold numbers.
    rows : list of list of str
        A row per entry.
    notes : list of str
        What the p of the table can be, and which seeds it does not cover.
    inflation : list of list of str
        Of a leaky protocol: a row per entry with an honest twin.
    calibration : list of list of str
        What probabilities are worth: a row per entry that has any.
    """

    label: str
    protocol: str
    leaky: bool
    dots: bytes
    confusions: bytes
    n_confusions: int
    n_left: int
    head: list[str]
    rows: list[list[str]]
    notes: list[str]
    inflation: list[list[str]]
    calibration: list[list[str]]


@dataclass(frozen=True)
class _Dataset:
    """The results on one dataset.

    Attributes
    ----------
    title, name : str
        What pictures call it, where simulated data say so, and what the heading does.
    simulated : bool
    classes : sequence of str
    rule : str
        The rule that made the classes.
    n_subjects, n_windows, n_channels : int
    comparisons : list of _Comparison
        One for each protocol.
    """

    title: str
    name: str
    simulated: bool
    classes: Sequence[str]
    rule: str
    n_subjects: int
    n_windows: int
    n_channels: int
    comparisons: list[_Comparison]


def _dataset(entries: Sequence[Entry], metric: str) -> _Dataset:
    first = entries[0].first
    data = first.config["dataset"]
    summary = summary_table(entries, [metric])
    by_protocol = _grouped(range(len(entries)), lambda i: entries[i].first.label)
    return _Dataset(
        title=first.data,
        name=" + ".join(data["datasets"]),
        simulated=_simulated(entries[0]),
        classes=first.classes,
        rule=first.config["rule"],
        n_subjects=len(first.subjects),
        n_windows=data["windows"],
        n_channels=len(data["channels"]),
        comparisons=[
            _comparison([entries[i] for i in own], summary.iloc[own], metric)
            for own in by_protocol.values()
        ],
    )


def _comparison(entries: Sequence[Entry], own: pd.DataFrame, metric: str) -> _Comparison:
    first = entries[0].first
    head, rows = _table(entries, own, metric)
    shown = entries[:MOST_CONFUSIONS]
    return _Comparison(
        label=first.label,
        protocol=first.label.partition(" (")[0],
        leaky=first.leaky,
        dots=_dots(entries, metric),
        confusions=_confusions(shown),
        n_confusions=len(shown),
        n_left=len(entries) - len(shown),
        head=head,
        rows=rows,
        notes=_notes(own),
        inflation=_inflation(own),
        calibration=_calibration(entries),
    )


def _simulated(entry: Entry) -> bool:
    return bool(entry.first.config["dataset"].get("simulated", False))


def _grouped(items: Iterable[Item], key: Callable[[Item], Any]) -> dict[Any, list[Item]]:
    groups: dict[Any, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _words(metric: str) -> str:
    return metric.replace("_", " ").replace("macro f1", "macro-F1")


def _dots(entries: Sequence[Entry], metric: str) -> bytes:
    rows = []
    for entry in entries:
        subjects = by_subject(entry.results)
        paper = entry.paper if metric == "accuracy" else None
        rows.append(
            figures.Dots(
                entry.name,
                subjects[metric].to_numpy(np.float64),
                interval_of(entry.results, metric),
                float(subjects[f"majority_{metric}"].mean()),
                None if paper is None else paper / 100,
            )
        )
    first = entries[0].first
    return figures.dots(rows, _title(first), _words(metric), leaky=first.leaky)


def _confusions(entries: Sequence[Entry]) -> bytes:
    matrices = [
        (entry.name, np.sum([result.confusion for result in entry.results], axis=0))
        for entry in entries
    ]
    first = entries[0].first
    return figures.confusions(matrices, first.classes, _title(first), leaky=first.leaky)


def _title(result: Result) -> str:
    """Name data and protocol in a picture, in lines short enough for it."""
    name, _, rest = result.label.partition(" (")
    return f"{result.data}, {name}" + (f"\n({rest}" if rest else "")


def _table(
    entries: Sequence[Entry], own: pd.DataFrame, metric: str
) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of the table of a protocol."""
    other = "balanced_accuracy" if metric == "accuracy" else "accuracy"
    beside = [by_subject(entry.results)[other].mean() for entry in entries]
    claims = own[["paper", "paper_difference"]].notna().any(axis=None) or own["paper_words"].any()
    papers = bool(claims) and metric == "accuracy"
    head = ["", _words(metric), "95 %", "per trial", "majority", *_COMPARED]
    head += ["paper", "paper, vs. first row"] if papers else []
    rows = []
    for (_, row), also in zip(own.iterrows(), beside, strict=True):
        cells = [
            row["row"],
            _percent(row["mean"]),
            _interval(row["low"], row["high"]),
            _percent(row["per_trial"]),
            _percent(row["majority"]),
            *_compared(row),
        ]
        if papers:
            cells += [
                _percent(row["paper"], digits=2) or row["paper_words"],
                _percent(row["paper_difference"], signed=True, digits=2),
            ]
        rows.append([*cells, _percent(also), f"{_pretraining(row)}; {row['seeds']}"])
    return [*head, _words(other), "pre-training; seeds"], rows


def _calibration(entries: Sequence[Entry]) -> list[list[str]]:
    """Return log loss, Brier score, calibration error and area, averaged over the seeds."""
    rows = []
    for entry in entries:
        found = [one.calibration() for one in entry.results]
        if not all(map(len, found)):
            continue
        means = [
            float(np.mean([one.loc[metric, "mean"] for one in found]))
            for metric in PROBABILITY_METRICS
        ]
        # Of a person there are too few windows for its bins.
        means[PROBABILITY_METRICS.index("calibration_error")] = float(
            np.mean([one.loc["calibration_error", "pooled"] for one in found])
        )
        rows.append([entry.name, *("" if np.isnan(m) else f"{m:.3f}" for m in means)])
    return rows


_COMPARED = ("vs. first row", "95 % ", "p", "p, Holm", "effect", "detectable")
"""The head of the columns of a comparison."""


def _compared(row: pd.Series[Any], prefix: str = "") -> list[str]:
    """Return the cells of a comparison; empty where there is none."""
    of = {name: row[f"{prefix}{name}"] for name in COMPARED}
    if np.isnan(of["difference"]):
        return [""] * len(_COMPARED)
    return [
        _percent(of["difference"], signed=True),
        _interval(of["difference_low"], of["difference_high"], signed=True),
        _p(of["p"]),
        _p(of["p_holm"]),
        f"{of['effect']:+.2f}".replace("-", "−"),
        _percent(of["detectable"]) or "–",
    ]


def _p(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2g}"


def _notes(own: pd.DataFrame) -> list[str]:
    """Say what p can be here, and what the intervals do not cover."""
    notes = []
    tested = int(own["difference"].notna().sum())
    people = sorted({int(n) for n in own["n_subjects"]})
    if tested:
        together = f"{tested} comparisons, corrected together" if tested > 1 else "One comparison"
        notes.append(f"{together}; {'; '.join(map(least_p_in_words, people))}.")
    if (own["n_pretraining_seeds"] == 1).any():
        notes.append(
            "Of one pre-training seed nobody knows how much another would change: the interval is "
            "of people alone."
        )
    return notes


def _inflation(own: pd.DataFrame) -> list[list[str]]:
    rows = own[own["inflation_over"] != ""]
    return [
        [row["row"], *_compared(row, "inflation_"), row["inflation_over"].partition(" (")[0]]
        for _, row in rows.iterrows()
    ]


def _pretraining(row: pd.Series[Any]) -> str:
    return f"{row['pretraining']}, on {row['saw']}" if row["saw"] else str(row["pretraining"])


def _percent(value: float, *, signed: bool = False, digits: int = 1) -> str:
    if np.isnan(value):
        return ""
    text = f"{100 * value:+.{digits}f}" if signed else f"{100 * value:.{digits}f}"
    return text.replace("-", "−")


def _interval(low: float, high: float, *, signed: bool = False) -> str:
    if np.isnan(low):
        return ""
    return f"{_percent(low, signed=signed)} to {_percent(high, signed=signed)}"


def curves(runs: Mapping[str, pd.DataFrame]) -> Markup:
    """Return the learning curves of pre-trainings, as HTML; empty where there is none.

    Parameters
    ----------
    runs : mapping of str to DataFrame
        By name, ``omfa.zoo.learning_curve`` of each.
    """
    if not runs:
        return Markup()
    return _part("pretraining", png=figures.pretraining_curves(runs))


def history(name: str, table: pd.DataFrame) -> Markup:
    """Return the learning curve of a fine-tuning, as HTML; dotted is the epoch that was chosen."""
    png = figures.fine_tuning_curves(table, name)
    return _part("fine_tuning", png=png, name=name, chosen="validation_loss" in table)


def attention(name: str, table: pd.DataFrame) -> Markup:
    """Return a map of the scalp, as HTML.

    Parameters
    ----------
    name : str
    table : DataFrame
        Columns ``channel`` (UCS names) and ``attention`` (1 is an even share).
    """
    channels, received = table["channel"].tolist(), table["attention"].to_numpy(np.float64)
    # At least from 0 to 2, with the even share in the middle: even attention looks even.
    scale = 0.0, max(2.0, float(received.max()))
    shown = Topography(figures.plain(name), received, scale, "viridis")
    ordered = table.sort_values("attention", ascending=False).head(5)
    most = [
        f"{channel} {value:.2f}"
        for channel, value in zip(ordered["channel"], ordered["attention"], strict=True)
    ]
    return _part(
        "attention", png=topographies([shown], UCS.positions(channels)), name=name, most=most
    )


def _part(macro: str, **values: Any) -> Markup:
    return page.part("curves.html", macro, values, folders=[TEMPLATES])


def write_report(
    entries: Sequence[Entry],
    out: str | Path,
    *,
    title: str = "Results",
    metric: str = "balanced_accuracy",
    titles: Mapping[str, str] | None = None,
    opening: Markup | str = "",
    closing: Mapping[str, tuple[str, Markup | str]] | None = None,
) -> Path:
    """Write one self-contained HTML file about results.

    Parameters
    ----------
    entries : sequence of Entry
    out : path
        The file; it appears whole or not at all and replaces an earlier one.
    title : str
    metric : str
        One of ``METRICS``: what is drawn and compared.
    titles : mapping of str to str, optional
        What tables are called.
    opening : Markup or str
        What stands below the title: HTML, or a text, which is escaped.
    closing : mapping of str to (str, Markup or str), optional
        By anchor, heading and content of further sections; those without content are left out.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        If the file cannot be written.
    """
    out = Path(out)
    page.check_writable(out)
    tables = {
        f"table-{i}": ((titles or {}).get(name, name), _datasets(own, metric))
        for i, (name, own) in enumerate(_grouped(entries, lambda entry: entry.table).items(), 1)
    }
    closing = {anchor: part for anchor, part in (closing or {}).items() if part[1]}
    simulated = [entry for entry in entries if _simulated(entry)]
    values = {
        "title": title,
        "sections": {anchor: heading for anchor, (heading, _) in (tables | closing).items()},
        "simulated": sorted({d for e in simulated for d in e.first.config["dataset"]["datasets"]}),
        "leaky": any(entry.first.leaky for entry in entries),
        "starred": any(entry.paper is not None for entry in entries),
        "metric": _words(metric),
        "tables": tables,
        "opening": opening,
        "closing": closing,
    }
    page.write(out, "results.html", values, folders=[TEMPLATES])
    return out


def _datasets(entries: Sequence[Entry], metric: str) -> list[_Dataset]:
    by_data = _grouped(entries, lambda entry: entry.first.data)
    return [_dataset(own, metric) for own in by_data.values()]
