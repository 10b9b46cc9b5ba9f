"""One HTML file about results: tables, dots per subject, confusion matrices, learning curves.

The file holds its pictures and loads nothing. What is leaky or simulated says so in every table and
picture. It carries no date and no path, so the same results give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from omfa.pipeline import report_html as html
from omfa.pipeline.channels import UCS
from omfa.pipeline.report_figures import Topography, topographies
from omfa.zoo.evaluation.results import by_subject
from omfa.zoo.protocols.metrics import bootstrap_interval
from omfa.zoo.reports import figures
from omfa.zoo.reports.tables import Entry, summary_table

LEAKY_TAG = '<span class="tag red">LEAKY</span>'

SIMULATED_TAG = '<span class="tag">simulated</span>'

MOST_CONFUSIONS = 12
"""Of a dataset under a protocol."""


def _results(entries: Sequence[Entry], metric: str) -> str:
    """Return all that is shown of a table: per dataset a picture and a table for each protocol."""
    body = ""
    for data, of_data in _grouped(entries, lambda entry: entry.first.data).items():
        config = of_data[0].first.config
        simulated = bool(config["dataset"].get("simulated", False))
        name = " + ".join(config["dataset"]["datasets"])
        body += (
            f"<h3>{escape(name)} {SIMULATED_TAG if simulated else ''}</h3>"
            f'<p class="muted">Classes {escape(", ".join(of_data[0].first.classes))} by '
            f"{escape(config['rule'])}; {len(of_data[0].first.subjects)} subjects; "
            f"{config['dataset']['windows']:,} windows, {len(config['dataset']['channels'])} "
            "channels.</p>"
        )
        by_protocol = _grouped(of_data, lambda entry: entry.first.label)
        pictures = "".join(
            _dots(rows, data, protocol, metric) for protocol, rows in by_protocol.items()
        )
        body += f'<div class="panels">{pictures}</div>'
        for protocol, rows in by_protocol.items():
            body += _table(protocol, rows, metric)
        body += html.details(
            "Confusion matrices",
            '<div class="panels">'
            + "".join(_confusions(rows, data, protocol) for protocol, rows in by_protocol.items())
            + "</div>",
        )
    return body


def _grouped(entries: Sequence[Entry], key: Any) -> dict[Any, list[Entry]]:
    groups: dict[Any, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(key(entry), []).append(entry)
    return groups


def _words(metric: str) -> str:
    return metric.replace("_", " ").replace("macro f1", "macro-F1")


def _dots(entries: Sequence[Entry], data: str, protocol: str, metric: str) -> str:
    rows = []
    for entry in entries:
        subjects = by_subject(entry.results)
        paper = entry.paper if metric == "accuracy" else None
        rows.append(
            figures.Dots(
                entry.name,
                subjects[metric].to_numpy(np.float64),
                bootstrap_interval(subjects[metric]),
                float(subjects[f"majority_{metric}"].mean()),
                None if paper is None else paper / 100,
            )
        )
    leaky = entries[0].first.leaky
    return html.picture(
        figures.dots(rows, _title(data, protocol), _words(metric), leaky=leaky),
        f"{_words(metric)} of every subject, {data}, {protocol}",
        "",
    )


def _title(data: str, protocol: str) -> str:
    """Name data and protocol in a picture, in lines short enough for it."""
    name, _, rest = protocol.partition(" (")
    return f"{data}, {name}" + (f"\n({rest}" if rest else "")


def _confusions(entries: Sequence[Entry], data: str, protocol: str) -> str:
    shown = entries[:MOST_CONFUSIONS]
    matrices = [
        (entry.name, np.sum([result.confusion for result in entry.results], axis=0))
        for entry in shown
    ]
    left = len(entries) - len(shown)
    return html.picture(
        figures.confusions(
            matrices,
            entries[0].first.classes,
            _title(data, protocol),
            leaky=entries[0].first.leaky,
        ),
        f"Confusion matrices, {data}, {protocol}",
        f"The first {len(shown)}; {left} more are in the results." if left else "",
    )


def _table(protocol: str, entries: Sequence[Entry], metric: str) -> str:
    own = summary_table(entries, [metric])
    other = "balanced_accuracy" if metric == "accuracy" else "accuracy"
    beside = [by_subject(entry.results)[other].mean() for entry in entries]
    papers = own[["paper", "paper_difference"]].notna().any(axis=None) or own["paper_words"].any()
    head = ["", _words(metric), "95 %", "majority", "from the first", "95 % ", "p"]
    head += ["paper", "paper, from the first"] if papers and metric == "accuracy" else []
    head += [_words(other), "pre-training"]
    rows = []
    for (_, row), also in zip(own.iterrows(), beside, strict=True):
        cells = [
            escape(row["row"]),
            f"<b>{_percent(row['mean'])}</b>",
            _interval(row["low"], row["high"]),
            _percent(row["majority"]),
            _percent(row["difference"], signed=True),
            _interval(row["difference_low"], row["difference_high"], signed=True),
            "" if np.isnan(row["p"]) else f"{row['p']:.2g}",
        ]
        if papers and metric == "accuracy":
            cells += [
                _percent(row["paper"], digits=2) or escape(row["paper_words"]),
                _percent(row["paper_difference"], signed=True, digits=2),
            ]
        rows.append([*cells, _percent(also), escape(_pretraining(row))])
    numbers = [name for name in head[1:] if name != "pre-training"]
    leaky = entries[0].first.leaky
    heading = escape(protocol.partition(" (")[0]) + (f" {LEAKY_TAG}" if leaky else "")
    return (
        f'<div class="{"leaky" if leaky else ""}"><h4>{heading}</h4>'
        + (f"<p>{_LEAKY_WORDS}</p>" if leaky else "")
        + html.table(head, rows, numbers=numbers)
        + "</div>"
    )


_LEAKY_WORDS = (
    "LEAKY: windows of one trial are on both sides, so that recognising a trial is rewarded like "
    "recognising a state. Such figures say nothing about a new trial."
)


def _pretraining(row: pd.Series[Any]) -> str:
    return f"{row['pretraining']}, saw {row['saw']}" if row["saw"] else str(row["pretraining"])


def _percent(value: float, *, signed: bool = False, digits: int = 1) -> str:
    if np.isnan(value):
        return ""
    text = f"{100 * value:+.{digits}f}" if signed else f"{100 * value:.{digits}f}"
    return text.replace("-", "−")


def _interval(low: float, high: float, *, signed: bool = False) -> str:
    if np.isnan(low):
        return ""
    return f"{_percent(low, signed=signed)} to {_percent(high, signed=signed)}"


def curves(runs: Mapping[str, pd.DataFrame]) -> str:
    """Return the learning curves of pre-trainings, as HTML.

    Parameters
    ----------
    runs : mapping of str to DataFrame
        By name, ``omfa.zoo.learning_curve`` of each.
    """
    if not runs:
        return ""
    return html.picture(
        figures.pretraining_curves(runs),
        "Contrastive loss over steps of each pre-training",
        "Loss of single batches, and the share of anchors whose positive is nearer than every "
        "negative.",
    )


def history(name: str, table: pd.DataFrame) -> str:
    """Return the learning curve of a fine-tuning, as HTML; dotted is the epoch that was kept."""
    return html.picture(
        figures.fine_tuning_curves(table, name), f"Loss over epochs, {name}", "Dotted: epoch kept."
    )


def attention(name: str, table: pd.DataFrame) -> str:
    """Return a map of the scalp, as HTML.

    Parameters
    ----------
    name : str
    table : DataFrame
        Columns ``channel`` (UCS names) and ``attention`` (1 is an even share).
    """
    channels, heard = table["channel"].tolist(), table["attention"].to_numpy(np.float64)
    shown = Topography(figures.plain(name), heard, (0.0, max(2.0, float(heard.max()))), "viridis")
    ordered = table.sort_values("attention", ascending=False).head(5)
    most = ", ".join(
        f"{channel} {value:.2f}"
        for channel, value in zip(ordered["channel"], ordered["attention"], strict=True)
    )
    return html.picture(
        topographies([shown], UCS.positions(channels)),
        f"Attention that each channel receives, {name}",
        f"Most: {escape(most)}.",
    )


def write_report(
    entries: Sequence[Entry],
    out: str | Path,
    *,
    title: str = "Results",
    metric: str = "balanced_accuracy",
    titles: Mapping[str, str] | None = None,
    opening: str = "",
    closing: Mapping[str, tuple[str, str]] | None = None,
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
    opening : str
        HTML below the title.
    closing : mapping of str to (str, str), optional
        By anchor, heading and HTML of further sections; those without content are left out.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        If the file cannot be written.
    """
    out = Path(out)
    html.check_writable(out)
    tables = _grouped(entries, lambda entry: entry.table)
    parts = {
        f"table-{i}": ((titles or {}).get(name, name), _results(own, metric))
        for i, (name, own) in enumerate(tables.items(), 1)
    }
    parts |= {anchor: part for anchor, part in (closing or {}).items() if part[1]}
    body = f"<h1>{escape(title)}</h1>{_banners(entries)}{opening}{_key(entries, metric)}"
    for anchor, (heading, content) in parts.items():
        body += f'<section id="{anchor}"><h2>{escape(heading)}</h2>{content}</section>'
    sections = {anchor: heading for anchor, (heading, _) in parts.items()}
    html.write(out, html.page(title, sections, body))
    return out


def _banners(entries: Sequence[Entry]) -> str:
    simulated = {
        name
        for entry in entries
        if entry.first.config["dataset"].get("simulated", False)
        for name in entry.first.config["dataset"]["datasets"]
    }
    told = ""
    if simulated:
        told += (
            '<p class="simulated"><strong>Simulated data</strong> '
            f"({escape(', '.join(sorted(simulated)))}): these signals were made by a program. The "
            "scores say that software works, and nothing about emotion.</p>"
        )
    if any(entry.first.leaky for entry in entries):
        told += (
            f'<p class="leaky">{LEAKY_TAG} marks what ran under leaky-window. {_LEAKY_WORDS}</p>'
        )
    return told


def _key(entries: Sequence[Entry], metric: str) -> str:
    if not entries:
        return "<p>There are no results.</p>"
    paper = " Star: what the paper states." if any(e.paper is not None for e in entries) else ""
    return (
        f"<p>Pictures: a grey dot is a subject's {_words(metric)}; the diamond is the mean over "
        "subjects with its 95 % bootstrap interval; the black bar is the majority class of the "
        f"same folds.{paper} Tables: percent; differences are from the first row of the table, "
        "with a bootstrap interval and the p of Wilcoxon's signed-rank test, both paired over "
        "subjects. <em>inductive</em>: pre-training saw nothing of the tested subjects; "
        "<em>transductive</em>: it saw their signals, the tested ones too, without labels; "
        "<em>dataset held out</em>: it saw nothing of the corpus.</p>"
    )
