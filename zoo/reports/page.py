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
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
from markupsafe import Markup

from omfa.pipeline import report_page as page
from omfa.pipeline.channels import UCS
from omfa.pipeline.report_figures import Discs, named
from omfa.zoo.evaluation.results import COMPARED, Result, by_subject, interval_of
from omfa.zoo.protocols.comparisons import LEAST_SUBJECTS, least_p_in_words
from omfa.zoo.protocols.metrics import PROBABILITY_METRICS
from omfa.zoo.reports import figures
from omfa.zoo.reports.ceilings import ceiling
from omfa.zoo.reports.methods import methods
from omfa.zoo.reports.pairs import Kind, Pair, pairs, pairs_table
from omfa.zoo.reports.tables import Entry, calibration_table, scores_table, summary_table

if TYPE_CHECKING:
    from omfa.pipeline import Truth

Item = TypeVar("Item")

TEMPLATES = Path(__file__).parent / "templates"
"""The templates of reports on results, for reports that add to them."""

MOST_CONFUSIONS = 12
"""Confusion matrices in a picture: one picture for each dataset and protocol."""

MOST_PAIRS = 6
"""Panels of a picture of pairs: two rows, those of the rows that come first."""

MOST_PEOPLE = 16
"""Subjects with a column of their own: more do not fit a sheet of paper."""


@dataclass(frozen=True)
class _Table:
    """A table of texts.

    Attributes
    ----------
    head : list of str
    numbers : list of str
        The columns that hold numbers.
    rows : list of list of str
    """

    head: list[str]
    numbers: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class _Comparison:
    """The entries of a dataset under one protocol, as the page shows them.

    Attributes
    ----------
    label, protocol : str
        The protocol in full, and its name alone.
    leaky : bool
    confusions : bytes
        A picture.
    n_confusions, n_left : int
        How many entries it shows, and how many more there are.
    scores : _Table
        A row per entry: what it scored, and what it was pre-trained on.
    differences : _Table
        A row per entry but the first, from which the differences are; none where it is alone.
    people : _Table
        A row per entry, a column per subject.
    n_people_left : int
        How many subjects have no column.
    notes : list of str
        What the p of the table can be, and which seeds it does not cover.
    inflation : _Table
        Of a leaky protocol: a row per entry with an honest twin.
    calibration : list of list of str
        What probabilities are worth: a row per entry that has any.
    """

    label: str
    protocol: str
    leaky: bool
    confusions: bytes
    n_confusions: int
    n_left: int
    scores: _Table
    differences: _Table
    people: _Table
    n_people_left: int
    notes: list[str]
    inflation: _Table
    calibration: list[list[str]]


@dataclass(frozen=True)
class _Dataset:
    """The results on one dataset.

    Attributes
    ----------
    title, name : str
        What pictures call it, where simulated data say so, and what the heading does.
    simulated, whitened : bool
    classes : sequence of str
    rule : str
        The rule that made the classes.
    n_subjects, n_windows, n_channels : int
    scores : bytes
        The picture of all models and protocols on one axis.
    pairs : list of _Pairs
        Pre-trained and control, leaky and honest, person by person.
    protocols : str
        The protocols of the picture.
    in_short : list of str
        What the first row shows under each protocol that holds, a sentence each.
    comparisons : list of _Comparison
        One for each protocol.
    """

    title: str
    name: str
    simulated: bool
    whitened: bool
    classes: Sequence[str]
    rule: str
    n_subjects: int
    n_windows: int
    n_channels: int
    scores: bytes
    protocols: str
    pairs: list[_Pairs]
    in_short: list[str]
    comparisons: list[_Comparison]


@dataclass(frozen=True)
class _Pairs:
    """The pairs of one kind.

    Attributes
    ----------
    kind : {"control", "leaky"}
    picture : bytes
        The first ``MOST_PAIRS``.
    table : _Table
        A row for each pair; none of leaky ones, which stand with their protocol.
    n_left : int
        How many pairs have no panel.
    notes : list of str
    """

    kind: Kind
    picture: bytes
    table: _Table
    n_left: int
    notes: list[str]


def _dataset(entries: Sequence[Entry], metric: str, truths: Sequence[Truth]) -> _Dataset:
    first = entries[0].first
    data = first.config["dataset"]
    summary = summary_table(entries, [metric])
    by_protocol = _grouped(range(len(entries)), lambda i: entries[i].first.label)
    sides = [[entries[i] for i in own] for own in by_protocol.values()]
    best = ceiling(first, metric, truths)
    return _Dataset(
        title=first.data,
        name=" + ".join(data["datasets"]),
        simulated=_simulated(entries[0]),
        whitened=_whitened(entries[0]),
        classes=first.classes,
        rule=first.config["rule"],
        n_subjects=len(first.subjects),
        n_windows=data["windows"],
        n_channels=len(data["channels"]),
        scores=figures.scores(
            [_side(own, metric) for own in sides],
            first.data,
            _words(metric),
            chance=_chance(first, metric),
            ceiling=best,
        ),
        protocols=", ".join(by_protocol),
        pairs=_pairs(entries, metric),
        in_short=[_in_short(own, metric, best) for own in sides if not own[0].first.leaky],
        comparisons=[
            _comparison([entries[i] for i in own], summary.iloc[own], metric)
            for own in by_protocol.values()
        ],
    )


def _pairs(entries: Sequence[Entry], metric: str) -> list[_Pairs]:
    """Draw the pairs of each kind that there are."""
    grouped: dict[Kind, list[Pair]] = _grouped(pairs(entries, metric), lambda pair: pair.kind)
    found = []
    for kind, own in grouped.items():
        title = f"{entries[0].first.data}: " + (
            "pre-trained and control" if kind == "control" else "leaky and honest"
        )
        table = pairs_table(own)
        found.append(
            _Pairs(
                kind=kind,
                picture=figures.paired(
                    [_panel(pair, metric) for pair in own[:MOST_PAIRS]], title, _words(metric)
                ),
                table=_pairs_rows(table) if kind == "control" else _Table([], [], []),
                n_left=max(0, len(own) - MOST_PAIRS),
                notes=_p_notes(len(own), table["n_subjects"]),
            )
        )
    return found


def _panel(pair: Pair, metric: str) -> figures.Paired:
    first, second = pair.first.first, pair.second.first
    low, high = pair.test.interval
    difference = f"{_percent(pair.test.difference, signed=True)} points"
    difference += f" ({_interval(low, high, signed=True)})" if np.isfinite(low) else ""
    people = f"{pair.test.n_subjects} people"
    # Of few people there is no test, and so no p.
    people += f", p {_p(pair.p_holm)} by Holm" if np.isfinite(pair.p_holm) else ""
    protocols = [one.label.partition(" (")[0] for one in (second, first)]
    if pair.kind == "leaky":
        title, names = [pair.first.name], (protocols[0], f"{protocols[1]} (LEAKY)")
    else:
        title = [f"{pair.first.name}", f"less {pair.second.name}"]
        title.append(protocols[1] + " (LEAKY)" * first.leaky)
        names = ("control", "pre-trained")
    return figures.Paired(
        title=title,
        names=names,
        scores=pair.scores[["second", "first"]].to_numpy(np.float64),
        interval=pair.test.interval,
        words=[difference, people],
        chance=_chance(first, metric),
        leaky=(second.leaky, first.leaky),
    )


def _pairs_rows(table: pd.DataFrame) -> _Table:
    shown = _compared_columns(table)
    rows = [
        [row["row"], row["other"], row["protocol"].partition(" (")[0], *_compared(row, shown)]
        for _, row in table.iterrows()
    ]
    return _Table(["pre-trained", "less its control", "protocol", *shown], shown, rows)


def _chance(result: Result, metric: str) -> float | None:
    """Return what guessing all classes alike often scores."""
    return 1 / len(result.classes) if metric in ("accuracy", "balanced_accuracy") else None


def _side(entries: Sequence[Entry], metric: str) -> figures.Side:
    rows = []
    for entry in entries:
        subjects = by_subject(entry.results)
        rows.append(
            figures.Dots(
                entry.name,
                subjects[metric].to_numpy(np.float64),
                interval_of(entry.results, metric),
                float(subjects[f"majority_{metric}"].mean()),
                _paper(entry, metric),
            )
        )
    return figures.Side(entries[0].first.label, entries[0].first.leaky, rows)


def _paper(entry: Entry, metric: str) -> float | None:
    """Return what the paper states of recordings of people; simulated ones are none."""
    stated = metric == "accuracy" and not _simulated(entry)
    return entry.paper / 100 if stated and entry.paper is not None else None


def _in_short(entries: Sequence[Entry], metric: str, best: float | None) -> str:
    """Say what the first row scored, beside all that it has to be read against."""
    first = entries[0]
    subjects = by_subject(first.results)
    low, high = interval_of(first.results, metric)
    chance = _chance(first.first, metric)
    interval = f" (95 % {_interval(low, high)})" if np.isfinite(low) else ""
    beside = [f"{_percent(float(subjects[f'majority_{metric}'].mean()))} by the majority class"]
    beside += [f"{_percent(chance)} by guessing"] if chance is not None else []
    beside += [f"{_percent(best)} at best, as the simulation knows"] if best is not None else []
    return (
        f"Under {first.first.label.partition(' (')[0]}, {first.name} has {_words(metric)} "
        f"{_percent(float(subjects[metric].mean()))} %{interval}, against {', '.join(beside)}."
    )


def _comparison(entries: Sequence[Entry], own: pd.DataFrame, metric: str) -> _Comparison:
    first = entries[0].first
    shown = entries[:MOST_CONFUSIONS]
    people, n_left = _people(entries, metric)
    return _Comparison(
        label=first.label,
        protocol=first.label.partition(" (")[0],
        leaky=first.leaky,
        confusions=_confusions(shown),
        n_confusions=len(shown),
        n_left=len(entries) - len(shown),
        scores=_scores(entries, own, metric),
        differences=_differences(entries, own, metric),
        people=people,
        n_people_left=n_left,
        notes=_notes(own),
        inflation=_inflation(own),
        calibration=_calibration(entries),
    )


def _whitened(entry: Entry) -> bool:
    return bool(entry.first.config["dataset"].get("whitened", False))


def _simulated(entry: Entry) -> bool:
    return bool(entry.first.config["dataset"].get("simulated", False))


def _grouped(items: Iterable[Item], key: Callable[[Item], Any]) -> dict[Any, list[Item]]:
    groups: dict[Any, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _words(metric: str) -> str:
    return metric.replace("_", " ").replace("macro f1", "macro-F1")


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


def _scores(entries: Sequence[Entry], own: pd.DataFrame, metric: str) -> _Table:
    """Return what each entry scored.

    What is tested stands in a table of its own: both as one are cut off by screens and paper.
    """
    other = "balanced_accuracy" if metric == "accuracy" else "accuracy"
    beside = [by_subject(entry.results)[other].mean() for entry in entries]
    stated = [_paper(entry, metric) for entry in entries]
    words = [entry.paper_words if not _simulated(entry) else "" for entry in entries]
    papers = metric == "accuracy" and (any(words) or any(value is not None for value in stated))
    numbers = [_words(metric), "95 %", "per trial", "majority", _words(other)]
    numbers += ["paper"] if papers else []
    rows = []
    for (_, row), also, paper, said in zip(own.iterrows(), beside, stated, words, strict=True):
        cells = [
            row["row"],
            _percent(row["mean"]),
            _interval(row["low"], row["high"]),
            _percent(row["per_trial"]),
            _percent(row["majority"]),
            _percent(also),
        ]
        if papers:
            cells.append(said if paper is None else _percent(paper, digits=2))
        rows.append([*cells, _pretraining(row), str(row["seeds"])])
    return _Table(["model", *numbers, "pre-training", "seeds"], numbers, rows)


def _differences(entries: Sequence[Entry], own: pd.DataFrame, metric: str) -> _Table:
    """Return what is tested: each entry less the first."""
    tested = own[own["difference"].notna()]
    simulated = _simulated(entries[0])
    papers = metric == "accuracy" and not simulated and own["paper_difference"].notna().any()
    shown = _compared_columns(tested)
    numbers = [*shown, *(["paper"] if papers else [])]
    rows = []
    for _, row in tested.iterrows():
        cells = [row["row"], *_compared(row, shown)]
        cells += [_percent(row["paper_difference"], signed=True, digits=2)] if papers else []
        rows.append(cells)
    return _Table([f"less {entries[0].name}", *numbers], numbers, rows)


def _people(entries: Sequence[Entry], metric: str) -> tuple[_Table, int]:
    """Return the score of each subject, and how many subjects there is no room for."""
    of = [by_subject(entry.results)[metric] for entry in entries]
    index = of[0].index
    shown = index[:MOST_PEOPLE]
    several = index.get_level_values("dataset").nunique() > 1
    names = ["/".join(key) if several else key[-1] for key in shown]
    rows = [
        [entry.name, *(_percent(scores.get(key, np.nan)) for key in shown)]
        for entry, scores in zip(entries, of, strict=True)
    ]
    return _Table(["model", *names], names, rows), len(index) - len(shown)


def _calibration(entries: Sequence[Entry]) -> list[list[str]]:
    """Return log loss, Brier score, calibration error and area, averaged over the seeds."""
    rows = []
    for entry in entries:
        of: dict[Any, Any] = calibration_table([entry]).set_index("metric").to_dict("index")
        if not of:
            continue
        means = [
            # Of a person there are too few windows for the bins of the calibration error.
            float(of[metric]["pooled" if metric == "calibration_error" else "mean"])
            for metric in PROBABILITY_METRICS
        ]
        rows.append([entry.name, *("" if np.isnan(m) else f"{m:.3f}" for m in means)])
    return rows


_COMPARED = ("difference", "95 %", "p", "p, Holm", "effect", "detectable")
"""The columns of a comparison."""

_OF_A_TEST = ("p", "p, Holm", "detectable")
"""Those that only a test has, which takes as many people as ``least_p_in_words`` says."""


def _compared_columns(tested: pd.DataFrame, prefix: str = "") -> list[str]:
    """Return the columns that hold anything: of few people there is no p."""
    no_test = not tested[f"{prefix}p"].notna().any()
    return [name for name in _COMPARED if not (no_test and name in _OF_A_TEST)]


def _compared(row: pd.Series[Any], shown: Sequence[str], prefix: str = "") -> list[str]:
    """Return the cells of a comparison."""
    of = {name: row[f"{prefix}{name}"] for name in COMPARED}
    cells = {
        "difference": _percent(of["difference"], signed=True),
        "95 %": _interval(of["difference_low"], of["difference_high"], signed=True),
        "p": _p(of["p"]),
        "p, Holm": _p(of["p_holm"]),
        "effect": f"{of['effect']:+.2f}".replace("-", "\N{MINUS SIGN}"),
        "detectable": _percent(of["detectable"]) or "–",
    }
    return [cells[name] for name in shown]


def _p(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2g}"


def _p_notes(tested: int, n_subjects: Iterable[int]) -> list[str]:
    """Say what p of so many comparisons can be; nothing where there is none."""
    if not tested:
        return []
    people = sorted({int(n) for n in n_subjects})
    together = f"{tested} comparisons, corrected together" if tested > 1 else "One comparison"
    return [f"{together}; {'; '.join(map(least_p_in_words, people))}."]


def _notes(own: pd.DataFrame) -> list[str]:
    """Say what p can be here, and what the intervals do not cover."""
    notes = _p_notes(int(own["difference"].notna().sum()), own["n_subjects"])
    if (own["n_pretraining_seeds"] == 1).any():
        notes.append(
            "Of one pre-training seed nobody knows how much another would change: the interval is "
            "of people alone."
        )
    return notes


def _inflation(own: pd.DataFrame) -> _Table:
    rows = own[own["inflation_over"] != ""]
    shown = _compared_columns(rows, "inflation_")
    cells = [
        [
            row["row"],
            *_compared(row, shown, "inflation_"),
            row["inflation_over"].partition(" (")[0],
        ]
        for _, row in rows.iterrows()
    ]
    return _Table(["LEAKY less honest", *shown, "honest"], shown, cells)


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


PRETRAINING = "pretraining"
"""What ``curves_table`` is called among the tables of a report."""


def curves(runs: Mapping[str, pd.DataFrame], file: str = "") -> Markup:
    """Return the learning curves of pre-trainings, as HTML; empty where there is none.

    Parameters
    ----------
    runs : mapping of str to DataFrame
        By name, ``omfa.zoo.learning_curve`` of each.
    file : str
        The CSV file beside the page that holds ``curves_table`` of them.
    """
    if not runs:
        return Markup()
    return _part("pretraining", png=figures.pretraining_curves(runs), file=file)


def curves_table(runs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Put learning curves in one table: a row for each run and logged step."""
    parts = [table.reset_index().assign(run=name) for name, table in runs.items()]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"run": []})
    return table[["run", *(name for name in table.columns if name != "run")]]


def history(name: str, table: pd.DataFrame, file: str = "") -> Markup:
    """Return the learning curve of a fine-tuning, as HTML; dotted is the epoch that was chosen.

    Parameters
    ----------
    name : str
    table : DataFrame
        ``history.csv`` of the run.
    file : str
        That file, as seen from the page's folder.
    """
    png = figures.fine_tuning_curves(table, name)
    chosen = "validation_loss" in table
    return _part("fine_tuning", png=png, name=name, chosen=chosen, file=file)


def attention(name: str, table: pd.DataFrame, file: str = "") -> Markup:
    """Return a map of the scalp, as HTML.

    Parameters
    ----------
    name : str
    table : DataFrame
        Columns ``channel`` (UCS names) and ``attention`` (1 is an even share).
    file : str
        The CSV file that holds it, as seen from the page's folder.
    """
    channels, received = table["channel"].tolist(), table["attention"].to_numpy(np.float64)
    # At least from 0 to 2, with the even share in the middle: even attention looks even.
    scale = 0.0, max(2.0, float(received.max()))
    shown = Discs("attention received (1: an even share)", received, scale, "viridis")
    ordered = table.sort_values("attention", ascending=False).head(5)
    most = [
        f"{channel} {value:.2f}"
        for channel, value in zip(ordered["channel"], ordered["attention"], strict=True)
    ]
    return _part(
        "attention",
        png=named(channels, shown, UCS.positions(channels)),
        name=name,
        most=most,
        file=file,
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
    truths: Sequence[Truth] = (),
    tables: Mapping[str, pd.DataFrame] | None = None,
    prefix: str | None = None,
) -> Path:
    """Write one self-contained HTML file about results, and its tables as CSV files beside it.

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
    truths : sequence of Truth, optional
        Of simulated corpora: the best score that their windows allow is drawn as a line.
    tables : mapping of str to DataFrame, optional
        What to write in place of the report's own tables: ``summary`` (``summary_table``),
        ``subjects`` (``scores_table``), ``pairs`` and ``calibration``; or beside them.
    prefix : str, optional
        What the names of the CSV files begin with; by default that of the page: of
        ``results.html`` they are ``results-summary.csv`` and so on.

    Returns
    -------
    Path
        The page, which names the CSV files as links that hold as long as they lie beside it.

    Raises
    ------
    DataError
        If the file cannot be written.
    """
    out = Path(out)
    page.check_writable(out)
    by_table = _grouped(entries, lambda entry: entry.table)
    sections = {
        f"table-{i}": ((titles or {}).get(name, name), _datasets(own, metric, truths))
        for i, (name, own) in enumerate(by_table.items(), 1)
    }
    written = _csv(entries, metric, tables or {})
    files = {
        name: page.beside(out, name) if prefix is None else f"{prefix}{name}.csv"
        for name in written
    }
    closing = {anchor: part for anchor, part in (closing or {}).items() if part[1]}
    simulated = [entry for entry in entries if _simulated(entry)]
    values = {
        "title": title,
        "sections": {anchor: heading for anchor, (heading, _) in (sections | closing).items()}
        | ({"methods": "Methods"} if entries else {}),
        "whitened": sorted(
            {d for e in entries if _whitened(e) for d in e.first.config["dataset"]["datasets"]}
        ),
        "simulated": sorted({d for e in simulated for d in e.first.config["dataset"]["datasets"]}),
        "leaky": any(entry.first.leaky for entry in entries),
        "starred": any(_paper(entry, metric) is not None for entry in entries),
        "known_best": any(ceiling(e.first, metric, truths) is not None for e in entries),
        "tested": any(len(by_subject(e.results)) >= LEAST_SUBJECTS for e in entries),
        "metric": _words(metric),
        "tables": sections,
        "files": files,
        "for_a_paper": methods(entries, _words(metric)) if entries else None,
        "opening": opening,
        "closing": closing,
    }
    # The page comes last: it names the others.
    page.write_beside(
        out,
        {
            files[name]: table.to_csv(index=False, lineterminator="\n")
            for name, table in written.items()
        },
    )
    page.write(out, "results.html", values, folders=[TEMPLATES])
    return out


def _csv(
    entries: Sequence[Entry], metric: str, given: Mapping[str, pd.DataFrame]
) -> dict[str, pd.DataFrame]:
    """Return the tables of a report by name; of no results only those that are given."""
    if not entries:
        return dict(given)
    places = _grouped(entries, lambda entry: entry.place[:2])
    own = {
        "summary": lambda: summary_table(entries),
        "subjects": lambda: scores_table(entries),
        "pairs": lambda: pairs_table(
            [pair for one in places.values() for pair in pairs(one, metric)]
        ),
        "calibration": lambda: calibration_table(entries),
    }
    return {name: make() for name, make in own.items() if name not in given} | dict(given)


def _datasets(entries: Sequence[Entry], metric: str, truths: Sequence[Truth]) -> list[_Dataset]:
    by_data = _grouped(entries, lambda entry: entry.first.data)
    return [_dataset(own, metric, truths) for own in by_data.values()]
