"""One HTML file about results: tables, dots per subject, confusion matrices, learning curves.

The file holds its pictures and loads nothing. What is leaky or simulated says so in every table and
picture. It carries no date and no path, so the same results give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from omfa.pipeline import report_html as html
from omfa.pipeline.channels import UCS
from omfa.pipeline.recording import DataError
from omfa.pipeline.report_figures import Topography, topographies
from omfa.zoo import report_figures as figures
from omfa.zoo.baselines import BASELINES
from omfa.zoo.evaluation import Result, by_subject, compare
from omfa.zoo.metrics import METRICS, bootstrap_interval

if TYPE_CHECKING:
    from omfa.zoo.reproduce import Cell, Grid

LEAKY_TAG = '<span class="tag red">LEAKY</span>'
SIMULATED_TAG = '<span class="tag">simulated</span>'

MOST_CONFUSIONS = 12
"""Of a dataset under a protocol."""


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


# ---- tables -----------------------------------------------------------------------------------


def _facts(entry: Entry) -> dict[str, Any]:
    """Return what every row of a table says of its entry."""
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
        "saw": " ".join(_saw(entry.first)),
        "rule": config["rule"],
    }


def _saw(result: Result) -> list[str]:
    """List the datasets that pre-training saw."""
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
        shares; ``leaky`` and ``simulated`` say of which kind the row is, ``pretraining`` and
        ``saw`` what the model had seen, ``result`` the file.
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


# ---- the parts of the report --------------------------------------------------------------------


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
        By name, ``omfa.zoo.pretrain.learning_curve`` of each.
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


# ---- the report -----------------------------------------------------------------------------


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
    """Return what seeds of one model share."""
    config = {k: v for k, v in result.config.items() if k not in ("seed", "created", "seconds")}
    config["dataset"] = {**config["dataset"], "recipe": None}
    return config


def _order(result: Result) -> tuple[str, bool, bool, str, str]:
    return (
        _table_of(result),
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


# ---- the paper's tables -----------------------------------------------------------------------


TITLES = {
    "within": "Within subjects",
    "transfer": "Transfer to an unseen corpus",
    "ablation": "Ablation",
}


def write_tables_report(
    grid: Grid, cells: Sequence[Cell], out: str | Path, *, command: str = "", note: str = ""
) -> Path:
    """Write the report on the paper's tables.

    Parameters
    ----------
    grid : Grid
        What was run; its folder has the logs of pre-training and, below ``attention/``, what the
        graph of a model of each corpus listens to.
    cells : sequence of Cell
    out : path
    command : str
        The command line that gives it again.
    note : str
        What a reader must know of this run.

    Returns
    -------
    Path
    """
    from omfa.zoo.reproduce import entries as of_cells

    entries = of_cells(cells)
    return write_report(
        entries,
        out,
        title="The paper's tables",
        metric="accuracy",  # what the paper states
        titles=TITLES,
        opening=_about_the_paper(grid, cells, note),
        closing={
            "pretraining": ("Pre-training", _pretrainings(grid)),
            "attention": ("What the graph listens to", _listening(grid)),
            "again": ("How it was made", _how_made(grid, entries, command)),
        },
    )


def _about_the_paper(grid: Grid, cells: Sequence[Cell], note: str) -> str:
    failed = "".join(
        f"<li>{escape(c.row.table)}, {escape(c.row.dataset)}, {escape(c.row.name)}, "
        f"{escape(c.protocol.label)}: {escape(c.error)}</li>"
        for c in cells
        if c.error
    )
    missing = "".join(f"<li>{escape(line)}</li>" for line in grid.missing)
    return (
        (f'<p class="simulated"><strong>{escape(note)}</strong></p>' if note else "")
        + (f'<div class="failed"><b>Failed</b><ul>{failed}</ul></div>' if failed else "")
        + (f"<p>Left out:</p><ul>{missing}</ul>" if missing else "")
        + "<p>The paper's figures are those of the abstract of arXiv 2511.08444, <em>One Model for "
        "All</em>; it does not state its folds, the rating or the rule that made classes of DEAP "
        "and DREAMER, or its settings: these are this project's choice. Figures as high on these "
        "corpora are otherwise known from windows of one trial on both sides, which is what "
        "leaky-window does. Pre-training on a corpus that is then tested is "
        "<em>transductive</em>, as it is in the paper.</p>"
    )


def _pretrainings(grid: Grid) -> str:
    from omfa.zoo.checkpoints import load_card
    from omfa.zoo.pretrain import learning_curve

    runs, rows = {}, []
    for stage1 in grid.stage1s:
        folder = grid.folder(stage1)
        if not (folder / "checkpoint" / "card.json").exists():
            continue
        card, curve = load_card(folder / "checkpoint"), learning_curve(folder)
        saw, name = card.saw, str(stage1)
        runs["simulated " * card.simulated + name] = curve
        rows.append(
            [
                escape(name) + (f" {SIMULATED_TAG}" if card.simulated else ""),
                escape("; ".join(f"{s['dataset']} {len(s['subjects'])}" for s in saw)),
                f"{sum(s['hours'] for s in saw):.2f}",
                f"{grid.settings(stage1).steps:,}",
                f"{curve['loss'].dropna().iloc[-1]:.3f}",
            ]
        )
    if not rows:
        return ""
    head = ["encoder", "saw (subjects)", "hours", "steps", "last loss"]
    return curves(runs) + html.table(head, rows, numbers=head[2:])


def _listening(grid: Grid) -> str:
    body = ""
    for name, (stage1, folder) in grid.attended.items():
        if (folder / "attention.csv").exists():
            data = "simulated " * grid.dataset(name).simulated + name
            body += f"<h3>{escape(data)}, pre-trained: {escape(str(stage1))}</h3>"
            body += '<div class="panels">'
            body += attention(data, pd.read_csv(folder / "attention.csv"))
            if (folder / "history.csv").exists():
                epochs = pd.read_csv(folder / "history.csv")
                body += history(f"fine-tuning on all of {data}", epochs)
            body += "</div>"
    if not body:
        return ""
    return (
        "<p>A model fine-tuned on all of a corpus, tested nowhere: the attention that each channel "
        "receives in the last layer of the graph, mean over heads and windows. 1 is an even "
        "share. That a channel is listened to does not show that it carries emotion.</p>" + body
    )


def _how_made(grid: Grid, entries: Sequence[Entry], command: str) -> str:
    stores = [
        [escape(name), f"<code>{escape(str(store))}</code>", escape(grid.targets[name]),
         f"<code>{escape(grid.digests[name][:16])}</code>"]
        for name, store in grid.stores.items()
    ]  # fmt: skip
    versions = entries[0].first.config["versions"] if entries else {}
    return (
        (f"<p>The same again:</p><pre>{escape(command)}</pre>" if command else "")
        + html.table(["dataset", "store", "target", "digest"], stores)
        + html.table(["package", "version"], [[escape(k), escape(v)] for k, v in versions.items()])
        + html.details("Settings", html.as_json(_plain(grid.how)))
    )


def _plain(settings: Any) -> Any:
    return json.loads(json.dumps(asdict(settings), default=str))
